// What outlives the process: the log, snapshots, and how a shard is made from them.
#include <algorithm>

#include "common/base/overloaded.h"
#include "common/codec/coding_spec.h"
#include "server/shard/shard_core.h"

namespace nanduti {

namespace {

Error senseless(std::string_view what) {
  return make_error(ErrorCode::kCorrupt, "the log of this shard makes no sense: {}", what);
}

}  // namespace

void ShardCore::log(std::uint64_t number, const Message& message) {
  if (is_durable() && !replaying_) append_record(entry_, number, message);
}

/// What the event has changed is one entry, ahead of everything that says so.
void ShardCore::end_entry() {
  if (!entry_.empty()) {
    for (const SharedBytes& piece : entry_) log_bytes_ += piece.size();
    ++log_entries_;
    actions_.insert(actions_.begin(),
                    AppendLog{std::exchange(entry_, {}), std::exchange(entry_begins_, std::nullopt)});
  }
  snapshot_if_due();
}

// ---- snapshots ----

void ShardCore::snapshot_if_due() {
  if (!is_durable() || snapshotting_ || log_entries_ == 0 || !job_ || !job_->values) return;
  // To replay so much takes no longer than to read the snapshot.
  const std::uint64_t worth = std::max(options_.snapshot_log_bytes, job_->values->copy_bytes() / 2);
  if (log_bytes_ < worth && log_entries_ < options_.snapshot_log_entries) return;
  Job& job = *job_;
  ArchiveWriter head;
  std::vector<SettleEntry> unconfirmed;
  for (const SettleReport& report : unconfirmed_reports_)
    unconfirmed.insert(unconfirmed.end(), report.entries.begin(), report.entries.end());
  // Who has missed versions can be sent what they changed; but not a step of all.
  std::deque<Publish> aside;
  if (!is_lockstep()) aside.swap(job.kept);
  head(job, *job.values, unconfirmed);
  if (!is_lockstep()) aside.swap(job.kept);
  job.values->begin_copy();
  log_bytes_ = log_entries_ = 0;
  snapshotting_ = true;
  parts_under_way_ = 0;
  actions_.push_back(BeginSnapshot{SharedBytes::take(head.take()), job.values->part_count()});
  send_parts();
}

void ShardCore::send_parts() {
  while (parts_under_way_ < kSnapshotPartsAtOnce || job_->values->has_copied_part()) {
    std::optional<ValuesPart> part = job_->values->take_part();
    if (!part) return;
    ++parts_under_way_;
    actions_.push_back(SnapshotPart{std::move(*part)});
  }
}

void ShardCore::handle(const SnapshotPartWritten&) {
  if (parts_under_way_ > 0) --parts_under_way_;
  if (snapshotting_) send_parts();
}

void ShardCore::handle(const SnapshotEnded& event) {
  if (!std::exchange(snapshotting_, false)) return;
  if (event.status.ok()) {
    ++counters_.snapshots;
    return;
  }
  job_->values->give_up_copy();
  note("no snapshot of this shard: " + event.status.error().message, true);
}

// ---- recovery ----

Result<OpenShard> ShardCore::request_of(const RecoveredShard& recovered) {
  OpenShard request;
  if (recovered.snapshot) {
    ArchiveReader head(recovered.snapshot->head.view());
    head(request);  // Job::archive() begins with it
    if (head.failed()) return make_error(ErrorCode::kCorrupt, "the snapshot's head makes no sense");
    return request;
  }
  if (recovered.entries.empty()) return senseless("it is empty");
  Result<std::vector<ShardRecord>> records = decode_entry(recovered.entries.front());
  if (!records.ok()) return records.error();
  if (records->empty() || !std::holds_alternative<OpenShard>(records->front().message))
    return senseless("it does not begin with a job");
  return std::get<OpenShard>(std::move(records->front().message));
}

Result<ShardCore> ShardCore::recover(const ShardOptions& options, RandomStream random,
                                     RecoveredShard recovered) {
  ShardCore core(options, random);
  core.replaying_ = true;
  const Result<OpenShard> request = request_of(recovered);
  if (!request.ok()) return request.error();
  const std::uint64_t size = request->end - request->begin;
  ShardStart& start = recovered.start;
  if (recovered.snapshot) {
    std::uint64_t bytes = 0;
    for (const ValuesPart& part : recovered.snapshot->parts) bytes += part.bytes.size();
    if (size > bytes / sizeof(float)) return senseless("the snapshot lacks parts");
    start.values.resize(size);
  }
  if (start.values.size() != size) return senseless("its initial values have another size");
  Job& job = core.job_.emplace(Job());
  job.request = *request;
  job.settings = start;
  job.read_settings = start.read_settings;
  job.deterministic = start.deterministic;
  job.durability = start.durability;
  job.initial_fingerprint = initial_fingerprint(start.values);
  job.values.emplace(std::move(start.values), std::move(start.optimizer));
  if (recovered.snapshot) NANDUTI_RETURN_IF_ERROR(core.restore(*recovered.snapshot));
  for (std::size_t i = 0; i < recovered.entries.size(); ++i) {
    const Result<std::vector<ShardRecord>> records = decode_entry(recovered.entries[i]);
    if (!records.ok()) return records.error();
    for (const ShardRecord& record : *records)
      if (const Status status = core.replay(record); !status.ok())
        return status.error().within(fmt::format("entry {} since the snapshot", i));
  }
  if (job.chain == ChainId()) return senseless("it does not begin");
  core.replaying_ = false;
  // However often it restarts, its log does not grow beyond what makes a snapshot due.
  core.log_entries_ = recovered.entries.size();
  for (const SharedBytes& entry : recovered.entries) core.log_bytes_ += entry.size();
  if (!recovered.complete) core.begin_chain(ChainId(core.random_.next_u64() | 1));
  core.send_reports();
  core.admit();
  core.end_entry();
  return core;
}

Status ShardCore::restore(RecoveredShard::Snapshot& snapshot) {
  Job& job = *job_;
  ArchiveReader head(snapshot.head.view());
  std::vector<SettleEntry> unconfirmed;
  head(job, *job.values, unconfirmed);
  if (!head.is_complete() || !job.values->fits() || !job.ages.is_valid())
    return make_error(ErrorCode::kCorrupt, "the snapshot's head makes no sense");
  std::vector<bool> missing(job.values->part_count(), true);
  for (const ValuesPart& part : snapshot.parts) {
    if (!job.values->restore(part.index, part.bytes.view()))
      return make_error(ErrorCode::kCorrupt, "part {} of the snapshot is none", part.index);
    missing[part.index] = false;
  }
  if (std::find(missing.begin(), missing.end(), true) != missing.end())
    return make_error(ErrorCode::kCorrupt, "the snapshot lacks parts");
  for (const Publish& version : std::exchange(job.kept, {})) keep(version);
  unconfirmed.insert(unconfirmed.end(), job.report.begin(), job.report.end());
  job.report = std::move(unconfirmed);
  unconfirmed_entries_ = job.report.size();
  if (!job.tuning) return {};
  const std::optional<Tune> tuning = std::exchange(job.tuning, std::nullopt);
  return replay(ShardRecord{0, *tuning});
}

Status ShardCore::replay(const ShardRecord& record) {
  Job& job = *job_;
  if (job.chain == ChainId() && !std::holds_alternative<OpenShard>(record.message))
    return senseless("it does not begin");
  return std::visit(
      Overloaded{[&](const OpenShard&) -> Status {
                   begin_chain(ChainId(record.number));
                   return {};
                 },
                 [&](const Push& push) { return replay(static_cast<std::uint16_t>(record.number), push); },
                 [&](const Publish& version) { return replay(record.number == kAssignsAll, version); },
                 [&](const Membership& membership) -> Status {
                   merge(membership);
                   return {};
                 },
                 [&](const Fence& m) -> Status {
                   fence(m.order);
                   return {};
                 },
                 [&](const Tune& m) -> Status {
                   Result<ShardSettings> settings = job.read_settings(m.settings);
                   if (!settings.ok()) return settings.error();
                   job.tuning = m;
                   job.settings = std::move(settings).value();
                   return {};
                 },
                 [&](const Subscribe& m) -> Status {
                   const auto worker = job.workers.find(m.order);
                   if (worker == job.workers.end()) return senseless("it lost pushes of nobody");
                   skip_lost(worker->second, m);
                   return {};
                 },
                 [&](const auto&) { return Status(senseless("it holds a message that is no record")); }},
      record.message);
}

Status ShardCore::replay(std::uint16_t applied_parts, const Push& push) {
  Job& job = *job_;
  const auto worker = job.workers.find(push.order);
  if (worker == job.workers.end()) return senseless("it settles a push of nobody");
  PushLedger& ledger = worker->second.ledger;
  if (push.sequence != ledger.next_sequence()) return senseless("it settles pushes out of sequence");
  if (applied_parts > kAppliedWhole || (applied_parts > 0 && !job.active_counts.contains(push.epoch)))
    return senseless("it applies a push of a membership that it does not know");
  const DenseFloat32Codec exact;
  const Codec& codec = push.lease == LeaseId() ? exact : *job.settings.codecs.push;
  Result<Update> update = decode_update(push.coding, push.payload, job.values->size(), codec);
  if (!update.ok()) return update.error();
  PushLedger::Waiting waiting{push, std::move(update).value()};
  waiting.push.payload = {};
  if (ledger.offer(std::move(waiting), options_.reorder_bytes_max) != PushLedger::Offer::kTaken)
    return senseless("it settles a push of a fenced worker");
  take_head(push.order, worker->second, applied_parts);
  return {};
}

Status ShardCore::replay(bool exactly, Publish version) {
  Job& job = *job_;
  if (exactly) {
    job.values->publish_exactly();
  } else if (version.payload.empty()) {
    job.values->publish_nothing();
  } else {
    const Result<Update> update =
        decode_update(version.coding, version.payload, job.values->size(), *job.settings.codecs.publish);
    if (!update.ok()) return update.error();
    job.values->add_version(*update);
  }
  finish_version(version, exactly);
  return {};
}

/// The first one; or one for versions that must not be taken for the successors of those that may be lost.
void ShardCore::begin_chain(ChainId chain) {
  Job& job = *job_;
  const bool first = job.chain == ChainId();
  log(chain.value(), job.request);
  job.chain = chain;
  if (first) {
    job.published = make_header();
    return;
  }
  job.lossy = true;
  while (!job.kept.empty()) forget_oldest_kept();
  job.published.chain = chain;
}

}  // namespace nanduti
