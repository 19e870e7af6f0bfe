// The life of a job: planned, opened, trained on leases, flushed, at rest, saved.
#include <algorithm>

#include "common/base/check.h"
#include "common/tensor/parameter_space.h"
#include "server/coordinator/coordinator_core.h"

namespace nanduti {

void CoordinatorCore::handle(ProtocolTime, const SubmitJob& event) {
  JobView view;
  view.plan = event.plan;
  jobs_.emplace(event.plan.id, std::move(view));
  actions_.push_back(JobChanged{event.plan.id});
}

void CoordinatorCore::handle(ProtocolTime, const CancelJob& event) {
  const auto it = jobs_.find(event.job);
  if (it == jobs_.end()) return;
  if (run_ && run_->job == event.job) return end_job(JobState::kCancelled, event.reason);
  if (it->second.state != JobState::kQueued) return;
  it->second.state = JobState::kCancelled;
  it->second.reason = event.reason;
  actions_.push_back(JobChanged{event.job});
}

void CoordinatorCore::handle(ProtocolTime, const ModelPlanned& event) {
  if (!run_ || run_->job != event.job || run_->phase != Phase::kPlanning) return;
  if (!event.result.ok()) return end_job(JobState::kFailed, event.result.error().message);
  if (event.result->layout_hash != run_->layout_hash)
    return end_job(JobState::kFailed, "the workers lay the model out differently than this server");
  run_->planned = event.result.value();
}

void CoordinatorCore::handle(ProtocolTime, const ResultSaved& event) {
  if (!run_ || run_->job != event.job || run_->phase != Phase::kSaving) return;
  if (event.status.ok())
    end_job(JobState::kDone, {});
  else
    end_job(JobState::kFailed, event.status.error().message);
}

void CoordinatorCore::advance(ProtocolTime now) {
  if (run_) end_if_all_refused();
  if (!run_) start_next_job();
  if (!run_) return;
  for (auto& [order, worker] : workers_) {
    if (worker.part != Part::kNone || worker.draining || run_->phase == Phase::kSaving) continue;
    worker.part = Part::kPreparing;
    worker.prepare_since = now;
    tell(worker.peer, PrepareJob{run_->job, view_of_run().plan.spec_text});
  }
  if (run_->phase == Phase::kPreparing) plan_when_prepared();
  if (run_->phase == Phase::kPlanning) open_shards();
  if (!run_) return;  // the model is too large for the shards
  if (run_->phase == Phase::kOpening) begin_training(now);
  // Also late ones: the last evaluation may have nobody else.
  if (run_->phase >= Phase::kTraining && run_->phase < Phase::kSaving)
    for (auto& [order, worker] : workers_)
      if (worker.part == Part::kPrepared && !worker.draining && !is_lockstep()) join(worker);
  if (run_->phase == Phase::kTraining) {
    serve_leases();
    retire_idle();
  }
  if (run_->phase >= Phase::kTraining && run_->phase <= Phase::kResting) cut_complete_epochs();
  if (run_->book) {
    JobView& view = view_of_run();
    view.samples = run_->book->counted_in_all();
    view.repeated_samples = run_->book->repeated_samples();
    record_progress(now);
    advance_tuning(now);
    if (run_->phase == Phase::kTraining) cut_within_epochs();
    lend_evaluations();
    advance_end();
  }
  if (run_) send_membership();
}

void CoordinatorCore::start_next_job() {
  if (count_connected_shards() < options_.shards) return;
  for (auto& [id, job] : jobs_) {
    if (job.state != JobState::kQueued) continue;
    job.state = JobState::kRunning;
    job.started = now_;
    run_.emplace(Run());
    run_->job = id;
    run_->phase_since = now_;
    for (auto& [order, worker] : workers_) {
      // What the last job left in a worker's record is no part of this one.
      worker.part = Part::kNone;
      worker.told_full = worker.differs = worker.overdue = false;
      worker.state = MemberState::kIdle;
      worker.wants_lease = worker.flushed = worker.at_gate = worker.evaluates_late = false;
      worker.entry_clock = Round();
      worker.active_from = MembershipEpoch();
      worker.clocks.clear();
    }
    actions_.push_back(JobChanged{id});
    return;
  }
}

void CoordinatorCore::enter(Phase phase) {
  run_->phase = phase;
  run_->phase_since = now_;
}

void CoordinatorCore::plan_when_prepared() {
  std::uint32_t prepared = 0;
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kPrepared && !worker.draining) ++prepared;
  if (prepared < view_of_run().plan.workers_to_start) return;
  enter(Phase::kPlanning);
  actions_.push_back(PlanModel{run_->job, view_of_run().plan.spec_text, *run_->data});
}

