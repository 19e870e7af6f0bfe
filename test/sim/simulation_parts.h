#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/coordinator/coordinator_core.h"
#include "server/shard/shard_core.h"
#include "test/sim/checker.h"
#include "test/sim/host.h"
#include "test/sim/ledger_checker.h"
#include "test/sim/membership_checker.h"
#include "test/sim/network.h"
#include "test/sim/simulation.h"
#include "test/sim/trace.h"
#include "test/sim/verdict_checker.h"
#include "test/support/replica_host.h"
#include "worker/client/client_core.h"

/// What simulation_*.cc share: one plan being played. simulation.h is the way in.
namespace nanduti::sim {

inline constexpr JobId kJob{2};           // the one that counts
inline constexpr JobId kCancelledJob{1};  // before it, in some plans

using CoordinatorHost = CoreHost<CoordinatorCore>;
using ShardHost = CoreHost<ShardCore>;
using WorkerHost = CoreHost<ClientCore>;

inline std::string shown(Duration duration) {
  return fmt::format("{:.3f} s", std::chrono::duration<double>(duration).count());
}

/// The storage of a shard or of the coordinator: it outlives their processes. What has come while entries are
/// written is written next, in one go.
struct Disk {
  struct Snapshot {
    std::size_t entries = 0;  // that it holds
    std::uint64_t parts = 0;
    RecoveredShard::Snapshot content;
  };
  std::uint64_t life = 0;  // of the process that writes
  bool busy = false;
  std::vector<SharedBytes> entries;  // of the log, all of the job's
  std::deque<SharedBytes> writing;   // after these, as they were handed on
  std::uint64_t written = 0;         // by this process, all jobs
  std::optional<Snapshot> snapshot;
  std::optional<Snapshot> being_written;
};

/// The worker process of a place, if one runs.
struct Place {
  std::shared_ptr<WorkerHost> host;
  ReplicaHost replica;
  bool replica_busy = false;
  ProtocolTime computes_until{};  // rounds and evaluations, one after the other
  std::uint64_t life = 0;         // of the job there; completions of an earlier one are void
  bool started_before = false;
  bool draining = false;
};

/// A coordinator that is to crash has storage.
inline Plan with_durability(Plan plan) {
  for (const ServerCrash& crash : plan.crashes)
    if (crash.target.kind == Target::Kind::kCoordinator) plan.coordinator.durable = true;
  return plan;
}

/// Plays one plan. Its parts are by topic: simulation.cc plays, simulation_hosts.cc runs processes,
/// simulation_faults.cc disturbs them, simulation_work.cc does their slow work, simulation_watch.cc looks.
class Simulation {
 public:
  Simulation(const Plan& plan, bool print_trace)
      : plan_(with_durability(plan)),
        events_(kBeginning),
        trace_(print_trace),
        checkers_{{kCancelledJob, Checker(plan_, coverage_)}, {kJob, Checker(plan_, coverage_)}},
        ledgers_{{kCancelledJob, LedgerChecker(plan_)}, {kJob, LedgerChecker(plan_)}},
        members_(plan_, coverage_),
        verdicts_(plan_, members_, coverage_),
        random_(plan.network_seed, 3),
        network_(plan_, events_, coverage_,
                 [this](int node, RouteId route, const Frame& frame, bool up) {
                   on_frame(node, route, frame, up);
                 }),
        places_(plan.places.size()) {}

  ~Simulation() {
    for (const auto& [node, host] : hosts_) host->backlog.clear();  // they hold their hosts
  }

  Outcome run();

  // ---- what hosts ask for ----

  void before(ShardHost& host, const MessageReceived& event);
  void before(CoordinatorHost& host, const MessageReceived& event);
  void before(CoordinatorHost&, const PeerClosed& event) { verdicts_.on_closed(event.peer); }
  void before(WorkerHost& host, const MessageReceived& event);
  template <class AnyHost, class Event>
  void before(AnyHost&, const Event&) {}

