#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/commit_gate.h"
#include "common/base/log.h"
#include "common/base/named_count.h"
#include "common/net/bounded_queue.h"
#include "common/net/dial_watch.h"
#include "common/net/event_loop.h"
#include "common/net/zmq_transport.h"
#include "common/protocol/session_hub.h"

namespace nanduti {

/// Frames that wait for a core that is busy; beyond either they are dropped, as if the network had lost them,
/// and counted.
inline constexpr std::size_t kMailboxFramesMax = 16384;
inline constexpr std::size_t kMailboxBytesMax = std::size_t{256} << 20;
/// What is to be durable is waited for so long: a disk may be full.
inline constexpr std::chrono::seconds kDurableWithin{10};

/// Runs a core in a daemon: a thread of its own with the core and its SessionHub, fed with frames from the
/// transport, with time, and with events that the host posts. What the core asks of its sessions goes to the
/// hub, its notes to the log, every other action to the host. Of a core that writes records
/// (Core::AppendLog), what comes after one, or after Core::StateChanged, waits until the host says that it is
/// durable.
template <class Core>
class CoreRunner {
 public:
  using Event = typename Core::Event;
  using Action = typename Core::Action;
  /// Runs on the core's thread; slow work belongs elsewhere, its end is posted.
  using Host = std::function<void(const Action&)>;

  CoreRunner(const std::string& name, ZmqTransport& transport, std::uint32_t destination,
             const SessionOptions& options, RandomStream random, Core core)
      : loop_(name),
        transport_(transport),
        destination_(destination),
        hub_(destination, options, random),
        core_(std::move(core)) {}
  ~CoreRunner() { stop(); }
  CoreRunner(const CoreRunner&) = delete;
  CoreRunner& operator=(const CoreRunner&) = delete;

  void start(Host host) {
    host_ = std::move(host);
    transport_.attach(destination_, [this](RouteId route, Frame frame, std::size_t bytes) {
      take_frame(route, std::move(frame), bytes);
    });
    loop_.start([this] { on_deadline(); });
    loop_.post([this] { turn(loop_.now()); });
  }

  /// Not from the core's thread. Calls of run() that wait return false.
  void stop() {
    transport_.detach(destination_);
    loop_.stop();
    const std::lock_guard lock(calls_mutex_);
    stopped_ = true;
    calls_done_.notify_all();
  }

  /// Any thread. The event is dropped if `unless` is stopped by the time its turn has come.
  void post(Event event, std::stop_token unless = {}) {
    loop_.post([this, event = std::move(event), unless = std::move(unless)] {
      if (unless.stop_requested()) return;
      const ProtocolTime now = loop_.now();
      core_.on_event(now, event);
      turn(now);
    });
  }

  /// Any thread. So many of the core's records are durable, of all since the beginning.
  void on_durable(std::uint64_t records) {
    loop_.post([this, records] {
      const ProtocolTime now = loop_.now();
      for (const Action& action : gate_.on_durable(records))
        std::visit([&](const auto& a) { carry_out(now, a, action); }, action);
      if constexpr (requires { core_.on_durable(records); }) core_.on_durable(records);
      finish_calls(records);
      turn(now);
    });
  }

  /// Runs `work(core, now)` on the core's thread and waits for it; false if the runner has stopped instead.
  /// Not from the core's thread.
  bool run(std::function<void(Core&, ProtocolTime)> work) {
    const std::shared_ptr<Call> call = begin_call(std::move(work));
    const std::lock_guard lock(calls_mutex_);
    return call->has_run;
  }

  /// As run(), and waits until nothing that `work` has done can be forgotten. Empty if the runner has stopped
  /// instead; false if it can be still, after kDurableWithin.
  std::optional<bool> run_durably(std::function<void(Core&, ProtocolTime)> work) {
    const std::shared_ptr<Call> call = begin_call(std::move(work));
    std::unique_lock lock(calls_mutex_);
    calls_done_.wait_for(lock, kDurableWithin, [&] { return call->is_durable || stopped_; });
    if (call->is_durable) return true;
    return stopped_ ? std::nullopt : std::optional(false);
  }

  /// What the mailbox has dropped, what the hub counts, and what the core counts where it does. As run();
  /// also after stop().
  std::vector<NamedCount> counters() {
    std::vector<NamedCount> all;
    const auto read = [&](const Core& core, ProtocolTime) {
      const Mailbox::Counters mailbox = mailbox_.counters();
      all = {{"mailbox_dropped_frames", mailbox.dropped}, {"mailbox_dropped_bytes", mailbox.dropped_bytes}};
      const auto add = [&](const std::vector<NamedCount>& more) {
        all.insert(all.end(), more.begin(), more.end());
      };
      add(hub_.counters().named());
      if constexpr (requires { core.counters().named(); }) add(core.counters().named());
    };
    if (!run(read)) read(core_, ProtocolTime());
    return all;
  }

  /// Core's thread, or before start().
  void set_admission(const std::optional<Admission>& admission) { hub_.set_admission(admission); }
  // Core's thread.
  [[nodiscard]] ProtocolTime now() { return loop_.now(); }
  [[nodiscard]] Core& core() { return core_; }

 private:
  using Mailbox = BoundedQueue<std::pair<RouteId, Frame>>;

  void take_frame(RouteId route, Frame frame, std::size_t bytes) {
    if (mailbox_.push({route, std::move(frame)}, bytes) == Mailbox::Pushed::kFirst)
      loop_.post([this] { drain_mailbox(); });
  }

  void drain_mailbox() {
    const std::vector<std::pair<RouteId, Frame>> frames = mailbox_.take();
    const ProtocolTime now = loop_.now();
    for (const auto& [route, frame] : frames) hub_.on_frame(now, route, frame);
    turn(now);
  }

