// What outlives the process: the log, snapshots, and how a coordinator is made from them.
#include <algorithm>

#include "server/coordinator/coordinator_archive.h"

namespace nanduti {

namespace {

/// Version of the entries below, at their beginning.
constexpr std::uint64_t kEntryFormat = 1;
/// More than a coordinator may have given since the log ends that it has.
constexpr std::uint64_t kOrdersSkipped = std::uint64_t{1} << 20;

}  // namespace

/// What is to be known after a restart. Times are a wall clock's.
struct CoordinatorCore::Entry {
  IncarnationOrder next_order;
  std::map<JobId, JobView> jobs;  // those that are not as they were, the running one among them
  std::optional<Run> run;         // that trains, or has trained
  bool at_end = false;            // its final cut has its figures
  std::map<IncarnationOrder, Worker> workers;
  std::vector<RegisterShard> shards;  // by index

  template <class Archive>
  void archive(Archive& a) {
    a(next_order, jobs, run, at_end, workers, shards);
  }
};

void CoordinatorCore::JobView::shift(Duration by) {
  progress.shift(by);
  if (started) *started += by;
}

// ---- the log ----

/// Every event of a run may change it, and nobody has to say so; with its end the job is another one.
void CoordinatorCore::end_event() {
  if (!options_.durable) return confirm_settled();
  for (const Action& action : actions_)
    if (const auto* job = std::get_if<JobChanged>(&action)) jobs_changed_.insert(job->job);
  changed_ = changed_ || run_ || !jobs_changed_.empty();
  if (changed_ && !actions_.empty()) {
    awaited_ = true;
    actions_.insert(actions_.begin(), StateChanged{});
  }
  if (save_due() <= now_) save();
}

/// One at a time: what comes while it is written is written next, in one go.
ProtocolTime CoordinatorCore::save_due() const {
  if (!changed_ || durable_ < appended_) return kNever;
  return last_save_ + (awaited_ ? options_.save_every : kSaveIdleEvery);
}

SharedBytes CoordinatorCore::encode_entry(bool whole) {
  Entry entry;
  entry.next_order = next_order_;
  if (run_) jobs_changed_.insert(run_->job);
  for (const auto& [id, view] : jobs_)
    if (whole || jobs_changed_.contains(id))
      entry.jobs.emplace(id, view).first->second.shift(options_.wall_offset);
  // Lent to the entry while it is written: before it trains, a job begins again.
  const bool trains = run_ && run_->phase >= Phase::kTraining;
  if (trains) {
    entry.at_end = !run_->result.empty();
    for (std::size_t k = 0; k < run_->places.size(); ++k) entry.shards.push_back(shards_[k].registration);
    run_.swap(entry.run);
    workers_.swap(entry.workers);
  }
  ArchiveWriter writer;
  writer(kEntryFormat, entry);
  if (trains) {
    run_.swap(entry.run);
    workers_.swap(entry.workers);
  }
  return SharedBytes::take(writer.take());
}

void CoordinatorCore::save() {
  changed_ = awaited_ = false;
  last_save_ = now_;
  const bool begins = !std::exchange(log_begun_, true);
  const SharedBytes entry = encode_entry(begins);
  jobs_changed_.clear();
  log_bytes_ += entry.size();
  ++appended_;
  actions_.push_back(AppendLog{{entry}, begins ? std::optional(Durability::kSync) : std::nullopt});
  confirm_settled();
  if (snapshotting_ || log_bytes_ < std::max(kCoordinatorLogBytes, snapshot_bytes_)) return;
  const SharedBytes whole = encode_entry(true);
  jobs_changed_.clear();
  snapshotting_ = true;
  log_bytes_ = 0;
  snapshot_bytes_ = whole.size();
  actions_.push_back(BeginSnapshot{whole, 0});
}

void CoordinatorCore::handle(ProtocolTime, const SnapshotEnded& event) {
  snapshotting_ = false;
  if (!event.status.ok())
    note("no snapshot of the coordinator's state: " + event.status.error().message, true);
}

/// What shards have reported will not be forgotten.
void CoordinatorCore::confirm_settled() {
  if (!run_) return;
  for (std::size_t k = 0; k < run_->places.size(); ++k) {
    Shard& shard = shards_[k];
    if (shard.settled > shard.confirmed) tell(shard.peer, SettleConfirmed{run_->job, shard.settled});
    shard.confirmed = shard.settled;
  }
}

// ---- recovery ----

Result<CoordinatorCore> CoordinatorCore::recover(const CoordinatorOptions& options, ProtocolTime now,
                                                 const std::optional<SharedBytes>& snapshot,
                                                 const std::vector<SharedBytes>& entries, bool complete) {
  CoordinatorCore core(options);
  core.now_ = now;
  core.log_begun_ = snapshot || !entries.empty();
  if (snapshot) {
    NANDUTI_RETURN_IF_ERROR(core.restore(*snapshot, "the snapshot of the coordinator's state"));
    core.snapshot_bytes_ = snapshot->size();
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    NANDUTI_RETURN_IF_ERROR(core.restore(entries[i], fmt::format("entry {} of the coordinator's log", i)));
    core.log_bytes_ += entries[i].size();
  }
  NANDUTI_RETURN_IF_ERROR(core.go_on(complete));
  return core;
}

Status CoordinatorCore::restore(const SharedBytes& bytes, std::string_view what) {
  ArchiveReader reader(bytes.view());
  std::uint64_t format = 0;
  reader(format);
  if (format > kEntryFormat)
    return make_error(ErrorCode::kRefused, "a newer program has written {} (format {}, this one knows {})",
                      what, format, kEntryFormat);
  Entry entry;
  reader(entry);
  if (!reader.is_complete() || format == 0) return make_error(ErrorCode::kCorrupt, "{} makes no sense", what);
  next_order_ = entry.next_order;
  for (auto& [id, view] : entry.jobs) {
    view.shift(-options_.wall_offset);
    jobs_.insert_or_assign(id, std::move(view));
  }
  run_ = std::move(entry.run);
  workers_ = std::move(entry.workers);
  std::erase_if(workers_, [](const auto& worker) { return worker.second.part != Part::kJoined; });
  shards_.clear();
  for (RegisterShard& shard : entry.shards) shards_.emplace_back(Shard()).registration = std::move(shard);
  if (run_ && entry.at_end) run_->phase = Phase::kSaving;
  return {};
}

/// From what the log holds to what it is to be now.
Status CoordinatorCore::go_on(bool complete) {
  const auto senseless = [](std::string_view what) {
    return make_error(ErrorCode::kCorrupt, "the coordinator's log makes no sense: {}", what);
  };
  for (auto& [id, job] : jobs_) {
    if (job.plan.id != id || job.state > JobState::kCancelled) return senseless("a job is none");
    const bool begins_again = job.state == JobState::kRunning && !(run_ && run_->job == id);
    if (!begins_again) continue;
    job.state = JobState::kQueued;
    job.started.reset();
    ++job.plan.key;  // shards may have opened it, and may be other shards next time
  }
  if (!run_) return {};
  Run& run = *run_;
  const auto job = jobs_.find(run.job);
  if (job == jobs_.end() || job->second.tunings.empty() || job->second.state != JobState::kRunning)
    return senseless("it trains a job that is none");
  const JobView& view = job->second;
  const bool fits = run.phase >= Phase::kTraining && run.phase <= Phase::kSaving && run.data && run.book &&
                    !run.places.empty() && run.places.size() == shards_.size() &&
                    run.places.size() <= kShardsMax && run.active_counts.size() == run.epoch.value() &&
                    run.book->fits(run.data->train_samples, view.plan.epochs, run.places.size());
  if (!fits) return senseless("what it trains does not fit together");
  for (const auto& [order, worker] : workers_)
    if (worker.order != order || worker.clocks.size() != run.places.size())
      return senseless("a worker is none");
  for (const IncarnationOrder rank : run.ranks)
    if (!workers_.contains(rank)) return senseless("a rank is nobody's");
  next_check_ = now_ + kCheckEvery;
  for (Shard& shard : shards_) {
    shard.opened = true;
    shard.at_rest = run.phase > Phase::kResting;
    shard.away_since = now_;
  }
  for (auto& [order, worker] : workers_)
    worker.last_heard = worker.last_progress = worker.last_settled = now_;
  for (auto& [order, wait] : run.fences) wait.since = now_;
  for (auto& [id, cut] : run.cuts) cut.since = now_;
  run.tuner.emplace(view.plan.batch_size);
  run.phase_since = now_;
  note(fmt::format("job {} goes on: {} of {} samples count, {} workers and {} shards take part", run.job,
                   view.samples, view.samples_total, workers_.size(), shards_.size()));
  if (run.phase == Phase::kSaving) {  // the result is on no disk yet
    enter(Phase::kFinalCut);
    take_cut(view.plan.epochs, true);
  }
  if (complete) return {};
  // Nobody knows what it has told its workers since: they begin new lives.
  next_order_ = IncarnationOrder(next_order_.value() + kOrdersSkipped);
  while (!workers_.empty())
    declare_dead(workers_.begin()->second, "the coordinator has lost the end of its log");
  return {};
}

}  // namespace nanduti