void CoordinatorCore::open_shards() {
  // Shards may have gone since the job began.
  if (!run_->planned || count_connected_shards() < options_.shards) return;
  enter(Phase::kOpening);
  std::erase_if(shards_, [](const Shard& shard) { return !shard.connected; });
  for (Shard& shard : shards_) shard.opened = shard.at_rest = false;
  const auto count = static_cast<std::uint32_t>(std::min(shards_.size(), kShardsMax));
  const std::vector<ParameterRange> ranges = split_into_shards(run_->planned->parameters, count);
  for (const ParameterRange& range : ranges) {
    if (range.size() <= kShardParametersMax) continue;
    const std::uint64_t parameters = run_->planned->parameters;
    return end_job(
        JobState::kFailed,
        fmt::format("the model's {} parameters are too many for {} shard{}: each holds at most {}, "
                    "so that it takes {}",
                    parameters, count, count == 1 ? "" : "s", kShardParametersMax,
                    (parameters + kShardParametersMax - 1) / kShardParametersMax));
  }
  for (std::uint32_t k = 0; k < count; ++k) {
    const RegisterShard& shard = shards_[k].registration;
    run_->places.push_back(
        {shard.endpoint, ShardIndex(k), shard.destination, ranges[k].begin, ranges[k].end});
    open_shard(ShardIndex(k));
  }
}

void CoordinatorCore::open_shard(ShardIndex index) {
  const ShardPlace& place = run_->places.at(index.value());
  tell(shards_.at(index.value()).peer,
       OpenShard{run_->job, view_of_run().plan.spec_text, *run_->data, index, place.begin, place.end,
                 run_->layout_hash, view_of_run().plan.key});
}

void CoordinatorCore::begin_training(ProtocolTime now) {
  for (std::size_t k = 0; k < run_->places.size(); ++k)
    if (!shards_[k].opened) return;
  JobView& view = view_of_run();
  std::uint32_t ready = 0;
  for (const auto& [order, worker] : workers_)
    ready += worker.part == Part::kPrepared && !worker.draining ? 1 : 0;
  if (view.plan.deterministic && ready < view.plan.workers_to_start) return;  // some left since they prepared
  view.samples_total = run_->data->train_samples * view.plan.epochs;
  begin_tuning();
  run_->book.emplace(LeaseBookOptions{run_->data->train_samples, view.plan.epochs, round_samples(),
                                      static_cast<std::uint32_t>(run_->places.size())});
  enter(Phase::kTraining);
  view.progress.on_training(now);
  // Those who are ready begin together, in the first membership.
  for (auto& [order, worker] : workers_) {
    if (worker.part != Part::kPrepared || worker.draining) continue;
    if (worker.silent && !view.plan.deterministic) continue;  // it joins as idle, and is lent to once heard
    if (view.plan.deterministic) {
      if (run_->ranks.size() == std::min<std::size_t>(view.plan.workers_to_start, kMembersMax)) continue;
      run_->ranks.push_back(order);
    }
    join(worker);
    if (worker.part != Part::kJoined) break;
    activate(worker);
  }
}

void CoordinatorCore::join(Worker& worker) {
  const auto joined = std::count_if(workers_.begin(), workers_.end(),
                                    [](const auto& w) { return w.second.part == Part::kJoined; });
  if (static_cast<std::size_t>(joined) >= kMembersMax) {
    if (!std::exchange(worker.told_full, true))
      note(fmt::format("worker '{}' waits: {} workers take part in job {} already", worker.registration.name,
                       kMembersMax, run_->job),
           true);
    return;
  }
  worker.part = Part::kJoined;
  view_of_run().progress.on_joined(worker.order);
  record_participant(worker);
  worker.state = MemberState::kIdle;
  worker.flushed = run_->phase != Phase::kTraining;  // nothing to flush
  worker.wants_lease = false;
  worker.entry_clock = entry_clock();
  worker.clocks.assign(run_->places.size(), Round());
  run_->membership_changed = true;
  worker.tuned = 0;
  tell(worker.peer, JoinJob{run_->job, run_->layout_hash, run_->places});
  tell_tuning(worker.peer, Round());  // it has not begun any
}

/// Once for all lives of one worker.
void CoordinatorCore::record_participant(const Worker& worker) {
  const RegisterWorker& who = worker.registration;
  const ParticipantReport participant{who.name, who.site, who.device, who.hardware};
  JobView& view = view_of_run();
  if (std::find(view.participants.begin(), view.participants.end(), participant) != view.participants.end())
    return;
  if (view.participants.size() < kParticipantsMax) return view.participants.push_back(participant);
  if (std::exchange(run_->participants_full, true)) return;
  view.warnings.push_back(fmt::format(
      "more than {} workers have taken part: the job's record names no others", kParticipantsMax));
  note(view.warnings.back(), true);
}

void CoordinatorCore::grant(Worker& worker, const LeaseBook::Lease& lease) {
  worker.wants_lease = false;
  view_of_run().progress.on_lease(now_);
  tell(worker.peer,
       LeaseGrant{run_->job, lease.id, lease.range, worker.active_from, worker.entry_clock, lease.ahead});
}

