#include "test/sim/simulation.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "server/coordinator/coordinator_core.h"
#include "server/shard/shard_core.h"
#include "test/sim/checker.h"
#include "test/sim/problem.h"
#include "test/sim/trace.h"
#include "worker/client/client_core.h"

namespace nanduti::sim {

namespace {

constexpr int kFirstWorkerNode = 1000;
constexpr std::uint64_t kEventsMax = 3'000'000;
constexpr std::uint64_t kLayoutHash = 5;
constexpr JobId kJob{2};           // the one that counts
constexpr JobId kCancelledJob{1};  // before it, in some plans

/// A core under its session hub. What the core asks of the world beyond messages is the derived class's
/// affair.
class Host {
 public:
  Host(int number, std::uint32_t destination, const Plan& plan)
      : node(number),
        hub(destination, number < kFirstWorkerNode ? plan.session : plan.worker_session,
            RandomStream(plan.network_seed, 1000 + static_cast<std::uint64_t>(number))) {}
  virtual ~Host() = default;

  virtual void on_session_event(ProtocolTime now, SessionEvent event) = 0;
  virtual void on_core_deadline(ProtocolTime now) = 0;
  [[nodiscard]] virtual ProtocolTime core_deadline() const = 0;
  /// Carries out the core's actions; false if there were none.
  virtual bool act(ProtocolTime now) = 0;

  [[nodiscard]] ProtocolTime deadline() const { return std::min(core_deadline(), hub.next_deadline()); }

  const int node;
  SessionHub hub;
  bool gone = false;
  int overdue = 0;                 // wake-ups in a row that did not move the deadline
  ProtocolTime woken_at = kNever;  // the earliest wake-up under way
};

class Simulation;

template <class Core>
class CoreHost : public Host {
 public:
  template <class... Args>
  CoreHost(Simulation& owner, int number, std::uint32_t destination, const Plan& plan, Args&&... args)
      : Host(number, destination, plan), core(std::forward<Args>(args)...), simulation(owner) {}

  void on_session_event(ProtocolTime now, SessionEvent event) override {
    std::visit([&](auto& e) { give(now, std::move(e)); }, event);
  }
  void on_core_deadline(ProtocolTime now) override {
    if (core.next_deadline() > now) return;
    core.on_deadline(now);
    observe();
  }
  [[nodiscard]] ProtocolTime core_deadline() const override { return core.next_deadline(); }
  bool act(ProtocolTime now) override;

  template <class Event>
  void give(ProtocolTime now, Event event);

  Core core;

 private:
  /// Collects the actions and lets the checker see them and the core.
  void observe();
  Simulation& simulation;
  std::vector<typename Core::Action> actions_;
};

using CoordinatorHost = CoreHost<CoordinatorCore>;
using ShardHost = CoreHost<ShardCore>;
using WorkerHost = CoreHost<ClientCore>;

/// The worker process of a place, if one runs.
struct Place {
  std::shared_ptr<WorkerHost> host;
  std::uint64_t work = 0;  // counts what is computed; a completion of an older number is void
  bool started_before = false;
  bool draining = false;
};

class Simulation {
 public:
  Simulation(const Plan& plan, bool print_trace)
      : plan_(plan),
        events_(kBeginning),
        trace_(print_trace),
        checkers_{{kCancelledJob, Checker(plan_)}, {kJob, Checker(plan_)}},
        random_(plan.network_seed, 3),
        network_(plan, events_,
                 [this](int node, RouteId route, const Frame& frame) { on_frame(node, route, frame); }),
        places_(plan.links.size()) {}

