// What operators see of the core's state. Nothing here changes how a job runs.
#include <algorithm>

#include "server/coordinator/coordinator_core.h"

namespace nanduti {

namespace {

/// A running job whose samples do not move for so long says what it waits for.
constexpr Duration kQuietMax = std::chrono::seconds(5);

std::string counted(std::size_t count, std::string_view one) {
  return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s");
}

/// "2 workers to read the data (1 is ready)".
std::string missing(const std::string& wanted, std::size_t there, std::string_view how) {
  return fmt::format("{} ({} {} {})", wanted, there, there == 1 ? "is" : "are", how);
}

}  // namespace

std::string_view to_string(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "queued";
    case JobState::kRunning:
      return "running";
    case JobState::kDone:
      return "done";
    case JobState::kFailed:
      return "failed";
    case JobState::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

void CoordinatorCore::on_status(ProtocolTime now, Worker& worker, const WorkerStatus& status) {
  // Who had to wait for others, computes or evaluates is not stuck, even if nothing of it settles.
  const WorkerStatus& before = worker.status;
  const bool works = status.job != before.job || status.samples > before.samples ||
                     status.evaluation_seconds > before.evaluation_seconds;
  const bool moves = moves_bytes(worker, status);
  if (works || moves || (worker.at_gate && !status.at_gate)) worker.last_progress = now;
  worker.at_gate = status.at_gate;
  worker.status = status;
  // Also of a job that is over: the last status comes after its end.
  const auto job = jobs_.find(status.job);
  if (job == jobs_.end()) return;
  if (run_ && run_->job == status.job && run_->tuner && worker.part == Part::kJoined)
    run_->tuner->on_status(now, worker.order, status);
  job->second.progress.on_status(now, worker.order, status);
  if (is_over(job->second.state)) actions_.push_back(JobChanged{status.job});
}

/// Whether a transfer goes on, of the shadow, a push or a cut: each may take longer than any time-out. What a
/// worker that does nothing has to say is less than that.
bool CoordinatorCore::moves_bytes(Worker& worker, const WorkerStatus& status) const {
  const std::uint64_t bytes = status.bytes_up + status.bytes_down;
  const bool is_less = bytes < worker.traffic_bytes;  // of another job, or a lie
  const bool moves = !is_less && bytes - worker.traffic_bytes >= kTrafficBytesMin;
  if (moves || is_less || now_ - worker.traffic_since >= kTrafficSpan) {
    worker.traffic_bytes = bytes;
    worker.traffic_since = now_;
  }
  return moves;
}

void CoordinatorCore::record_progress(ProtocolTime now) {
  JobView& view = view_of_run();
  view.progress.on_samples(now, view.samples);
  while (view.progress.epochs().size() < view.plan.epochs) {
    const DataEpoch next(static_cast<std::uint32_t>(view.progress.epochs().size()));
    if (!run_->book->is_complete(next)) break;
    view.progress.on_epoch_settled(now, run_->book->counted(next));
  }
}

std::optional<JobReport> CoordinatorCore::job_report(ProtocolTime now, JobId job) const {
  const JobView* found = view(job);
  if (found == nullptr) return std::nullopt;
  return report(now, *found);
}

std::vector<JobReport> CoordinatorCore::job_reports(ProtocolTime now) const {
  std::vector<JobReport> reports;
  for (const auto& [id, job] : jobs_) reports.push_back(report(now, job));
  return reports;
}

JobReport CoordinatorCore::report(ProtocolTime now, const JobView& job) const {
  const JobFigures& progress = job.progress;
  JobReport report;
  report.id = job.plan.id;
  report.name = job.plan.name;
  report.state = job.state;
  report.reason = job.reason;
  report.target = job.plan.target_accuracy;
  report.epochs = job.plan.epochs;
  report.samples = job.samples;
  report.samples_total = job.samples_total;
  report.repeated_samples = job.repeated_samples;
  report.warnings = job.warnings;
  report.participants = job.participants;
  for (const Tuning& tuning : job.tunings)
    report.tunings.push_back({tuning.number, tuning.staleness.bound, tuning.staleness.auto_bound,
                              tuning.staleness.local_steps, tuning.staleness.auto_local_steps,
                              (tuning.in_force ? tuning.in_force_from : tuning.from_round).value(),
                              tuning.in_force, tuning.seconds, tuning.why, tuning.settings});
  if (job.samples_total > 0)
    report.epoch = std::min(job.plan.epochs, static_cast<std::uint32_t>(progress.epochs().size()) + 1);
  report.loss = progress.recent_loss(now);
  report.staleness = progress.staleness();
  report.stall_fraction = progress.stall_fraction();
  report.pipeline = progress.pipeline();
  report.bytes_up = progress.bytes_up();
  report.bytes_down = progress.bytes_down();
  report.training_seconds = progress.training_seconds(now, job.samples_total);
  if (job.started) report.started_s = to_seconds(job.started->time_since_epoch() + options_.wall_offset);
  if (job.state == JobState::kRunning) {
    report.samples_per_s = progress.samples_per_second(now);
    report.eta_s = progress.seconds_left(now, job.samples_total);
  } else if (report.training_seconds > 0) {  // the whole job's mean
    report.samples_per_s = static_cast<double>(job.samples) / report.training_seconds;
  }
  for (const JobFigures::Epoch& epoch : progress.epochs())
    report.figures.push_back(
        {epoch.epoch, epoch.seconds, {}, {}, epoch.loss, epoch.samples, epoch.evaluation_seconds});
  std::uint32_t evaluated = 0;
  for (const EpochFigures& figures : job.figures) {
    if (figures.total == 0) continue;
    const double accuracy = static_cast<double>(figures.correct) / static_cast<double>(figures.total);
    const double test_loss = figures.loss_sum / static_cast<double>(figures.total);
    for (EpochReport& epoch : report.figures) {
      if (epoch.epoch != figures.epoch) continue;
      epoch.accuracy = accuracy;
      epoch.test_loss = test_loss;
    }
    if (figures.epoch < evaluated) continue;
    evaluated = figures.epoch;
    report.accuracy = accuracy;
    report.test_loss = test_loss;
  }
  for (const EvaluationFigures& figures : job.evaluations) {
    const auto total = static_cast<double>(figures.total);
    report.evaluations.push_back({figures.samples, figures.seconds, figures.evaluation_seconds,
                                  static_cast<double>(figures.correct) / total, figures.loss_sum / total});
  }
  report.evaluations_skipped = job.evaluations_skipped;
  if (job.state == JobState::kDone && report.target)
    report.target_met = report.accuracy.value_or(0.0) >= *report.target;
  if (run_ && run_->job == job.plan.id)
    for (const auto& [order, worker] : workers_)
      if (worker.part == Part::kJoined && worker.state != MemberState::kSuspended) ++report.workers;
  report.waiting_for = waits_for(now, job);
  return report;
}

std::string CoordinatorCore::waits_for(ProtocolTime now, const JobView& job) const {
  if (is_over(job.state)) return {};
  if (job.state == JobState::kQueued) {
    if (run_) return fmt::format("job {}, which runs", run_->job);
    const std::size_t connected = count_connected_shards();
    if (connected < options_.shards) return missing(counted(options_.shards, "shard"), connected, "here");
    return {};
  }
  for (std::size_t k = 0; k < run_->places.size() && run_->phase >= Phase::kTraining; ++k)
    if (!shards_[k].connected || shards_[k].silent)
      return fmt::format("shard {} of '{}', which is away", k, shards_[k].registration.server_name);
  std::size_t here = 0, preparing = 0, prepared = 0, joined = 0, suspended = 0, flushing = 0, away = 0;
  for (const auto& [order, worker] : workers_) {
    if (worker.draining || worker.part == Part::kRefused) continue;
    ++here;
    if (worker.part == Part::kPreparing) ++preparing;
    if (worker.part == Part::kPrepared) ++prepared;
    if (worker.part != Part::kJoined) continue;
    ++joined;
    if (worker.state == MemberState::kSuspended) ++suspended;
    if (worker.peer == PeerId()) ++away;
    if (!worker.flushed) ++flushing;
  }
  if (joined > 0 && away == joined) return fmt::format("{} to come back", counted(away, "worker"));
  const std::string wanted = counted(job.plan.workers_to_start, "worker");
  switch (run_->phase) {
    case Phase::kPreparing:
      if (here < job.plan.workers_to_start) return missing(wanted, here, "here");
      if (preparing > 0) return missing(wanted + " to read the data", prepared, "ready");
      return {};
    case Phase::kPlanning:
      if (count_connected_shards() < options_.shards)
        return missing(counted(options_.shards, "shard"), count_connected_shards(), "here");
      [[fallthrough]];
    case Phase::kOpening:
      return "the shards to take the model";
    case Phase::kFlushing:
      if (flushing > 0) return fmt::format("the last updates of {}", counted(flushing, "worker"));
      return {};
    case Phase::kResting:
      return "the shards to come to rest";
    case Phase::kFinalCut:
      if (joined == suspended) return "a worker that evaluates the model";
      return "the evaluation";
    case Phase::kSaving:
      return "the model to be written";
    case Phase::kTraining:
      break;
  }
  if (joined == 0) return preparing > 0 ? "a worker to read the data" : "a worker (none is left)";
  if (suspended == joined) return fmt::format("{} that went silent", counted(suspended, "worker"));
  if (job.progress.quiet(now) < kQuietMax) return {};
  if (run_->book->is_complete()) return "the shards to fence a worker that is gone";
  const Worker* slowest = nullptr;
  for (const auto& [order, worker] : workers_) {
    if (worker.part != Part::kJoined || worker.state != MemberState::kActive || worker.at_gate) continue;
    if (slowest == nullptr || worker.last_progress < slowest->last_progress) slowest = &worker;
  }
  if (slowest == nullptr || now - slowest->last_progress < kQuietMax) return {};
  return fmt::format("worker '{}', which has finished no round for {:.0f} s", slowest->registration.name,
                     to_seconds(now - slowest->last_progress));
}

WorkersReport CoordinatorCore::workers_report(ProtocolTime now) const {
  WorkersReport all;
  all.membership = membership_report();
  for (const auto& [order, worker] : workers_) all.workers.push_back(report(now, worker));
  for (auto gone = gone_.rbegin(); gone != gone_.rend(); ++gone)
    all.gone.push_back({gone->order, gone->name, gone->site, gone->reason, gone->job, gone->clock.value(),
                        to_seconds(now - gone->at)});
  return all;
}

std::optional<MembershipReport> CoordinatorCore::membership_report() const {
  if (!run_ || !run_->book) return std::nullopt;
  MembershipReport membership;
  membership.job = run_->job;
  membership.epoch = run_->epoch.value();
  membership.active = count_active();
  const std::optional<Round> smallest = smallest_active_clock();
  if (!smallest) return membership;
  membership.smallest_clock = smallest->value();
  bool somebody_waits = false;
  for (const auto& [order, worker] : workers_) {
    if (worker.part != Part::kJoined || worker.state != MemberState::kActive) continue;
    // A status may be old: the slowest one that said a while ago that it waits is the one that others wait
    // for.
    const bool waits = worker.at_gate && waits_for_others(worker);
    somebody_waits = somebody_waits || waits;
    if (clock(worker) == *smallest && !waits) membership.gate_waits_for.push_back(worker.registration.name);
  }
  if (!somebody_waits) membership.gate_waits_for.clear();
  return membership;
}

WorkerReport CoordinatorCore::report(ProtocolTime now, const Worker& worker) const {
  WorkerReport report;
  report.order = worker.order;
  report.name = worker.registration.name;
  report.site = worker.registration.site;
  report.device = worker.registration.device;
  report.hardware = worker.registration.hardware;
  report.state = state_of(worker);
  report.refusal = worker.part == Part::kRefused ? worker.refusal : std::string();
  report.last_heard_s = to_seconds(now - worker.last_heard);
  if (worker.status.round_trip_seconds > 0) report.round_trip_s = worker.status.round_trip_seconds;
  if (!run_ || worker.part != Part::kJoined) return report;
  report.job = run_->job;
  report.entry_clock = worker.entry_clock.value();
  report.clock = clock(worker).value();
  report.leased_samples = run_->book->held_samples(worker.order);
  if (worker.state == MemberState::kActive) {
    report.at_gate = worker.at_gate && waits_for_others(worker);
    report.slowest = clock(worker) == *smallest_active_clock();
  }
  if (const JobFigures::Worker* figures = jobs_.at(run_->job).progress.worker(worker.order)) {
    const WorkerStatus& last = figures->last;
    report.samples_per_s = figures->samples.per_second(now);
    report.pipeline = JobFigures::pipeline_of(last);
    report.stall_fraction = 1 - report.pipeline.utilisation.value_or(1);
    report.staleness = last.staleness;
    report.bytes_up = last.bytes_up;
    report.bytes_down = last.bytes_down;
  }
  return report;
}

std::string CoordinatorCore::state_of(const Worker& worker) {
  if (worker.state == MemberState::kSuspended) return "suspended";
  if (worker.draining) return "draining";
  switch (worker.part) {
    case Part::kPreparing:
      return "preparing";
    case Part::kPrepared:
      return "ready";
    case Part::kRefused:
      return "unable";
    case Part::kNone:
    case Part::kJoined:
      break;
  }
  return worker.part == Part::kJoined && worker.state == MemberState::kActive ? "active" : "idle";
}

}  // namespace nanduti