void CoordinatorCore::serve_ranks() {
  const auto ranks = static_cast<std::uint32_t>(run_->ranks.size());
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    Worker& worker = workers_.at(run_->ranks[rank]);
    if (!worker.wants_lease || worker.draining) continue;
    const auto lease = run_->book->lend_section(worker.order, rank, ranks);
    if (!lease) continue;  // it has had all; it stays active, so that the last steps are steps of all
    grant(worker, *lease);
  }
}

/// What a worker computes while it asks for more, as its last status has it: at least 1.
std::uint64_t CoordinatorCore::rounds_in_round_trip(const Worker& worker) const {
  const WorkerStatus& status = worker.status;
  if (status.job != run_->job || status.compute_seconds <= 0 || status.round_trip_seconds <= 0) return 1;
  const double samples =
      static_cast<double>(status.samples) / status.compute_seconds * status.round_trip_seconds;
  const double rounds = samples / static_cast<double>(round_samples());
  return 1 + static_cast<std::uint64_t>(std::clamp(rounds, 0.0, static_cast<double>(kLeaseRoundsMax)));
}

void CoordinatorCore::serve_leases() {
  if (is_lockstep()) return serve_ranks();
  for (auto& [order, worker] : workers_) {
    // Not to a silent one either, idle or suspended: the samples would wait for it.
    if (!worker.wants_lease || worker.draining || worker.silent) continue;
    if (worker.state == MemberState::kSuspended) continue;
    NANDUTI_CHECK(worker.part == Part::kJoined);
    if (!run_->book->has_free()) continue;
    if (worker.state == MemberState::kIdle) activate(worker);
    const auto lease = run_->book->lend(order, count_active(), rounds_in_round_trip(worker));
    NANDUTI_CHECK(lease.has_value());
    grant(worker, *lease);
  }
}

void CoordinatorCore::retire_idle() {
  if (run_->book->has_free() || is_lockstep()) return;
  for (auto& [order, worker] : workers_) {
    const bool has_work = run_->book->holds_lease(order) || !worker.wants_lease;
    if (worker.part != Part::kJoined || worker.state != MemberState::kActive || has_work) continue;
    make_idle(worker);
    tell(worker.peer, NoLease{run_->job});
  }
}

void CoordinatorCore::advance_end() {
  Run& run = *run_;
  if (run.phase == Phase::kTraining && run.book->is_complete() && run.fences.empty()) {
    enter(Phase::kFlushing);
    for (const auto& [order, worker] : workers_)
      if (worker.part == Part::kJoined) tell(worker.peer, FlushResidual{run.job});
  }
  if (run.phase == Phase::kFlushing) {
    for (const auto& [order, worker] : workers_)
      if (worker.part == Part::kJoined && !worker.flushed) return;
    enter(Phase::kResting);
    tell_shards(Rest{run.job});
  }
  if (run.phase == Phase::kResting) {
    for (std::size_t k = 0; k < run.places.size(); ++k)
      if (!shards_[k].at_rest) return;
    if (run.epochs_cut + 1 < view_of_run().plan.epochs) return;
    enter(Phase::kFinalCut);
    take_cut(view_of_run().plan.epochs, true);
  }
}

void CoordinatorCore::send_membership() {
  Run& run = *run_;
  if (!run.membership_changed) return;
  run.membership_changed = false;
  run.epoch = run.epoch.next();
  run.active_counts.push_back(count_active());
  Membership next = membership();
  // Beyond the maximum the dead are left out: each has been fenced by a message of its own.
  for (const IncarnationOrder order : std::exchange(run.dying, {}))
    if (next.members.size() < kMembersMax) next.members.push_back({order, {}, MemberState::kDead, {}});
  tell_shards(next);
}

/// As it is now, without the dead.
Membership CoordinatorCore::membership() const {
  Membership membership{run_->job, run_->epoch, {}, {}};
  for (const auto& [order, worker] : workers_)
    if (worker.part == Part::kJoined)
      membership.members.push_back(
          {order, worker.registration.incarnation, worker.state, worker.entry_clock});
  return membership;
}

void CoordinatorCore::end_job(JobState state, const std::string& reason) {
  JobView& view = view_of_run();
  view.state = state;
  view.reason = reason;
  view.progress.on_end();
  for (auto& [order, worker] : workers_) {
    if (worker.part != Part::kNone && worker.part != Part::kRefused)
      tell(worker.peer, EndJob{run_->job, reason.empty() ? "the job is done" : reason});
    worker.part = Part::kNone;
    worker.state = MemberState::kIdle;
  }
  std::erase_if(workers_, [](const auto& worker) { return worker.second.peer == PeerId(); });
  tell_shards(CloseShard{run_->job});
  actions_.push_back(JobChanged{run_->job});
  run_.reset();
}

}  // namespace nanduti