  bool holds_up(ShardHost& host, const SessionEvent& event);
  template <class AnyHost>
  bool holds_up(AnyHost&, const SessionEvent&) {
    return false;
  }

  void observe(CoordinatorHost& host, const std::vector<CoordinatorCore::Action>& actions);
  /// What the coordinator says is final: where it may forget, once it has left.
  void on_said(CoordinatorHost& host, const SendMessage& send);
  void look_at_tunings(const CoordinatorHost& host);
  void observe(ShardHost& host, const std::vector<ShardCore::Action>& actions);
  void observe(WorkerHost& host, const std::vector<ClientCore::Action>& actions);

  void note_event(const Host& host, const char* what, std::string_view name, std::uint64_t first,
                  std::uint64_t second = 0);

  void note_received(const Host& host, const MessageReceived& event);

  void act(Host& host, const SendMessage& send);
  void act(Host& host, const OpenPeer& open) { host.hub.open(now(host), open); }
  void act(Host& host, const ClosePeer& close);
  void act(Host& host, const ShardCore::Admit& admit) { host.hub.set_admission(admit.admission); }
  void act(Host& host, const ShardCore::Note& note) { pass_on(host, note.text); }
  void act(Host& host, const ClientCore::Note& note) { pass_on(host, note.text); }
  void act(Host& host, const CoordinatorCore::Note& note) { pass_on(host, note.text); }
  void pass_on(const Host& host, const std::string& text);

  /// A line of the story.
  template <class... Args>
  void tell(fmt::format_string<Args...> format, Args&&... args) {
    trace_.tell(events_.now(), fmt::format(format, std::forward<Args>(args)...));
  }
  [[nodiscard]] std::string name_of(const Host& host) const;

  // ---- slow work ----

  template <class AnyHost>
  void act(AnyHost& host, const AppendLog& append);
  template <class AnyHost>
  void act(AnyHost& host, const BeginSnapshot& snapshot);
  void act(ShardHost& host, const DropLog&);
  void act(ShardHost& host, const ShardCore::SnapshotPart& part);
  void act(CoordinatorHost&, const CoordinatorCore::StateChanged&) {}
  void act(ShardHost& host, const ShardCore::LoadShard& load);
  void act(CoordinatorHost& host, const CoordinatorCore::PlanModel& plan);
  void act(CoordinatorHost&, const CoordinatorCore::SaveCheckpoint& save);
  void act(CoordinatorHost& host, const CoordinatorCore::SaveResult& save);
  void act(CoordinatorHost& host, const CoordinatorCore::JobChanged& changed);
  void act(WorkerHost& host, const ClientCore::LoadJob& load);
  void act(WorkerHost& host, const ClientCore::OpenReplica& open) { feed_replica(host, open); }
  void act(WorkerHost& host, const ClientCore::ReplicaWork& event) { feed_replica(host, event); }
  void act(WorkerHost&, const ClientCore::WorkExpected&) {}
  void act(WorkerHost& host, const ClientCore::EvaluateCut& cut);
  void act(WorkerHost& host, const ClientCore::UnloadJob&) { unload(place_of(host)); }
  void act(WorkerHost& host, const ClientCore::Stopped& stopped);

 private:
  void play();

  void check_evaluated(const TestFigures& figures);
  void submit();
  void cancel();

  [[nodiscard]] JobState job_state() const;

  // ---- faults ----

  void happen(const Happening& happening);

  void tune(const TuningPlan& tuning);

  void start(std::size_t at);

  /// The process is gone with all its state.
  void end(Host& host);

