#include "test/sim/verdict_checker.h"

#include <algorithm>

#include "test/sim/trace.h"

namespace nanduti::sim {

namespace {

/// The coordinator looks once a second, and so does audit().
constexpr Duration kSlack = std::chrono::milliseconds(2500);
/// What was on its way, and what waits for a time-out of the sessions, may follow the fault by so long.
constexpr Duration kAftermath = std::chrono::seconds(5);

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void VerdictChecker::on_end(int node, ProtocolTime at) {
  ProtocolTime& from = processes_.at(node).excused_from;
  from = std::min(from, at);
}

VerdictChecker::Worker* VerdictChecker::worker_of(IncarnationOrder order) {
  for (auto& [peer, worker] : workers_)
    if (worker.order == order) return &worker;
  const auto away = away_.find(order);
  return away == away_.end() ? nullptr : &away->second;
}

void VerdictChecker::on_coordinator_crash() {
  for (auto& [peer, worker] : std::exchange(workers_, {})) away_.insert_or_assign(worker.order, worker);
  parts_.clear();
  epoch_ = MembershipEpoch();
}

void VerdictChecker::on_coordinator_back(const Moment& now) {
  for (auto& [order, worker] : away_) worker.heard = worker.sign = worker.settled = worker.waited = now;
}

void VerdictChecker::on_heard(PeerId peer, const Message& message, const Moment& now) {
  if (const auto* registration = std::get_if<RegisterWorker>(&message)) {
    Worker worker;
    worker.node = nodes_.at(registration->incarnation);
    worker.sign = worker.settled = now;
    workers_.insert_or_assign(peer, worker);
  }
  // A shard is back: nobody could settle anything.
  if (std::holds_alternative<RegisterShard>(message))
    for (auto& [other, worker] : workers_) worker.sign = worker.settled = now;
  const auto it = workers_.find(peer);
  if (it == workers_.end()) return;
  Worker& worker = it->second;
  worker.heard = now;
  if (const auto* done = std::get_if<EvaluationDone>(&message)) on_evaluated(worker, *done, now);
  const auto* status = std::get_if<WorkerStatus>(&message);
  if (status == nullptr) return;
  const WorkerStatus& before = worker.status;
  if (status->job != before.job || status->samples > before.samples ||
      status->evaluation_seconds > before.evaluation_seconds || (before.at_gate && !status->at_gate))
    worker.sign = now;
  worker.status = *status;
  // A transfer that goes on: 64 KiB within a minute.
  const std::uint64_t bytes = status->bytes_up + status->bytes_down;
  const bool is_less = bytes < worker.bytes;
  const bool moves = !is_less && bytes - worker.bytes >= std::uint64_t{64} << 10;
  if (moves) worker.sign = now;
  if (moves || is_less || now.own - worker.bytes_since.own >= std::chrono::minutes(1)) {
    worker.bytes = bytes;
    worker.bytes_since = now;
  }
}

/// The first answer counts.
void VerdictChecker::on_evaluated(Worker& worker, const EvaluationDone& done, const Moment& now) {
  const auto part = parts_.find({done.job, done.lease});
  if (part == parts_.end() || !part->second.asked.contains(worker.order)) return;
  worker.settled = now;
  parts_.erase(part);
}

void VerdictChecker::on_closed(PeerId peer) {
  if (const auto it = workers_.find(peer); it != workers_.end()) it->second.closed = true;
}

void VerdictChecker::on_settled(const SettleReport& report, const Moment& now) {
  for (const SettleEntry& entry : report.entries)
    if (Worker* worker = worker_of(entry.order)) {
      worker->sign = now;
      // Only a round that is settled on every shard.
      if (!members_.knows(entry.order) || members_.clock_of(entry.order) <= worker->clock) continue;
      worker->clock = members_.clock_of(entry.order);
      worker->settled = now;
    }
}

void VerdictChecker::on_said(PeerId peer, const Message& message, const Moment& now) {
  if (const auto* membership = std::get_if<Membership>(&message)) return on_membership(*membership, now);
  if (const auto* release = std::get_if<ReleaseCut>(&message))
    std::erase_if(parts_, [&](const auto& part) {
      return part.first.first == release->job && part.second.cut == release->cut;
    });
  const auto it = workers_.find(peer);
  if (it == workers_.end()) return;
  Worker& worker = it->second;
  if (const auto* registered = std::get_if<Registered>(&message)) {
    worker.order = registered->order;
    const auto away = away_.find(worker.order);
    if (away == away_.end()) return;
    worker.active = away->second.active;
    worker.clock = away->second.clock;
    away_.erase(away);
  } else if (const auto* lease = std::get_if<EvaluationLease>(&message)) {
    Part& part = parts_[{lease->job, lease->lease}];
    part.cut = lease->cut;
    part.asked.insert(worker.order);
  } else if (std::holds_alternative<FlushResidual>(message)) {
    worker.sign = worker.settled = now;
  } else if (std::holds_alternative<Fenced>(message)) {
    check_dead(worker, now);
    workers_.erase(it);
  }
}

void VerdictChecker::on_membership(const Membership& membership, const Moment& now) {
  if (membership.job == job_ && membership.epoch <= epoch_) return;  // to another shard already
  if (membership.job != job_)
    for (auto& [peer, worker] : workers_) worker.active = false;  // it was so in the job before
  job_ = membership.job;
  epoch_ = membership.epoch;
  for (const Member& member : membership.members) {
    Worker* worker = worker_of(member.order);
    if (worker == nullptr) continue;
    if (member.state == MemberState::kSuspended && worker->active) {
      if (now.own - worker->heard.own < plan_.coordinator.suspend_after)
        fail("P5: incarnation {} is suspended and was heard of {:.1f} s ago", member.order,
             seconds(now.own - worker->heard.own));
      if (!is_disturbed(worker->node, worker->heard.world, now.world))
        fail("P5: incarnation {} is suspended and nothing has befallen it for {:.1f} s", member.order,
             seconds(now.world - worker->heard.world));
    }
    const bool active = member.state == MemberState::kActive;
    if (active && !worker->active) worker->sign = worker->settled = now;
    worker->active = active;
  }
  std::erase_if(away_, [&](const auto& worker) { return !members_.knows(worker.first); });
}

void VerdictChecker::check_dead(const Worker& worker, const Moment& now) const {
  const CoordinatorOptions& limits = plan_.coordinator;
  const auto is_over = [&](const Moment& last, Duration limit) {
    return now.own - last.own >= limit && now.own - worker.waited.own >= limit - kSlack &&
           !waits_for_others(worker);
  };
  ProtocolTime since;
  if (worker.closed || now.own - worker.heard.own >= limits.dead_after) {
    coverage_.count(worker.closed ? "verdict: its session was lost" : "verdict: silent");
    since = worker.heard.world;
  } else if (is_over(worker.sign, limits.lease_timeout)) {
    coverage_.count("verdict: no sign of work");
    since = worker.sign.world;
  } else if (is_over(worker.settled, kUnsettledLeasesMax * limits.lease_timeout)) {
    coverage_.count("verdict: nothing settled");
    if (is_slower_than_its_limit()) return;
    since = worker.settled.world;
  } else {
    fail(
        "P5: incarnation {} is declared dead; it was heard of {:.1f} s ago, gave a sign of work {:.1f} s ago",
        worker.order, seconds(now.own - worker.heard.own), seconds(now.own - worker.sign.own));
  }
  if (!is_disturbed(worker.node, since, now.world))
    fail("P5: incarnation {} is declared dead and nothing has befallen it for {:.1f} s", worker.order,
         seconds(now.world - since));
}

/// A step of a deterministic job waits for the model's and a push's way over every link.
bool VerdictChecker::is_slower_than_its_limit() const {
  if (!plan_.deterministic) return false;
  const double limit = seconds(kUnsettledLeasesMax * plan_.coordinator.lease_timeout);
  const double model_bytes = static_cast<double>(plan_.parameters * sizeof(float));
  return std::any_of(plan_.places.begin(), plan_.places.end(), [&](const PlacePlan& place) {
    return 4 * model_bytes / place.link.bytes_per_second > limit;
  });
}

bool VerdictChecker::waits_for_others(const Worker& worker) const {
  if (!worker.status.at_gate || worker.status.job != job_ || !members_.is_active(worker.order)) return false;
  return members_.clock_of(worker.order) > members_.smallest_active_clock();
}

bool VerdictChecker::is_disturbed(int node, ProtocolTime from, ProtocolTime to) const {
  const Process& process = processes_.at(node);
  if (process.excused_from <= to) return true;
  from -= kAftermath;
  const auto meets = [&](const auto& span) { return span.begin <= to && span.end >= from; };
  const auto concerns = [&](const Target& target) {
    return target.kind != Target::Kind::kWorker || target.index == process.place;
  };
  for (const Partition& partition : plan_.partitions)
    if (meets(partition) && concerns(partition.target)) return true;
  for (const Pause& pause : plan_.pauses)
    if (meets(pause) && concerns(pause.target)) return true;
  const LinkPlan& link = plan_.places.at(process.place).link;
  if (from <= plan_.heal_at && link.loss + link.refusals + link.breaks > 0) return true;
  return std::any_of(process.troubles.begin(), process.troubles.end(), meets) ||
         std::any_of(server_troubles_.begin(), server_troubles_.end(), meets);
}

void VerdictChecker::audit(const Moment& now, bool a_shard_is_away) {
  if (a_shard_is_away)
    for (auto& [peer, worker] : workers_) worker.sign = worker.settled = now;
  bool somebody_waits = false;
  for (auto& [peer, worker] : workers_) {
    if (!waits_for_others(worker)) continue;
    worker.waited = now;
    somebody_waits = true;
  }
  if (!somebody_waits) return;
  for (const auto& [peer, worker] : workers_) {
    if (!worker.active || !members_.is_active(worker.order)) continue;
    if (members_.clock_of(worker.order) > members_.smallest_active_clock()) continue;
    const CoordinatorOptions& limits = plan_.coordinator;
    const Duration quiet = now.own - std::max(worker.sign.own, worker.waited.own);
    if (quiet > limits.lease_timeout + kSlack)
      fail("P5: incarnation {} holds the others at the gate and has given no sign of work for {:.1f} s",
           worker.order, seconds(quiet));
    const Duration unsettled = now.own - std::max(worker.settled.own, worker.waited.own);
    if (unsettled > kUnsettledLeasesMax * limits.lease_timeout + kSlack)
      fail("P5: incarnation {} holds the others at the gate and has settled nothing for {:.1f} s",
           worker.order, seconds(unsettled));
  }
}

}  // namespace nanduti::sim