  Outcome run() {
    Outcome outcome;
    try {
      play();
    } catch (const Failure& failure) {
      outcome.failure = failure.what();
      outcome.trace_tail = trace_.tail();
    }
    outcome.trace_hash = trace_.hash();
    outcome.events = trace_.count();
    outcome.rounds = checkers_.at(kJob).rounds() + checkers_.at(kCancelledJob).rounds();
    outcome.simulated = events_.now() - kBeginning;
    outcome.faults = network_.faults;
    outcome.model = checkers_.at(kJob).result();
    if (coordinator_ && coordinator_->core.view(kJob))
      outcome.warnings = coordinator_->core.view(kJob)->warnings;
    return outcome;
  }

  // ---- what hosts ask for ----

  void before(ShardHost& host, const MessageReceived& event) {
    if (std::holds_alternative<Push>(event.message) && events_.now() < plan_.heal_at &&
        random_.chance(plan_.replays)) {
      ++network_.faults.replayed;
      later(host, duration(0, 2000), [this, event](ShardHost& h) { h.give(events_.now(), event); });
    }
    if (event.peer != PeerId(0)) return;
    // The coordinator numbers the shards as they come.
    if (const auto* open = std::get_if<OpenShard>(&event.message)) {
      shard_indices_[host.node] = open->index;
      jobs_[host.node] = open->job;
    }
    if (const auto* membership = std::get_if<Membership>(&event.message))
      if (membership->job == jobs_[host.node])
        checker(host).on_membership_received(shard_of(host), membership->epoch);
  }
  void before(WorkerHost& host, const MessageReceived& event) {
    if (const auto* prepare = std::get_if<PrepareJob>(&event.message)) jobs_[host.node] = prepare->job;
  }
  template <class AnyHost, class Event>
  void before(AnyHost&, const Event&) {}

  void observe(CoordinatorHost&, const std::vector<CoordinatorCore::Action>& actions) {
    for (const auto& action : actions)
      if (const auto* send = std::get_if<SendMessage>(&action))
        if (const auto* membership = std::get_if<Membership>(&send->message))
          checkers_.at(membership->job).on_membership_sent(*membership);
  }
  void observe(ShardHost& host, const std::vector<ShardCore::Action>& actions) {
    if (shard_indices_.contains(host.node)) checker(host).after_shard(shard_of(host), host.core, actions);
  }
  void observe(WorkerHost& host, const std::vector<ClientCore::Action>& actions) {
    if (jobs_.contains(host.node)) checker(host).after_worker(host.core);
    for (const auto& action : actions) {
      if (const auto* round = std::get_if<ClientCore::ComputeRound>(&action)) {
        checker(host).on_compute(host.core, *round);
      } else if (const auto* send = std::get_if<SendMessage>(&action)) {
        if (const auto* push = std::get_if<Push>(&send->message))
          checker(host).on_push_sent(host.core, *push, shard_of_peer(host, send->peer));
      } else if (const auto* open = std::get_if<OpenPeer>(&action)) {
        peers_[{host.node, open->peer}] = open->destination;
      }
    }
  }

  void note_event(const Host& host, const char* what, std::string_view name, std::uint64_t first,
                  std::uint64_t second = 0) {
    trace_.add({events_.now(), host.node, what, name, first, second});
  }

  void act(Host& host, const SendMessage& send) {
    note_event(host, "sends", message_name(send.message), send.peer.value(), detail(send.message));
    host.hub.send(events_.now(), send);
  }
  void act(Host& host, const OpenPeer& open) { host.hub.open(events_.now(), open); }
  void act(Host& host, const ClosePeer& close) {
    note_event(host, "closes", "", close.peer.value());
    host.hub.close(events_.now(), close);
  }
  void act(Host& host, const ShardCore::Admit& admit) { host.hub.set_admission(admit.admission); }
  void act(Host& host, const ShardCore::Note& note) { note_event(host, "notes", keep(note.text), 0); }
  void act(Host& host, const ClientCore::Note& note) { note_event(host, "notes", keep(note.text), 0); }
  void act(Host& host, const CoordinatorCore::Note& note) { note_event(host, "notes", keep(note.text), 0); }

  // ---- slow work ----