  void crash(const ServerCrash& crash);
  /// Where the coordinator is one that crashes, it may do so while it waits for what it has just asked for.
  void may_crash_soon(double chance);
  /// Of what was being written the beginning may be there, whole entries as far as anybody can tell: so many
  /// are left of those that its process has written.
  std::uint64_t tear(Disk& disk);
  /// A process with what its storage holds.
  void start_coordinator();
  /// A process for shard `k`, with what its storage holds.
  void start_shard(std::uint32_t k);
  [[nodiscard]] ShardOptions shard_options(std::uint32_t k) const;
  [[nodiscard]] ShardStart shard_start(const OpenShard& request);
  [[nodiscard]] Duration write_time() {
    if (plan_.write == Duration(0)) return Duration(0);
    return Duration(static_cast<std::int64_t>(random_.uniform() * static_cast<double>(plan_.write.count())));
  }
  template <class AnyHost>
  void write_entries(AnyHost& host);
  template <class AnyHost>
  void end_snapshot(AnyHost& host);

  /// From now on all is well, and as many workers as the job wants are there to do the rest.
  void heal();

  /// Looks at who is in which state, once a second.
  void audit();

  [[nodiscard]] std::string members_text(const Membership& membership) const;

  // ---- hosts ----

  void add(const std::shared_ptr<Host>& host, std::optional<std::size_t> place);

  void on_frame(int node, RouteId route, const Frame& frame, bool up);

  /// Does something to a process: now, or once it is no longer stopped.
  void on_host(const std::shared_ptr<Host>& host, std::function<void()> what);

  void pause(const Pause& pause);

  void resume(const std::shared_ptr<Host>& host);

  [[nodiscard]] std::vector<std::shared_ptr<Host>> hosts_of(const Target& target) const;

  void note_lost(const Host& host, const SessionEvent& event);

  /// P7: what waits for a peer stays within its maximum, whatever else the same turn brings.
  void check_queue(const Host& host, PeerId peer) const;

  /// What a process has counted until its end.
  void count_host(const Host& host);

  void wake(const std::shared_ptr<Host>& host, ProtocolTime at);

  void serve_deadlines(const std::shared_ptr<Host>& host);

  /// Passes events, actions and requests on until nothing more comes of them, and plans the next wake-up.
  void settle_down(const std::shared_ptr<Host>& host);

  // ---- slow work ----

  ProtocolTime now(Host& host) { return host.now(events_.now()); }
  template <class AnyHost, class Event>
  void give(AnyHost& host, Event event) {
    host.give(now(host), std::move(event));
  }
  [[nodiscard]] Duration duration(int low_ms, int high_ms) {
    return Duration(static_cast<std::int64_t>(random_.uniform(low_ms, high_ms) * 1e6));
  }
  [[nodiscard]] Duration step_of(const WorkerHost& host);
  template <class AnyHost, class Done>
  void later(AnyHost& host, Duration after, Done done) {
    events_.at(events_.now() + after, [this, of = hosts_.at(host.node), done] {
      if (of->gone) return;
      on_host(of, [of, done] { done(static_cast<AnyHost&>(*of)); });
    });
  }
  /// Computing: one thing after the other, and void once the job has been unloaded.
  template <class Done>
  void compute(WorkerHost& host, Duration takes, Done done) {
    Place& place = place_of(host);
    place.computes_until = std::max(place.computes_until, events_.now()) + takes;
    for_this_life(host, place.computes_until - events_.now(), done);
  }
  template <class Done>
  void for_this_life(WorkerHost& host, Duration after, Done done) {
    later(host, after, [this, life = place_of(host).life, done](WorkerHost& h) {
      if (place_of(h).life == life) done(h);
    });
  }
  static void unload(Place& place);
  void feed_replica(WorkerHost& host, const ClientCore::Action& action);
  /// Coding and merging: one thing after the other.
  void work_on_replica(WorkerHost& host);
  void step_replica(WorkerHost& host);

  /// Also while the coordinator is down.
  [[nodiscard]] Moment moment() { return {events_.now(), now(*coordinator_)}; }

