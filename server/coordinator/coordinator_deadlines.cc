// What the coordinator does about those who are silent, and about those who are heard of and do not do what
// they were asked: every wait has an end.
#include <algorithm>

#include "server/coordinator/coordinator_core.h"

namespace nanduti {

namespace {

constexpr std::uint32_t kExpiredInARowMax = 5;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void CoordinatorCore::on_deadline(ProtocolTime now) {
  now_ = now;
  if (now >= next_check_) look_around();
  end_event();
}

void CoordinatorCore::look_around() {
  next_check_ = now_ + kCheckEvery;
  for (Shard& shard : shards_) check_silence(shard);
  std::vector<IncarnationOrder> orders;
  for (const auto& [order, worker] : workers_) orders.push_back(order);
  for (const IncarnationOrder order : orders) {
    // Each may be dead by then, or the job over.
    if (const auto worker = workers_.find(order); worker != workers_.end()) check_silence(worker->second);
    if (const auto worker = workers_.find(order); worker != workers_.end()) check_answers(worker->second);
  }
  if (run_) check_evaluations();
  if (run_) check_shards();
  advance(now_);
}

/// While one is silent nobody can settle anything: that is not the workers' fault.
void CoordinatorCore::check_silence(Shard& shard) {
  if (!shard.connected || !shard.last_heard) return;
  const bool silent = now_ - *shard.last_heard >= options_.suspend_after;
  if (std::exchange(shard.silent, silent) == silent) return;
  note(fmt::format("shard {} of '{}' is {}", shard.registration.destination, shard.registration.server_name,
                   silent ? "silent" : "heard of again"),
       silent);
  if (!silent && run_) begin_waiting_anew();
}

void CoordinatorCore::begin_waiting_anew() {
  for (auto& [order, worker] : workers_) worker.last_progress = worker.last_settled = now_;
  for (auto& [id, cut] : run_->cuts)
    for (auto& [lease, part] : cut.evaluation)
      if (part.order != IncarnationOrder()) part.since = now_;
}

void CoordinatorCore::check_silence(Worker& worker) {
  const Duration silence = now_ - worker.last_heard;
  // Others evaluate what a silent one was to; its answer counts if it comes before theirs.
  worker.silent = silence >= options_.suspend_after;
  if (worker.silent && worker.part == Part::kJoined) release_evaluations(worker.order, false);
  if (silence >= options_.dead_after) return declare_dead(worker, "nothing was heard of it for too long");
  if (!worker.silent || worker.part != Part::kJoined || is_lockstep()) return;
  if (worker.state != MemberState::kActive) return;
  worker.state = MemberState::kSuspended;
  run_->membership_changed = true;
  note(fmt::format("worker '{}' is silent: suspended", worker.registration.name), true);
}

/// Whether nothing has come of what the worker was asked since then. Signs of work put it off, but not for
/// ever.
bool CoordinatorCore::is_stuck(const Worker& worker, ProtocolTime since) const {
  if (now_ - std::max(worker.last_progress, since) >= options_.lease_timeout) return true;
  return now_ - std::max(worker.last_settled, since) >= kUnsettledLeasesMax * options_.lease_timeout;
}

void CoordinatorCore::check_answers(Worker& worker) {
  if (!run_ || worker.state == MemberState::kSuspended) return;  // silence has its own end
  if (worker.part == Part::kPreparing && now_ - worker.prepare_since >= options_.prepare_timeout) {
    worker.overdue = true;
    return on_refused(worker, fmt::format("it has not read the job's data within {:g} s",
                                          seconds(options_.prepare_timeout)));
  }
  if (worker.part != Part::kJoined || is_a_shard_away()) return;
  if (run_->phase == Phase::kTraining && worker.state == MemberState::kActive) return check_round(worker);
  if (run_->phase != Phase::kFlushing || worker.flushed) return;
  // Its updates are settled in one step with those of somebody who does not send any.
  if (is_lockstep() && worker.at_gate && waits_for_others(worker)) {
    worker.last_progress = worker.last_settled = now_;
    return;
  }
  if (is_stuck(worker, run_->phase_since))
    declare_dead(
        worker, fmt::format("its last updates have not come within {:g} s", seconds(options_.lease_timeout)));
}

/// Of an active worker, for which others wait at the gate.
void CoordinatorCore::check_round(Worker& worker) {
  if (!run_->book->holds_lease(worker.order)) {
    if (is_lockstep()) {
      if (!worker.wants_lease && is_stuck(worker, run_->phase_since))
        declare_dead(worker, "it has asked for no samples for too long");
    } else if (worker.draining || now_ - worker.last_progress >= options_.suspend_after) {
      make_idle(worker);  // active again when it asks
      worker.wants_lease = false;
    }
    return;
  }
  if (worker.at_gate && waits_for_others(worker)) {
    worker.last_progress = worker.last_settled = now_;
    return;
  }
  if (is_stuck(worker, run_->phase_since)) expire_lease(worker);
}

/// Whether somebody may keep it waiting at the gate; it says that it waits, but it may be the one that all
/// wait for, cut off from its shards. In lockstep a step is settled for all at once, so that settled clocks
/// say nothing: there it is whoever does not wait, or has come less far.
bool CoordinatorCore::waits_for_others(const Worker& worker) const {
  if (!is_lockstep()) return clock(worker) > *smallest_active_clock();
  for (const auto& [order, other] : workers_) {
    if (other.part != Part::kJoined || other.state != MemberState::kActive || other.flushed) continue;
    if (!other.at_gate || other.status.clock < worker.status.clock) return true;
  }
  return false;
}

/// When nobody settles anything, the rounds are too long. Leases that ran at the same time count as one:
/// their workers may have been cut off together.
void CoordinatorCore::expire_lease(Worker& worker) {
  declare_dead(worker, "its lease has expired");
  if (run_->expired_in_a_row > 0 && now_ - run_->last_expired < options_.lease_timeout) return;
  run_->last_expired = now_;
  if (++run_->expired_in_a_row < kExpiredInARowMax) return;
  end_job(
      JobState::kFailed,
      fmt::format("no round was finished within the lease's time of {:g} s, {} times in a row: raise the "
                  "server's membership.lease_timeout, or lower staleness.local_steps or training.batch_size",
                  seconds(options_.lease_timeout), kExpiredInARowMax));
}

/// A part of the test set that its worker does not finish is lent to another one.
void CoordinatorCore::check_evaluations() {
  if (is_a_shard_away()) return;
  for (auto& [id, cut] : run_->cuts) {
    for (auto& [lease, part] : cut.evaluation) {
      if (part.order == IncarnationOrder()) continue;
      Worker& worker = workers_.at(part.order);
      const Duration lent_for = now_ - part.since;
      if (!is_stuck(worker, part.since) && lent_for < kUnsettledLeasesMax * options_.lease_timeout) continue;
      worker.evaluates_late = true;
      note(fmt::format("worker '{}' has not evaluated its part of {} within {:g} s", worker.registration.name,
                       cut.name(), seconds(options_.lease_timeout)),
           true);
      part.order = IncarnationOrder();
      part.since = now_;
      ++part.tries_failed;
    }
  }
}

/// A shard that lives and does not answer: the job cannot go on without it.
void CoordinatorCore::check_shards() {
  const auto fail = [&](std::size_t index, std::string_view what) {
    end_job(JobState::kFailed,
            fmt::format("shard {} of '{}' has not {} within {:g} s", index,
                        shards_[index].registration.server_name, what, seconds(options_.shard_timeout)));
  };
  const auto is_over = [&](ProtocolTime since) { return now_ - since >= options_.shard_timeout; };
  for (std::size_t k = 0; k < run_->places.size(); ++k) {
    const ShardIndex shard(static_cast<std::uint32_t>(k));
    if (!shards_[k].connected && is_over(shards_[k].away_since)) return fail(k, "come back");
    if (run_->phase == Phase::kOpening && !shards_[k].opened && is_over(run_->phase_since))
      return fail(k, "taken its part of the model");
    if (run_->phase == Phase::kResting && !shards_[k].at_rest && is_over(run_->phase_since))
      return fail(k, "come to rest");
    for (const auto& [order, wait] : run_->fences)
      if ((wait.shards >> k & 1) != 0 && is_over(wait.since)) return fail(k, "fenced a worker that is gone");
    for (const auto& [id, cut] : run_->cuts)
      if (!cut.saved && !cut.shards.contains(shard) && is_over(cut.since))
        return fail(k, fmt::format("sent its parameters of {}", cut.name()));
  }
}

}  // namespace nanduti