  void act(ShardHost& host, const ShardCore::LoadShard& load) {
    later(host, duration(1, 300), [this, load](ShardHost& h) {
      ShardStart start{initial_values(load.request.begin, load.request.end), codec_of(plan_), plan_.seed,
                       plan_.deterministic};
      h.give(events_.now(), ShardCore::ShardLoaded{load.request.job, std::move(start)});
    });
  }
  void act(CoordinatorHost& host, const CoordinatorCore::PlanModel& plan) {
    later(host, duration(1, 200), [this, plan](CoordinatorHost& h) {
      h.give(events_.now(), CoordinatorCore::ModelPlanned{
                                plan.job, CoordinatorCore::PlannedModel{plan_.parameters, kLayoutHash}});
    });
  }
  void act(CoordinatorHost&, const CoordinatorCore::SaveCheckpoint&) {}
  void act(CoordinatorHost& host, const CoordinatorCore::SaveResult& save) {
    checkers_.at(save.job).on_result(save.shards);
    later(host, duration(1, 300), [this, job = save.job](CoordinatorHost& h) {
      h.give(events_.now(), CoordinatorCore::ResultSaved{job, Status()});
    });
  }
  void act(CoordinatorHost&, const CoordinatorCore::JobChanged&) {}
  void act(WorkerHost& host, const ClientCore::LoadJob& load) {
    LoadedJob job;
    job.data = {plan_.samples, plan_.test_samples, 1, 1, 1, 2, 3};
    job.layout_hash = kLayoutHash;
    job.parameters = plan_.parameters;
    job.round_samples = plan_.round_samples;
    job.bound = plan_.bound;
    job.deterministic = plan_.deterministic;
    job.seed = plan_.seed;
    job.codec = codec_of(plan_);
    later(host, duration(5, 1000), [this, id = load.job, job](WorkerHost& h) {
      h.give(events_.now(), ClientCore::JobLoaded{id, job});
    });
  }
  void act(WorkerHost& host, const ClientCore::ComputeRound& round) {
    note_event(host, "computes", "round", round.round.value(), round.range.begin);
    work(host, step_of(host), [this, round](WorkerHost& h) {
      std::vector<float> progress = progress_of(*round.parameters, round.range);
      checker(h).on_computed(h.core.order(), progress);
      h.give(events_.now(), ClientCore::RoundComputed{round.job, std::move(progress), 1.0, 0.01});
    });
  }
  void act(WorkerHost& host, const ClientCore::EvaluateCut& cut) {
    note_event(host, "evaluates", "cut", cut.begin, cut.end);
    work(host, step_of(host), [this, cut](WorkerHost& h) {
      h.give(events_.now(), ClientCore::CutEvaluated{cut.job, cut.lease, 0, cut.end - cut.begin, 1.0, 0.01});
    });
  }
  void act(WorkerHost& host, const ClientCore::UnloadJob&) { ++place_of(host).work; }
  void act(WorkerHost& host, const ClientCore::Stopped& stopped) {
    note_event(host, "stops", "", 0);
    if (!stopped.failure.empty()) fail("worker {} stops: {}", host.node, stopped.failure);
    stopping_.insert(host.node);
  }