  Checker& checker(const Host& host) { return checkers_.at(jobs_.at(host.node)); }
  LedgerChecker& ledger(const Host& host) { return ledgers_.at(jobs_.at(host.node)); }
  Place& place_of(const Host& host) { return places_[node_places_.at(host.node)]; }
  [[nodiscard]] ShardIndex shard_of(const ShardHost& host) const { return shard_indices_.at(host.node); }
  [[nodiscard]] ShardIndex shard_of_peer(const Host& host, PeerId peer) const {
    return shard_indices_.at(static_cast<int>(peers_.at({host.node, peer})));
  }

  static std::uint64_t detail(const Message& message);
  /// 0: it names none.
  static JobId job_of(const Message& message);

  const Plan plan_;
  EventQueue events_;
  Trace trace_;
  Coverage coverage_;
  std::map<JobId, Checker> checkers_;
  std::map<JobId, LedgerChecker> ledgers_;
  MembershipChecker members_;
  VerdictChecker verdicts_;
  std::map<int, JobId> jobs_;  // by node
  RandomStream random_;
  Network network_;
  std::shared_ptr<CoordinatorHost> coordinator_;
  std::map<int, Disk> disks_;  // by node
  std::vector<Place> places_;
  std::uint64_t nodes_started_ = 0;
  std::size_t figures_seen_ = 0;             // of kJob
  std::map<JobId, std::uint64_t> in_force_;  // the newest tuning that the coordinator has called so
  ProtocolTime gave_up_at_ = kNever;         // the last evaluation of an epoch that nobody did
  std::map<int, std::shared_ptr<Host>> hosts_;
  std::map<int, std::size_t> node_places_;
  std::map<int, ShardIndex> shard_indices_;
  std::map<std::pair<int, PeerId>, std::uint32_t> peers_;  // to destination
  std::set<int> stopping_;
  std::map<IncarnationOrder, std::string> worker_names_;
  std::map<std::string_view, std::uint64_t> received_;  // by message name
};

template <class Core>
template <class Event>
void CoreHost<Core>::give(ProtocolTime now, Event event) {
  if constexpr (std::is_same_v<Event, MessageReceived>)
    simulation.note_received(*this, event);
  else if constexpr (std::is_same_v<Event, PeerClosed>)
    simulation.note_event(*this, "loses", "", event.peer.value());
  else if constexpr (std::is_same_v<Event, PeerConnected>)
    simulation.note_event(*this, "meets", "", event.peer.value());
  simulation.before(*this, event);
  core.on_event(now, typename Core::Event(std::move(event)));
  observe();
}

template <class Core>
bool CoreHost<Core>::holds_up(const SessionEvent& event) {
  return simulation.holds_up(*this, event);
}

template <class Core>
void CoreHost<Core>::observe() {
  std::vector<typename Core::Action> taken = core.take_actions();
  simulation.observe(*this, taken);
  for (auto& action : taken) actions_.push_back(std::move(action));
}

template <class Core>
bool CoreHost<Core>::act(ProtocolTime) {
  observe();  // what the constructor asked for
  const auto actions = std::exchange(actions_, {});
  for (const auto& action : actions) {
    bool passes = false;
    if constexpr (requires { Core::is_storage_work(action); }) {
      if (std::holds_alternative<typename Core::AppendLog>(action)) gate_.on_appended();
      if constexpr (requires { typename Core::StateChanged; })
        if (std::holds_alternative<typename Core::StateChanged>(action)) gate_.on_owed();
      passes = Core::is_storage_work(action);
    }
    if (passes || gate_.pass(action)) std::visit([&](const auto& a) { simulation.act(*this, a); }, action);
  }
  return !actions.empty();
}

template <class Core>
void CoreHost<Core>::on_durable(std::uint64_t records) {
  for (const auto& action : gate_.on_durable(records))
    std::visit([&](const auto& a) { simulation.act(*this, a); }, action);
  if constexpr (requires { core.on_durable(records); }) core.on_durable(records);
}

}  // namespace nanduti::sim
