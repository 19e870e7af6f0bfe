// What is seen of the processes: by the checkers, the trace, the story, the coverage.
#include "test/sim/simulation_parts.h"

namespace nanduti::sim {

namespace {

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

void Simulation::before(ShardHost& host, const MessageReceived& event) {
  if (std::holds_alternative<Push>(event.message) && events_.now() < plan_.heal_at &&
      random_.chance(plan_.replays)) {
    coverage_.count("fault: push replayed");
    later(host, duration(0, 2000), [this, event](ShardHost& h) { give(h, event); });
  }
  if (const auto* push = std::get_if<Push>(&event.message); push && shard_indices_.contains(host.node))
    if (push->job == jobs_[host.node]) ledger(host).on_push_arrived(shard_of(host), *push);
  if (event.peer != PeerId(0)) return;
  // The coordinator numbers the shards as they come.
  if (const auto* open = std::get_if<OpenShard>(&event.message)) {
    shard_indices_[host.node] = open->index;
    jobs_[host.node] = open->job;
  }
  if (const auto* tuning = std::get_if<Tune>(&event.message))
    if (tuning->job == jobs_[host.node]) checker(host).on_tune_received(shard_of(host), *tuning);
  if (const auto* membership = std::get_if<Membership>(&event.message))
    if (membership->job == jobs_[host.node])
      checker(host).on_membership_received(shard_of(host), membership->epoch);
  if (const auto* take = std::get_if<TakeCut>(&event.message))
    if (take->job == jobs_[host.node]) checker(host).on_take_cut(shard_of(host), take->cut);
}

void Simulation::before(CoordinatorHost&, const MessageReceived& event) {
  if (const auto* shard = std::get_if<RegisterShard>(&event.message);
      shard && shard_indices_.contains(static_cast<int>(shard->destination)))
    members_.on_shard(event.peer, shard_indices_.at(static_cast<int>(shard->destination)));
  verdicts_.on_heard(event.peer, event.message, moment());
  const auto* report = std::get_if<SettleReport>(&event.message);
  if (report == nullptr) return;
  members_.on_settled(*report, event.peer);
  verdicts_.on_settled(*report, moment());
}

void Simulation::before(WorkerHost& host, const MessageReceived& event) {
  if (const auto* prepare = std::get_if<PrepareJob>(&event.message)) jobs_[host.node] = prepare->job;
}

void Simulation::observe(CoordinatorHost& host, const std::vector<CoordinatorCore::Action>& actions) {
  for (const auto& action : actions) {
    if (std::holds_alternative<AppendLog>(action)) members_.on_logged();
    const auto* send = std::get_if<SendMessage>(&action);
    if (send == nullptr) continue;
    if (const auto* membership = std::get_if<Membership>(&send->message)) members_.on_made(*membership);
    verdicts_.on_said(send->peer, send->message, moment());  // by what was known then
    if (!plan_.coordinator.durable) on_said(host, *send);
  }
  if (!plan_.coordinator.durable) look_at_tunings(host);
}

void Simulation::on_said(CoordinatorHost& host, const SendMessage& send) {
  if (const auto* open = std::get_if<OpenShard>(&send.message)) members_.on_shard(send.peer, open->index);
  if (const auto* lease = std::get_if<EvaluationLease>(&send.message))
    checkers_.at(lease->job).on_evaluation_lent(*lease);
  if (const auto* tuning = std::get_if<Tune>(&send.message)) checkers_.at(tuning->job).on_tune_sent(*tuning);
  if (std::holds_alternative<Fence>(send.message)) may_crash_soon(0.1);
  const auto* membership = std::get_if<Membership>(&send.message);
  if (membership == nullptr) return;
  for (const Membership& fresh : members_.on_sent(*membership)) {
    checkers_.at(fresh.job).on_membership_sent(fresh);
    ledgers_.at(fresh.job).on_membership(fresh);
    for (const WorkerReport& worker : host.core.workers_report(now(host)).workers)
      worker_names_[worker.order] = worker.name;
    tell("membership {}: {}", fresh.epoch, members_text(fresh));
  }
}

void Simulation::look_at_tunings(const CoordinatorHost& host) {
  for (const auto& [job, checker] : checkers_) {
    const CoordinatorCore::JobView* view = host.core.view(job);
    if (view == nullptr || is_over(view->state) || view->tunings.empty()) continue;
    const Tuning& tuning = view->tunings.back();
    std::uint64_t& known = in_force_[job];
    if (!tuning.in_force || tuning.number <= known) continue;
    known = tuning.number;
    // What a job begins with is taken by each worker as it joins.
    if (tuning.from_round > Round()) checker.on_in_force(tuning.number, tuning.in_force_from);
  }
}

void Simulation::observe(ShardHost& host, const std::vector<ShardCore::Action>& actions) {
  if (!shard_indices_.contains(host.node)) return;
  checker(host).after_shard(now(host), shard_of(host), host.core, actions);
}

void Simulation::observe(WorkerHost& host, const std::vector<ClientCore::Action>& actions) {
  if (host.core.withholds_work()) fail("P5: {} has samples and trains none", name_of(host));
  for (const auto& action : actions) {
    if (const auto* send = std::get_if<SendMessage>(&action)) {
      if (const auto* push = std::get_if<Push>(&send->message))
        checker(host).on_push_sent(host.core, *push, shard_of_peer(host, send->peer));
      if (const auto* registration = std::get_if<RegisterWorker>(&send->message))
        verdicts_.on_registers(host.node, registration->incarnation);
    } else if (const auto* open = std::get_if<OpenPeer>(&action)) {
      peers_[{host.node, open->peer}] = open->destination;
    }
  }
}

void Simulation::note_event(const Host& host, const char* what, std::string_view name, std::uint64_t first,
                            std::uint64_t second) {
  trace_.add({events_.now(), host.node, what, name, first, second});
}

void Simulation::note_received(const Host& host, const MessageReceived& event) {
  const std::string_view name = message_name(event.message);
  ++received_[name];
  note_event(host, "receives", name, event.peer.value());
}

void Simulation::act(Host& host, const SendMessage& send) {
  note_event(host, "sends", message_name(send.message), send.peer.value(), detail(send.message));
  if (host.node == 0 && plan_.coordinator.durable) on_said(static_cast<CoordinatorHost&>(host), send);
  // What leaves a shard is final.
  if (shard_indices_.contains(host.node)) {
    const ShardIndex shard = shard_indices_.at(host.node);
    if (const auto* report = std::get_if<SettleReport>(&send.message))
      ledgers_.at(report->job).on_report(shard, *report);
    // Not what has waited for the log of a job that is over by now.
    if (job_of(send.message) == jobs_.at(host.node)) checker(host).on_left(shard, send.message);
  }
  host.hub.send(now(host), send);
  check_queue(host, send.peer);
}

void Simulation::act(Host& host, const ClosePeer& close) {
  note_event(host, "closes", "", close.peer.value());
  host.hub.close(now(host), close);
}

void Simulation::pass_on(const Host& host, const std::string& text) {
  coverage_.count("note: " + kind_of(text));
  tell("{}: {}", name_of(host), text);
}

std::string Simulation::name_of(const Host& host) const {
  if (host.node == 0) return "coordinator";
  if (host.node < kFirstWorkerNode) return fmt::format("shard {}", host.node - 1);
  return fmt::format("w{}", node_places_.at(host.node));
}

void Simulation::note_lost(const Host& host, const SessionEvent& event) {
  const auto* closed = std::get_if<PeerClosed>(&event);
  if (closed == nullptr) return;
  coverage_.count("event: session lost");
  coverage_.count("session: " + kind_of(closed->reason));
  // Servers' own limits are never met in these plans.
  if (host.node >= kFirstWorkerNode && closed->reason.starts_with("more than"))
    verdicts_.on_trouble(host.node, events_.now(), events_.now());
}

void Simulation::check_queue(const Host& host, PeerId peer) const {
  const SessionOptions& options = host.node < kFirstWorkerNode ? plan_.session : plan_.worker_session;
  const std::size_t bytes = host.hub.outstanding_bytes(peer);
  if (bytes > options.queue_bytes_max)
    fail("P7: {} bytes wait for peer {} of {}", bytes, peer, name_of(host));
}

void Simulation::count_host(const Host& host) {
  for (const NamedCount& counter : host.hub.counters().named())
    coverage_.count("hub: " + std::string(counter.name), counter.count);
  if (host.node == 0 || host.node >= kFirstWorkerNode) return;
  const ShardCore::Counters& shard = static_cast<const ShardHost&>(host).core.counters();
  coverage_.count("push: settled", shard.settled);
  coverage_.count("push: refused", shard.refused);
  coverage_.count("push: weighed", shard.weighed);
  coverage_.count("push: duplicate", shard.duplicates);
  coverage_.count("push: of the dead", shard.fenced);
  coverage_.count("version: published", shard.versions);
  coverage_.count("version: caught up", shard.catch_ups);
  coverage_.count("version: held", shard.held);
}

JobId Simulation::job_of(const Message& message) {
  return std::visit(
      [](const auto& m) {
        if constexpr (requires { m.header.job; })
          return m.header.job;
        else if constexpr (requires { m.job; })
          return m.job;
        else
          return JobId();
      },
      message);
}

std::uint64_t Simulation::detail(const Message& message) {
  if (const auto* push = std::get_if<Push>(&message)) return push->sequence.value();
  if (const auto* version = std::get_if<Publish>(&message)) return version->header.version.value();
  if (const auto* assign = std::get_if<Assign>(&message)) return assign->header.version.value();
  if (const auto* membership = std::get_if<Membership>(&message)) return membership->epoch.value();
  if (const auto* lease = std::get_if<LeaseGrant>(&message)) return lease->range.begin;
  return 0;
}

}  // namespace nanduti::sim
