#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <vector>

#include "common/base/commit_gate.h"
#include "common/base/wakeful_clock.h"
#include "common/protocol/session_hub.h"
#include "test/sim/plan.h"

namespace nanduti::sim {

inline constexpr int kFirstWorkerNode = 1000;

/// A simulated process: a core under its session hub, with a clock of its own. What the core asks of the
/// world beyond messages is the derived class's affair.
class Host {
 public:
  /// `life`: how many processes have had this number before.
  Host(int number, std::uint32_t destination, const Plan& plan, std::uint64_t life = 0)
      : node(number),
        hub(destination, number < kFirstWorkerNode ? plan.session : plan.worker_session,
            RandomStream(plan.network_seed, 1000 + static_cast<std::uint64_t>(number) + life * 1000000)),
        rate_(1.0 + plan.drift * RandomStream(plan.network_seed, 20000 + static_cast<std::uint64_t>(number))
                                     .uniform(-1, 1)) {}
  virtual ~Host() = default;

  virtual void on_session_event(ProtocolTime now, SessionEvent event) = 0;
  virtual void on_core_deadline(ProtocolTime now) = 0;
  [[nodiscard]] virtual ProtocolTime core_deadline() const = 0;
  /// Carries out the core's actions; false if there were none.
  virtual bool act(ProtocolTime now) = 0;

  /// The process's own time at this moment of the world's.
  ProtocolTime now(ProtocolTime world) { return clock_.now(steady(world)); }
  [[nodiscard]] ProtocolTime deadline() const { return std::min(core_deadline(), hub.next_deadline()); }
  /// Asks to be woken at deadline(); the moment of the world's time, or kNever.
  ProtocolTime set_deadline() {
    clock_.set_deadline(deadline());
    if (clock_.deadline() == kNever) return kNever;
    const Duration since = clock_.steady_at(clock_.deadline()) - kBeginning.time_since_epoch();
    return kBeginning + Duration(static_cast<std::int64_t>(static_cast<double>(since.count()) / rate_) + 1);
  }

  const int node;
  SessionHub hub;
  bool gone = false;
  int overdue = 0;                            // wake-ups in a row that did not move the deadline
  ProtocolTime woken_at = kNever;             // the earliest wake-up under way
  ProtocolTime stopped_until{};               // by a pause
  std::deque<std::function<void()>> backlog;  // what has come to a stopped process

 private:
  [[nodiscard]] Duration steady(ProtocolTime world) const {
    return kBeginning.time_since_epoch() +
           Duration(static_cast<std::int64_t>(static_cast<double>((world - kBeginning).count()) * rate_));
  }

  double rate_;
  WakefulClock clock_;
};

class Simulation;

template <class Core>
class CoreHost : public Host {
 public:
  CoreHost(Simulation& owner, int number, std::uint32_t destination, const Plan& plan, Core made,
           std::uint64_t life = 0)
      : Host(number, destination, plan, life), core(std::move(made)), simulation(owner) {}

  void on_session_event(ProtocolTime now, SessionEvent event) override {
    if (holds_up(event)) return;
    if (const auto* closed = std::get_if<PeerClosed>(&event))
      gate_.drop_if([&](const typename Core::Action& action) {
        const auto* send = std::get_if<SendMessage>(&action);
        return send != nullptr && send->peer == closed->peer;
      });
    std::visit([&](auto& e) { give(now, std::move(e)); }, event);
  }
  void on_core_deadline(ProtocolTime now) override {
    if (core.next_deadline() > now) return;
    if constexpr (requires { core.set_traffic({}); }) {
      const auto seconds = [](Duration span) { return std::chrono::duration<double>(span).count(); };
      core.set_traffic({hub.counters().bytes_acked, hub.counters().bytes_received,
                        seconds(hub.round_trip(PeerId(0))), seconds(hub.round_trip_deviation(PeerId(0))),
                        hub.path_bytes_per_second()});
    }
    if constexpr (requires { core.shard_peers(); })
      for (const PeerId peer : core.shard_peers()) core.set_last_heard(peer, hub.last_heard(peer));
    core.on_deadline(now);
    observe();
  }
  [[nodiscard]] ProtocolTime core_deadline() const override { return core.next_deadline(); }
  bool act(ProtocolTime now) override;

  template <class Event>
  void give(ProtocolTime now, Event event);
  /// So many of the core's records are durable.
  void on_durable(std::uint64_t records);

  Core core;

 private:
  /// What is held up is given later.
  bool holds_up(const SessionEvent& event);
  /// Collects the actions and lets the checkers see them and the core.
  void observe();
  Simulation& simulation;
  std::vector<typename Core::Action> actions_;
  CommitGate<typename Core::Action> gate_;
};

}  // namespace nanduti::sim