 private:
  void play() {
    coordinator_ = std::make_shared<CoordinatorHost>(*this, 0, 0, plan_, plan_.coordinator);
    coordinator_->hub.set_admission(CoordinatorCore::admission());
    add(coordinator_, std::nullopt);
    for (std::uint32_t k = 0; k < plan_.shards; ++k) {
      ShardOptions options{
          "server", {"server", "server", k + 1, "", JobId()}, plan_.unpublished_age_max, 1 << 16};
      auto shard = std::make_shared<ShardHost>(*this, static_cast<int>(k) + 1, k + 1, plan_, options,
                                               RandomStream(plan_.network_seed, 100 + k));
      shards_.push_back(shard);
      add(shard, std::nullopt);
    }
    for (const Happening& happening : plan_.happenings)
      events_.at(happening.at, [this, happening] { happen(happening); });
    events_.at(kBeginning, [this] { submit(); });
    events_.at(plan_.heal_at, [this] { heal(); });

    for (std::uint64_t i = 0;; ++i) {
      const JobState state = job_state();
      if (state == JobState::kDone) break;
      if (state == JobState::kFailed) fail("P5: the job fails: {}", coordinator_->core.view(kJob)->reason);
      if (events_.empty()) fail("P5: nothing is left to happen");
      if (i > kEventsMax) fail("P5: the job does not end within {} events", kEventsMax);
      if (events_.now() > plan_.heal_at + kPatience)
        fail("P5: the job does not end within {} s of healing", kPatience.count() / 1'000'000'000);
      events_.run_next();
    }
    const CoordinatorCore::JobView& view = *coordinator_->core.view(kJob);
    checkers_.at(kJob).on_done(view.samples, view.repeated_samples);
    if (!plan_.crashes && network_.faults.drains == 0 && network_.faults.sessions_lost == 0 &&
        plan_.partitions.empty() && view.repeated_samples != 0)
      fail("P5: {} samples were repeated and nobody died", view.repeated_samples);
    if (view.figures.size() != plan_.epochs) fail("P5: {} epochs have figures", view.figures.size());
    for (const EpochFigures& figures : view.figures)
      if (figures.total != plan_.test_samples) fail("{} test samples were evaluated", figures.total);
  }

  void submit() {
    JobPlan job;
    if (plan_.cancel_at)
      events_.at(*plan_.cancel_at, [this] {
        coordinator_->give(events_.now(), CoordinatorCore::CancelJob{kCancelledJob});
        settle_down(coordinator_);
      });
    job.epochs = plan_.epochs;
    job.round_samples = plan_.round_samples;
    job.deterministic = plan_.deterministic;
    job.workers_to_start = workers_to_start();
    for (const JobId id : {kCancelledJob, kJob}) {
      if (id == kCancelledJob && !plan_.cancel_at) continue;
      job.id = id;
      coordinator_->give(events_.now(), CoordinatorCore::SubmitJob{job});
    }
    settle_down(coordinator_);
  }

  [[nodiscard]] JobState job_state() const {
    const auto* view = coordinator_->core.view(kJob);
    return view == nullptr ? JobState::kQueued : view->state;
  }

  [[nodiscard]] std::uint32_t workers_to_start() const {
    return plan_.deterministic ? plan_.workers : 1 + plan_.workers / 3;
  }

  // ---- faults ----

  void happen(const Happening& happening) {
    Place& place = places_.at(happening.place);
    switch (happening.kind) {
      case HappeningKind::kStart:
        return start(happening.place);
      case HappeningKind::kCrash:
        if (!place.host) return;
        ++network_.faults.crashes;
        note_event(*place.host, "crashes", "", 0);
        return end(*place.host);
      case HappeningKind::kDrain:
        if (!place.host) return;
        ++network_.faults.drains;
        place.draining = true;
        note_event(*place.host, "is told to drain", "", 0);
        place.host->give(events_.now(), ClientCore::DrainRequested{});
        return settle_down(place.host);
    }
  }

  void start(std::size_t at) {
    Place& place = places_[at];
    if (place.host) return;
    if (place.started_before)
      ++network_.faults.restarts;
    else if (events_.now() > kBeginning + std::chrono::seconds(1))
      ++network_.faults.late_joins;
    place.started_before = true;
    place.draining = false;
    const int node = kFirstWorkerNode + static_cast<int>(nodes_started_++);
    ClientOptions options;
    options.coordinator_endpoint = "server";
    options.registration.name = fmt::format("place {}", at);
    place.host = std::make_shared<WorkerHost>(
        *this, node, 0, plan_, options,
        RandomStream(plan_.network_seed, 10000 + static_cast<std::uint64_t>(node)));
    ++place.work;
    node_places_[node] = at;
    note_event(*place.host, "starts", "", at);
    add(place.host, at);
  }

  /// The process is gone with all its state.
  void end(Host& host) {
    const std::shared_ptr<Host> keep_alive = hosts_.at(host.node);
    host.gone = true;
    network_.remove_node(host.node);
    Place& place = places_[node_places_.at(host.node)];
    place.host.reset();
    ++place.work;
    hosts_.erase(host.node);
  }

  /// From now on all is well, and as many workers as the job wants are there to do the rest.
  void heal() {
    const auto stays = [](const Place& p) { return p.host && !p.draining; };
    auto manned = static_cast<std::uint32_t>(std::count_if(places_.begin(), places_.end(), stays));
    for (std::size_t i = 0; i < places_.size() && manned < workers_to_start(); ++i) {
      if (places_[i].host) continue;
      start(i);
      ++manned;
    }
    events_.at(events_.now() + std::chrono::seconds(5), [this] { heal(); });
  }

  // ---- hosts ----

  void add(const std::shared_ptr<Host>& host, std::optional<std::size_t> place) {
    hosts_[host->node] = host;
    network_.add_node(host->node, place);
    settle_down(host);
  }

  void on_frame(int node, RouteId route, const Frame& frame) {
    const auto it = hosts_.find(node);
    if (it == hosts_.end()) return;
    const std::shared_ptr<Host> host = it->second;
    host->hub.on_frame(events_.now(), route, frame);
    settle_down(host);
  }

  void wake(const std::shared_ptr<Host>& host, ProtocolTime at) {
    if (host->gone || host->woken_at != at) return;
    host->woken_at = kNever;
    const ProtocolTime now = events_.now();
    if (host->hub.next_deadline() <= now) host->hub.on_deadline(now);
    host->on_core_deadline(now);
    settle_down(host);
    host->overdue = host->deadline() <= now ? host->overdue + 1 : 0;
    if (host->overdue > 100)
      fail("the deadline of node {}'s {} does not go away", host->node,
           host->hub.next_deadline() <= now ? "hub" : "core");
  }

  /// Passes events, actions and requests on until nothing more comes of them, and plans the next wake-up.
  void settle_down(const std::shared_ptr<Host>& host) {
    for (int i = 0;; ++i) {
      if (i > 10000) fail("node {} does not settle down", host->node);
      bool any = false;
      for (SessionEvent& event : host->hub.take_events()) {
        any = true;
        host->on_session_event(events_.now(), std::move(event));
      }
      any |= host->act(events_.now());
      for (const TransportRequest& request : host->hub.take_requests()) {
        any = true;
        network_.handle(host->node, request);
      }
      if (!any) break;
    }
    if (stopping_.erase(host->node) > 0) {
      // A process that has stopped goes once its last messages have been flushed.
      events_.at(events_.now() + std::chrono::seconds(6), [this, host] {
        if (!host->gone) end(*host);
      });
    }
    if (host->gone) return;
    const ProtocolTime deadline = host->deadline();
    if (deadline == kNever || deadline >= host->woken_at) return;
    // A deadline that has passed and does not go away must not stop time.
    const ProtocolTime at =
        std::max(deadline, events_.now() + (deadline <= events_.now() ? Duration(1000) : Duration(0)));
    if (at >= host->woken_at) return;
    host->woken_at = at;
    events_.at(at, [this, host, at] { wake(host, at); });
  }

  // ---- slow work ----

  [[nodiscard]] Duration duration(int low_ms, int high_ms) {
    return Duration(static_cast<std::int64_t>(random_.uniform(low_ms, high_ms) * 1e6));
  }
  [[nodiscard]] Duration step_of(const WorkerHost& host) {
    if (events_.now() < plan_.heal_at && random_.chance(plan_.hangs)) {
      ++network_.faults.hangs;
      return std::chrono::seconds(30);
    }
    return Duration(static_cast<std::int64_t>(static_cast<double>(plan_.step.count()) *
                                              plan_.slowness[node_places_.at(host.node)] *
                                              random_.uniform(0.8, 1.3)));
  }
  template <class AnyHost, class Done>
  void later(AnyHost& host, Duration after, Done done) {
    events_.at(events_.now() + after, [this, node = host.node, done] {
      const auto it = hosts_.find(node);
      if (it == hosts_.end()) return;
      const std::shared_ptr<Host> alive = it->second;
      done(static_cast<AnyHost&>(*alive));
      settle_down(alive);
    });
  }
  /// Computing: one thing at a time, and void once the job has been unloaded.
  template <class Done>
  void work(WorkerHost& host, Duration after, Done done) {
    const std::uint64_t number = ++place_of(host).work;
    later(host, after, [this, number, done](WorkerHost& h) {
      if (place_of(h).work == number) done(h);
    });
  }

  Checker& checker(const Host& host) { return checkers_.at(jobs_.at(host.node)); }
  Place& place_of(const Host& host) { return places_[node_places_.at(host.node)]; }
  [[nodiscard]] ShardIndex shard_of(const ShardHost& host) const { return shard_indices_.at(host.node); }
  [[nodiscard]] ShardIndex shard_of_peer(const Host& host, PeerId peer) const {
    return shard_indices_.at(static_cast<int>(peers_.at({host.node, peer})));
  }
  std::string_view keep(const std::string& text) { return *texts_.insert(text).first; }

  static std::uint64_t detail(const Message& message) {
    if (const auto* push = std::get_if<Push>(&message)) return push->sequence.value();
    if (const auto* version = std::get_if<Publish>(&message)) return version->header.version.value();
    if (const auto* assign = std::get_if<Assign>(&message)) return assign->header.version.value();
    if (const auto* membership = std::get_if<Membership>(&message)) return membership->epoch.value();
    if (const auto* lease = std::get_if<LeaseGrant>(&message)) return lease->range.begin;
    return 0;
  }

  const Plan plan_;
  EventQueue events_;
  Trace trace_;
  std::map<JobId, Checker> checkers_;
  std::map<int, JobId> jobs_;  // by node
  RandomStream random_;
  Network network_;
  std::shared_ptr<CoordinatorHost> coordinator_;
  std::vector<std::shared_ptr<ShardHost>> shards_;
  std::vector<Place> places_;
  std::uint64_t nodes_started_ = 0;
  std::map<int, std::shared_ptr<Host>> hosts_;
  std::map<int, std::size_t> node_places_;
  std::map<int, ShardIndex> shard_indices_;
  std::map<std::pair<int, PeerId>, std::uint32_t> peers_;  // to destination
  std::set<int> stopping_;
  std::set<std::string> texts_;

 public:
  FaultCounts& faults() { return network_.faults; }
};

template <class Core>
template <class Event>
void CoreHost<Core>::give(ProtocolTime now, Event event) {
  if constexpr (std::is_same_v<Event, MessageReceived>)
    simulation.note_event(*this, "receives", message_name(event.message), event.peer.value());
  else if constexpr (std::is_same_v<Event, PeerClosed>)
    simulation.note_event(*this, "loses", "", event.peer.value()), ++simulation.faults().sessions_lost;
  else if constexpr (std::is_same_v<Event, PeerConnected>)
    simulation.note_event(*this, "meets", "", event.peer.value());
  simulation.before(*this, event);
  core.on_event(now, typename Core::Event(std::move(event)));
  observe();
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
  for (const auto& action : actions) std::visit([&](const auto& a) { simulation.act(*this, a); }, action);
  return !actions.empty();
}

}  // namespace

Outcome simulate(const Plan& plan, bool print_trace) { return Simulation(plan, print_trace).run(); }

}  // namespace nanduti::sim