  void on_deadline() {
    const ProtocolTime now = loop_.now();
    if (hub_.next_deadline() <= now) hub_.on_deadline(now);
    count_traffic();
    if constexpr (requires { core_.shard_peers(); })
      for (const PeerId peer : core_.shard_peers()) core_.set_last_heard(peer, hub_.last_heard(peer));
    if (core_.next_deadline() <= now) core_.on_deadline(now);
    watch_.on_deadline(now);
    turn(now);
  }

  struct Call {  // with calls_mutex_
    bool has_run = false;
    bool is_durable = false;
  };

  /// Waits until the work has been done, or the runner has stopped.
  std::shared_ptr<Call> begin_call(std::function<void(Core&, ProtocolTime)> work) {
    auto call = std::make_shared<Call>();
    loop_.post([this, call, work = std::move(work)] {
      const ProtocolTime now = loop_.now();
      work(core_, now);
      turn(now);
      const bool is_durable = gate_.needed() <= gate_.durable();
      if (!is_durable) waiting_calls_.emplace_back(gate_.needed(), call);
      const std::lock_guard lock(calls_mutex_);
      call->has_run = true;
      call->is_durable = is_durable;
      calls_done_.notify_all();
    });
    std::unique_lock lock(calls_mutex_);
    calls_done_.wait(lock, [&] { return call->has_run || stopped_; });
    return call;
  }

  void finish_calls(std::uint64_t records) {
    const std::lock_guard lock(calls_mutex_);
    for (; !waiting_calls_.empty() && waiting_calls_.front().first <= records; waiting_calls_.pop_front())
      waiting_calls_.front().second->is_durable = true;
    calls_done_.notify_all();
  }

  /// Carries everything from hub to core to hub until nothing moves, then to the transport.
  void turn(ProtocolTime now) {
    act(now);
    for (auto events = hub_.take_events(); !events.empty(); events = hub_.take_events()) {
      for (SessionEvent& event : events) {
        watch(now, event);
        if (const auto* closed = std::get_if<PeerClosed>(&event)) drop_held_for(closed->peer);
        count_traffic();
        std::visit([&](auto& e) { core_.on_event(now, std::move(e)); }, event);
        act(now);
      }
    }
    watch_.look(now, [this](PeerId peer) { return hub_.last_heard(peer); });
    transport_.submit(destination_, hub_.take_requests());
    loop_.set_deadline(std::min({hub_.next_deadline(), core_.next_deadline(), watch_.next_deadline()}));
  }

  void count_traffic() {
    if constexpr (requires { core_.set_traffic({}); }) {
      const SessionHub::Counters& counters = hub_.counters();
      const auto seconds = [](Duration span) { return std::chrono::duration<double>(span).count(); };
      core_.set_traffic({counters.bytes_acked, counters.bytes_received, seconds(hub_.round_trip(PeerId(0))),
                         seconds(hub_.round_trip_deviation(PeerId(0))), hub_.path_bytes_per_second()});
    }
  }

  /// After every event: the answers to one have a bound, and the hub counts them against its own; those to a
  /// mailbox full of events would have none.
  void act(ProtocolTime now) {
    for (auto actions = core_.take_actions(); !actions.empty(); actions = core_.take_actions())
      for (const Action& action : actions)
        if (may_pass(action)) std::visit([&](const auto& a) { carry_out(now, a, action); }, action);
  }

  bool may_pass(const Action& action) {
    if constexpr (requires { Core::is_storage_work(action); }) {
      if (std::holds_alternative<typename Core::AppendLog>(action)) gate_.on_appended();
      if constexpr (requires { typename Core::StateChanged; })
        if (std::holds_alternative<typename Core::StateChanged>(action)) gate_.on_owed();
      if (Core::is_storage_work(action)) return true;
    }
    return gate_.pass(action);
  }

  /// Its next session must not begin with what was meant for this one.
  void drop_held_for(PeerId peer) {
    gate_.drop_if([&](const Action& action) {
      const auto* send = std::get_if<SendMessage>(&action);
      return send != nullptr && send->peer == peer;
    });
  }

  void carry_out(ProtocolTime now, const SendMessage& send, const Action&) { hub_.send(now, send); }
  void carry_out(ProtocolTime now, const OpenPeer& open, const Action&) {
    watch_.dialling(now, open.peer, open.endpoint);
    hub_.open(now, open);
  }
  void carry_out(ProtocolTime now, const ClosePeer& close, const Action&) {
    watch_.closed(close.peer);
    hub_.close(now, close);
  }
  void carry_out(ProtocolTime, const typename Core::Note& note, const Action&) {
    write_log(note.warning ? LogLevel::kWarning : LogLevel::kInfo, note.text);
  }
  template <class Other>
  void carry_out(ProtocolTime, const Other&, const Action& action) {
    host_(action);
  }

  void watch(ProtocolTime now, const SessionEvent& event) {
    if (const auto* connected = std::get_if<PeerConnected>(&event)) watch_.connected(connected->peer);
    if (const auto* closed = std::get_if<PeerClosed>(&event))
      closed->redialling ? watch_.lost(now, closed->peer) : watch_.closed(closed->peer);
  }

  EventLoop loop_;
  ZmqTransport& transport_;
  std::uint32_t destination_;
  Host host_;

  Mailbox mailbox_{{kMailboxFramesMax, kMailboxBytesMax}};
  std::mutex calls_mutex_;  // the next one, and what run() waits for
  bool stopped_ = false;
  std::condition_variable calls_done_;

  // The core's thread.
  SessionHub hub_;
  DialWatch watch_;
  CommitGate<Action> gate_;
  std::deque<std::pair<std::uint64_t, std::shared_ptr<Call>>> waiting_calls_;  // for so many records
  Core core_;
};

}  // namespace nanduti
