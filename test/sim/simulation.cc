#include "test/sim/simulation.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "server/coordinator/coordinator_core.h"
#include "server/shard/shard_core.h"
#include "test/sim/checker.h"
#include "test/sim/host.h"
#include "test/sim/membership_checker.h"
#include "test/sim/network.h"
#include "test/sim/problem.h"
#include "test/sim/trace.h"
#include "worker/client/client_core.h"

namespace nanduti::sim {

namespace {

constexpr std::uint64_t kEventsMax = 5'000'000;
constexpr std::uint64_t kLayoutHash = 5;
constexpr JobId kJob{2};           // the one that counts
constexpr JobId kCancelledJob{1};  // before it, in some plans

using CoordinatorHost = CoreHost<CoordinatorCore>;
using ShardHost = CoreHost<ShardCore>;
using WorkerHost = CoreHost<ClientCore>;

std::string shown(Duration duration) {
  return fmt::format("{:.3f} s", std::chrono::duration<double>(duration).count());
}

/// The kind of a note: its text without names and numbers.
std::string kind_of(std::string_view text) {
  std::string kind;
  bool quoted = false, number = false;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (c == '\'') {
      quoted = !quoted;
      if (quoted) kind += "'N'";
    } else if (!quoted && digit) {
      if (!number) kind += 'N';
    } else if (!quoted) {
      kind += c;
    }
    number = digit;
  }
  return kind;
}

}  // namespace

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
        checkers_{{kCancelledJob, Checker(plan_, coverage_)}, {kJob, Checker(plan_, coverage_)}},
        members_(plan_, coverage_),
        random_(plan.network_seed, 3),
        network_(plan_, events_, coverage_,
                 [this](int node, RouteId route, const Frame& frame, bool up) {
                   on_frame(node, route, frame, up);
                 }),
        places_(plan.places.size()) {}

  ~Simulation() {
    for (const auto& [node, host] : hosts_) host->backlog.clear();  // they hold their hosts
  }

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
    for (const auto& [node, host] : hosts_) count_host(*host);
    for (const auto& [name, times] : received_) coverage_.count("message: " + std::string(name), times);
    outcome.coverage = coverage_;
    outcome.story = trace_.story();
    outcome.model = checkers_.at(kJob).result();
    if (coordinator_ && coordinator_->core.view(kJob))
      outcome.warnings = coordinator_->core.view(kJob)->warnings;
    return outcome;
  }

  // ---- what hosts ask for ----

  void before(ShardHost& host, const MessageReceived& event) {
    if (std::holds_alternative<Push>(event.message) && events_.now() < plan_.heal_at &&
        random_.chance(plan_.replays)) {
      coverage_.count("fault: push replayed");
      later(host, duration(0, 2000), [this, event](ShardHost& h) { give(h, event); });
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
  void before(CoordinatorHost&, const MessageReceived& event) {
    if (const auto* report = std::get_if<SettleReport>(&event.message))
      members_.on_settled(*report, event.peer);
  }
  void before(WorkerHost& host, const MessageReceived& event) {
    if (const auto* prepare = std::get_if<PrepareJob>(&event.message)) jobs_[host.node] = prepare->job;
  }
  template <class AnyHost, class Event>
  void before(AnyHost&, const Event&) {}

  bool holds_up(ShardHost& host, const SessionEvent& event) {
    const auto* received = std::get_if<MessageReceived>(&event);
    if (received == nullptr || !std::holds_alternative<Push>(received->message)) return false;
    if (events_.now() >= plan_.heal_at || !random_.chance(plan_.overtaking)) return false;
    coverage_.count("fault: push overtaken");
    later(host, duration(0, 1000), [this, e = *received](ShardHost& h) { give(h, e); });
    return true;
  }
  template <class AnyHost>
  bool holds_up(AnyHost&, const SessionEvent&) {
    return false;
  }

  void observe(CoordinatorHost& host, const std::vector<CoordinatorCore::Action>& actions) {
    for (const auto& action : actions) {
      const auto* send = std::get_if<SendMessage>(&action);
      if (send == nullptr) continue;
      if (const auto* open = std::get_if<OpenShard>(&send->message))
        members_.on_shard(send->peer, open->index);
      const auto* membership = std::get_if<Membership>(&send->message);
      if (membership == nullptr) continue;
      checkers_.at(membership->job).on_membership_sent(*membership);
      if (!members_.on_sent(*membership)) continue;  // to another shard already
      for (const WorkerReport& worker : host.core.workers_report(now(host)).workers)
        worker_names_[worker.order] = worker.name;
      tell("membership {}: {}", membership->epoch, members_text(*membership));
    }
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

  void note_received(const Host& host, const MessageReceived& event) {
    const std::string_view name = message_name(event.message);
    ++received_[name];
    note_event(host, "receives", name, event.peer.value());
  }

  void act(Host& host, const SendMessage& send) {
    note_event(host, "sends", message_name(send.message), send.peer.value(), detail(send.message));
    host.hub.send(now(host), send);
  }
  void act(Host& host, const OpenPeer& open) { host.hub.open(now(host), open); }
  void act(Host& host, const ClosePeer& close) {
    note_event(host, "closes", "", close.peer.value());
    host.hub.close(now(host), close);
  }
  void act(Host& host, const ShardCore::Admit& admit) { host.hub.set_admission(admit.admission); }
  void act(Host& host, const ShardCore::Note& note) { pass_on(host, note.text); }
  void act(Host& host, const ClientCore::Note& note) { pass_on(host, note.text); }
  void act(Host& host, const CoordinatorCore::Note& note) { pass_on(host, note.text); }
  void pass_on(const Host& host, const std::string& text) {
    coverage_.count("note: " + kind_of(text));
    tell("{}: {}", name_of(host), text);
  }

  /// A line of the story.
  template <class... Args>
  void tell(fmt::format_string<Args...> format, Args&&... args) {
    trace_.tell(events_.now(), fmt::format(format, std::forward<Args>(args)...));
  }
  [[nodiscard]] std::string name_of(const Host& host) const {
    if (host.node == 0) return "coordinator";
    if (host.node < kFirstWorkerNode) return fmt::format("shard {}", host.node - 1);
    return fmt::format("w{}", node_places_.at(host.node));
  }

  // ---- slow work ----

  void act(ShardHost& host, const ShardCore::LoadShard& load) {
    later(host, duration(1, 300), [this, load](ShardHost& h) {
      ShardStart start{initial_values(load.request.begin, load.request.end), codec_of(plan_), plan_.seed,
                       plan_.deterministic};
      give(h, ShardCore::ShardLoaded{load.request.job, std::move(start)});
    });
  }
  void act(CoordinatorHost& host, const CoordinatorCore::PlanModel& plan) {
    later(host, duration(1, 200), [this, plan](CoordinatorHost& h) {
      give(h, CoordinatorCore::ModelPlanned{plan.job,
                                            CoordinatorCore::PlannedModel{plan_.parameters, kLayoutHash}});
    });
  }
  void act(CoordinatorHost&, const CoordinatorCore::SaveCheckpoint&) {}
  void act(CoordinatorHost& host, const CoordinatorCore::SaveResult& save) {
    checkers_.at(save.job).on_result(save.shards);
    later(host, duration(1, 300), [this, job = save.job](CoordinatorHost& h) {
      give(h, CoordinatorCore::ResultSaved{job, Status()});
    });
  }
  void act(CoordinatorHost& host, const CoordinatorCore::JobChanged& changed) {
    const CoordinatorCore::JobView& view = *host.core.view(changed.job);
    tell("job {} is {}, {} epochs are evaluated{}{}", changed.job, to_string(view.state), view.figures.size(),
         view.reason.empty() ? "" : ": ", view.reason);
  }
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
      give(h, ClientCore::JobLoaded{id, job});
    });
  }
  void act(WorkerHost& host, const ClientCore::ComputeRound& round) {
    note_event(host, "computes", "round", round.round.value(), round.range.begin);
    work(host, step_of(host), [this, round](WorkerHost& h) {
      std::vector<float> progress = progress_of(*round.parameters, round.range);
      checker(h).on_computed(h.core.order(), progress);
      give(h, ClientCore::RoundComputed{round.job, std::move(progress), 1.0, 0.01});
    });
  }
  void act(WorkerHost& host, const ClientCore::EvaluateCut& cut) {
    note_event(host, "evaluates", "cut", cut.begin, cut.end);
    work(host, step_of(host), [this, cut](WorkerHost& h) {
      give(h, ClientCore::CutEvaluated{cut.job, cut.lease, 0, cut.end - cut.begin, 1.0, 0.01});
    });
  }
  void act(WorkerHost& host, const ClientCore::UnloadJob&) { ++place_of(host).work; }
  void act(WorkerHost& host, const ClientCore::Stopped& stopped) {
    tell("{} has left", name_of(host));
    if (!stopped.failure.empty()) fail("worker {} stops: {}", host.node, stopped.failure);
    stopping_.insert(host.node);
  }

 private:
  void play() {
    coordinator_ = std::make_shared<CoordinatorHost>(*this, 0, 0, plan_, plan_.coordinator);
    coordinator_->hub.set_admission(CoordinatorCore::admission());
    add(coordinator_, std::nullopt);
    for (std::uint32_t k = 0; k < plan_.shards; ++k) {
      ShardOptions options;
      options.coordinator_endpoint = "server";
      options.registration = {"server", "server", k + 1, "", JobId()};
      options.unpublished_age_max = plan_.unpublished_age_max;
      options.subscriber_bytes_max = 1 << 16;
      options.epochs_kept = plan_.epochs_kept;
      auto shard = std::make_shared<ShardHost>(*this, static_cast<int>(k) + 1, k + 1, plan_, options,
                                               RandomStream(plan_.network_seed, 100 + k));
      shards_.push_back(shard);
      add(shard, std::nullopt);
    }
    for (const Happening& happening : plan_.happenings)
      events_.at(happening.at, [this, happening] { happen(happening); });
    for (const Pause& p : plan_.pauses) events_.at(p.begin, [this, p] { pause(p); });
    for (const Partition& p : plan_.partitions)
      events_.at(p.begin, [this, p] {
        tell("{}'s link is cut{} for {}", to_string(p.target),
             p.up && p.down ? ""
             : p.up         ? " upwards"
                            : " downwards",
             shown(p.end - p.begin));
      });
    events_.at(kBeginning, [this] { audit(); });
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
    const bool disturbed = coverage_.of("fault: crash") + coverage_.of("fault: drain") +
                               coverage_.of("event: session lost") + coverage_.of("member: dead") >
                           0;
    if (!disturbed && view.repeated_samples != 0)
      fail("P5: {} samples were repeated and nobody died", view.repeated_samples);
    if (view.figures.size() != plan_.epochs) fail("P5: {} epochs have figures", view.figures.size());
    for (const EpochFigures& figures : view.figures)
      if (figures.total != plan_.test_samples) fail("{} test samples were evaluated", figures.total);
  }

  void submit() {
    JobPlan job;
    if (plan_.cancel_at)
      events_.at(*plan_.cancel_at, [this] {
        give(*coordinator_, CoordinatorCore::CancelJob{kCancelledJob});
        settle_down(coordinator_);
      });
    job.epochs = plan_.epochs;
    job.round_samples = plan_.round_samples;
    job.deterministic = plan_.deterministic;
    job.workers_to_start = plan_.workers_to_start;
    for (const JobId id : {kCancelledJob, kJob}) {
      if (id == kCancelledJob && !plan_.cancel_at) continue;
      job.id = id;
      give(*coordinator_, CoordinatorCore::SubmitJob{job});
    }
    settle_down(coordinator_);
  }

  [[nodiscard]] JobState job_state() const {
    const auto* view = coordinator_->core.view(kJob);
    return view == nullptr ? JobState::kQueued : view->state;
  }

  // ---- faults ----

  void happen(const Happening& happening) {
    Place& place = places_.at(happening.place);
    switch (happening.kind) {
      case HappeningKind::kStart:
        return start(happening.place);
      case HappeningKind::kCrash:
        if (!place.host) return;
        coverage_.count("fault: crash");
        tell("{} crashes", name_of(*place.host));
        return end(*place.host);
      case HappeningKind::kDrain:
        if (!place.host) return;
        coverage_.count("fault: drain");
        place.draining = true;
        tell("{} is told to drain", name_of(*place.host));
        return on_host(place.host, [this, host = place.host] { give(*host, ClientCore::DrainRequested{}); });
    }
  }

  void start(std::size_t at) {
    Place& place = places_[at];
    if (place.host) return;
    if (place.started_before)
      coverage_.count("fault: restart");
    else if (events_.now() > kBeginning + std::chrono::seconds(1))
      coverage_.count("event: late join");
    place.started_before = true;
    place.draining = false;
    const int node = kFirstWorkerNode + static_cast<int>(nodes_started_++);
    ClientOptions options;
    options.coordinator_endpoint = "server";
    options.registration.name = fmt::format("w{}", at);
    options.window_rounds_max = plan_.window_rounds_max;
    options.window_bytes_max = plan_.window_bytes_max;
    place.host = std::make_shared<WorkerHost>(
        *this, node, 0, plan_, options,
        RandomStream(plan_.network_seed, 10000 + static_cast<std::uint64_t>(node)));
    ++place.work;
    node_places_[node] = at;
    tell("{} starts", name_of(*place.host));
    add(place.host, at);
  }

  /// The process is gone with all its state.
  void end(Host& host) {
    count_host(host);
    const std::shared_ptr<Host> keep_alive = hosts_.at(host.node);
    host.gone = true;
    host.backlog.clear();
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
    for (std::size_t i = 0; i < places_.size() && manned < plan_.workers_to_start; ++i) {
      if (places_[i].host) continue;
      start(i);
      ++manned;
    }
    events_.at(events_.now() + std::chrono::seconds(5), [this] { heal(); });
  }

  /// Looks at who is in which state, once a second.
  void audit() {
    events_.at(events_.now() + std::chrono::seconds(1), [this] { audit(); });
    if (events_.now() < coordinator_->stopped_until) return;
    members_.audit(coordinator_->core, now(*coordinator_));
  }

  [[nodiscard]] std::string members_text(const Membership& membership) const {
    std::string text;
    for (const Member& member : membership.members) {
      const auto name = worker_names_.find(member.order);
      text += fmt::format("{}{} ({}) ", text.empty() ? "" : ", ",
                          name == worker_names_.end() ? "someone" : name->second, member.order);
      text += member.state == MemberState::kActive ? fmt::format("active from round {}", member.entry_clock)
              : member.state == MemberState::kIdle ? "idle"
              : member.state == MemberState::kSuspended ? "suspended"
                                                        : "dead";
    }
    return text.empty() ? "nobody" : text;
  }

  // ---- hosts ----

  void add(const std::shared_ptr<Host>& host, std::optional<std::size_t> place) {
    hosts_[host->node] = host;
    network_.add_node(host->node, place);
    settle_down(host);
  }

  void on_frame(int node, RouteId route, const Frame& frame, bool up) {
    const auto it = hosts_.find(node);
    if (it == hosts_.end()) return;
    on_host(it->second, [this, host = it->second, route, frame, up] {
      network_.on_taken(frame, up);
      host->hub.on_frame(now(*host), route, frame);
    });
  }

  /// Does something to a process: now, or once it is no longer stopped.
  void on_host(const std::shared_ptr<Host>& host, std::function<void()> what) {
    if (events_.now() < host->stopped_until) {
      host->backlog.push_back(std::move(what));
      return;
    }
    what();
    settle_down(host);
  }

  void pause(const Pause& pause) {
    for (const std::shared_ptr<Host>& host : hosts_of(pause.target)) {
      tell("{} is stopped for {}", name_of(*host), shown(pause.end - pause.begin));
      coverage_.count(host->node >= kFirstWorkerNode ? "fault: worker stopped"
                      : host->node > 0               ? "fault: shard stopped"
                                                     : "fault: coordinator stopped");
      host->stopped_until = std::max(host->stopped_until, pause.end);
      events_.at(host->stopped_until, [this, host] { resume(host); });
    }
  }

  void resume(const std::shared_ptr<Host>& host) {
    if (host->gone || events_.now() < host->stopped_until) return;
    tell("{} goes on", name_of(*host));
    // Deadlines that have passed and what has come may be served in either order.
    const bool deadlines_first = random_.chance(0.5);
    if (deadlines_first) serve_deadlines(host);
    while (!host->gone && !host->backlog.empty()) {
      const auto what = std::move(host->backlog.front());
      host->backlog.pop_front();
      what();
      settle_down(host);
    }
    if (!host->gone) serve_deadlines(host);
  }

  [[nodiscard]] std::vector<std::shared_ptr<Host>> hosts_of(const Target& target) const {
    std::vector<std::shared_ptr<Host>> found;
    for (const auto& [node, host] : hosts_) {
      const bool worker = node >= kFirstWorkerNode;
      bool meant = target.kind == Target::Kind::kAll;
      if (target.kind == Target::Kind::kServers) meant = !worker;
      if (target.kind == Target::Kind::kCoordinator) meant = node == 0;
      if (target.kind == Target::Kind::kShard) meant = node == static_cast<int>(target.index) + 1;
      if (target.kind == Target::Kind::kWorker) meant = worker && node_places_.at(node) == target.index;
      if (meant) found.push_back(host);
    }
    return found;
  }

  void note_peer(Host& host, const SessionEvent& event) {
    if (const auto* connected = std::get_if<PeerConnected>(&event)) {
      host.peers.push_back(connected->peer);
    } else if (const auto* closed = std::get_if<PeerClosed>(&event)) {
      std::erase(host.peers, closed->peer);
      coverage_.count("event: session lost");
      coverage_.count("session: " + kind_of(closed->reason));
    }
  }

  /// P7: what waits for a peer stays within its maximum.
  void check_queues(const Host& host) const {
    const std::size_t max =
        (host.node < kFirstWorkerNode ? plan_.session : plan_.worker_session).queue_bytes_max;
    for (const PeerId peer : host.peers)
      if (host.hub.outstanding_bytes(peer) > max)
        fail("P7: {} bytes wait for peer {} of {}", host.hub.outstanding_bytes(peer), peer, name_of(host));
  }

  /// What a process has counted until its end.
  void count_host(const Host& host) {
    for (const NamedCount& counter : host.hub.counters().named())
      coverage_.count("hub: " + std::string(counter.name), counter.count);
    if (host.node == 0 || host.node >= kFirstWorkerNode) return;
    const ShardCore::Counters& shard = static_cast<const ShardHost&>(host).core.counters();
    coverage_.count("push: settled", shard.settled);
    coverage_.count("push: refused", shard.refused);
    coverage_.count("push: duplicate", shard.duplicates);
    coverage_.count("push: of the dead", shard.fenced);
    coverage_.count("version: published", shard.versions);
    coverage_.count("version: caught up", shard.catch_ups);
  }

  void wake(const std::shared_ptr<Host>& host, ProtocolTime at) {
    if (host->gone || host->woken_at != at) return;
    host->woken_at = kNever;
    if (events_.now() >= host->stopped_until) serve_deadlines(host);
  }

  void serve_deadlines(const std::shared_ptr<Host>& host) {
    const ProtocolTime time = now(*host);
    if (host->hub.next_deadline() <= time) host->hub.on_deadline(time);
    host->on_core_deadline(time);
    settle_down(host);
    host->overdue = host->deadline() <= time ? host->overdue + 1 : 0;
    if (host->overdue > 100)
      fail("the deadline of node {}'s {} does not go away", host->node,
           host->hub.next_deadline() <= time ? "hub" : "core");
  }

  /// Passes events, actions and requests on until nothing more comes of them, and plans the next wake-up.
  void settle_down(const std::shared_ptr<Host>& host) {
    for (int i = 0;; ++i) {
      if (i > 10000) fail("node {} does not settle down", host->node);
      bool any = false;
      for (SessionEvent& event : host->hub.take_events()) {
        any = true;
        note_peer(*host, event);
        host->on_session_event(now(*host), std::move(event));
      }
      any |= host->act(now(*host));
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
    check_queues(*host);
    const ProtocolTime deadline = host->set_deadline();
    if (deadline == kNever || deadline >= host->woken_at) return;
    // A deadline that has passed and does not go away must not stop time.
    const ProtocolTime at =
        std::max(deadline, events_.now() + (deadline <= events_.now() ? Duration(1000) : Duration(0)));
    if (at >= host->woken_at) return;
    host->woken_at = at;
    events_.at(at, [this, host, at] { wake(host, at); });
  }

  // ---- slow work ----

  ProtocolTime now(Host& host) { return host.now(events_.now()); }
  template <class AnyHost, class Event>
  void give(AnyHost& host, Event event) {
    host.give(now(host), std::move(event));
  }
  [[nodiscard]] Duration duration(int low_ms, int high_ms) {
    return Duration(static_cast<std::int64_t>(random_.uniform(low_ms, high_ms) * 1e6));
  }
  [[nodiscard]] Duration step_of(const WorkerHost& host) {
    if (events_.now() < plan_.heal_at && random_.chance(plan_.hangs)) {
      coverage_.count("fault: work hangs");
      return plan_.hang;
    }
    return Duration(static_cast<std::int64_t>(static_cast<double>(plan_.step.count()) *
                                              plan_.places[node_places_.at(host.node)].slowness *
                                              random_.uniform(0.8, 1.3)));
  }
  template <class AnyHost, class Done>
  void later(AnyHost& host, Duration after, Done done) {
    events_.at(events_.now() + after, [this, node = host.node, done] {
      const auto it = hosts_.find(node);
      if (it == hosts_.end()) return;
      on_host(it->second, [alive = it->second, done] { done(static_cast<AnyHost&>(*alive)); });
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
  Coverage coverage_;
  std::map<JobId, Checker> checkers_;
  MembershipChecker members_;
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
  for (const auto& action : actions) std::visit([&](const auto& a) { simulation.act(*this, a); }, action);
  return !actions.empty();
}

Outcome simulate(const Plan& plan, bool print_trace) { return Simulation(plan, print_trace).run(); }

}  // namespace nanduti::sim
