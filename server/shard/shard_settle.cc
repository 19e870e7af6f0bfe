// Pushes: what becomes of them, and who hears of it.
#include <algorithm>

#include "common/base/check.h"
#include "common/codec/coding_spec.h"
#include "server/shard/shard_core.h"

namespace nanduti {

void ShardCore::on_push(PeerId peer, const Push& push) {
  if (!job_ || !job_->values || push.job != job_->request.job) return;
  const auto subscriber = job_->subscribers.find(peer);
  if (subscriber == job_->subscribers.end() || subscriber->second.request.order != push.order)
    return refuse(peer, "a push must come from a subscribed worker, under its own order number");
  const auto worker = job_->workers.find(push.order);
  // Not answered: who it is has not been announced.
  if (worker == job_->workers.end() || !subscriber->second.answered) return;
  PushLedger::Waiting waiting{push, {}};
  if (!is_durable()) waiting.push.payload = {};
  // A flush is exact whatever the job's codec.
  const DenseFloat32Codec exact;
  const Codec& codec = push.lease == LeaseId() ? exact : *job_->settings.codecs.push;
  Result<Update> update = decode_update(push.coding, push.payload, job_->values->size(), codec);
  if (!update.ok()) {
    ++counters_.malformed;
    return refuse(peer, update.error().message);
  }
  waiting.update = std::move(update).value();
  switch (worker->second.ledger.offer(std::move(waiting), options_.reorder_bytes_max)) {
    case PushLedger::Offer::kTaken:
      break;
    case PushLedger::Offer::kSettledBefore:
      worker->second.ack_due = true;
      [[fallthrough]];
    case PushLedger::Offer::kHeldAlready:
      ++counters_.duplicates;
      break;
    case PushLedger::Offer::kNoRoom:
      ++counters_.no_room;
      break;
    case PushLedger::Offer::kFenced:
      ++counters_.fenced;
      break;
  }
}

void ShardCore::settle() {
  if (!job_ || !job_->values) return;
  Job& job = *job_;
  if (!is_lockstep()) {
    for (auto& [order, worker] : job.workers)
      while (!is_unconfirmed() && settle_head(order, worker)) {
      }
    return;
  }
  // Deterministic: one push of every active worker at a time, in order of incarnation, then a version.
  // A step is a round of everybody or a flush of everybody: who flushes because it leaves waits for the
  // membership without it.
  while (!is_unconfirmed()) {
    bool complete = false;
    std::size_t active = 0, flushes = 0;
    for (auto& [order, worker] : job.workers) {
      if (worker.member.state != MemberState::kActive) continue;
      complete = true;
      const PushLedger::Waiting* head = next_to_settle(order, worker);
      if (head == nullptr || !job.active_counts.contains(head->push.epoch)) {
        complete = false;
        break;
      }
      ++active;
      flushes += head->push.lease == LeaseId() ? 1 : 0;
    }
    if (!complete || (flushes != 0 && flushes != active)) return;
    for (auto& [order, worker] : job.workers)
      if (worker.member.state == MemberState::kActive) NANDUTI_CHECK(settle_head(order, worker));
    publish(false);
  }
}

/// The worker's next push if it is there and its membership epoch is known. What no honest worker sends is
/// dropped, as if it had never come.
const PushLedger::Waiting* ShardCore::next_to_settle(IncarnationOrder order, Worker& worker) {
  const PushLedger::Waiting* head = worker.ledger.head();
  if (head == nullptr || worker.ledger.fenced() || head->push.epoch > job_->epoch) return nullptr;
  // A worker's next round is the one after its last, or where a membership that it has merged lets it enter:
  // not beyond its clock here, once that membership is merged.
  const Round round = head->push.round;
  if (head->push.lease == LeaseId() || round <= worker.ledger.clock()) return head;
  ++counters_.malformed;
  worker.ledger.drop_head();
  for (const auto& [peer, subscriber] : job_->subscribers)
    if (subscriber.answered && subscriber.request.order == order)
      refuse(peer,
             fmt::format("a push of round {} where round {} is the next", round, worker.ledger.clock()));
  return nullptr;
}

/// Settles the worker's next push if it can be.
bool ShardCore::settle_head(IncarnationOrder order, Worker& worker) {
  const PushLedger::Waiting* head = next_to_settle(order, worker);
  if (head == nullptr) return false;
  const std::uint16_t applied_parts = parts_to_apply(order, head->push);
  log(applied_parts, head->push);
  take_head(order, worker, applied_parts);
  return true;
}

/// 0: it is older than epochs_kept memberships, and refused.
std::uint16_t ShardCore::parts_to_apply(IncarnationOrder order, const Push& push) const {
  const Job& job = *job_;
  const auto active = job.active_counts.find(push.epoch);
  if (active == job.active_counts.end()) return 0;
  if (push.lease == LeaseId() || job.settings.age_power <= 0) return kAppliedWhole;
  const double part = static_cast<double>(push.stands_for) / std::max(active->second, push.stands_for);
  return weigh_age(job.ages.age_by_others(order, push.base_version), part, job.settings.age_power);
}

/// The worker's next push is settled. Precondition: there is one; its membership is known if any of it is
/// applied.
void ShardCore::take_head(IncarnationOrder order, Worker& worker, std::uint16_t applied_parts) {
  Job& job = *job_;
  const PushLedger::Waiting& head = *worker.ledger.head();
  const std::uint32_t age = job.ages.age(head.push.base_version);
  const bool flush = head.push.lease == LeaseId();
  double part = 0;  // of a round of everybody
  if (applied_parts > 0) {
    const std::uint32_t workers = std::max(job.active_counts.at(head.push.epoch), head.push.stands_for);
    part = flush ? 0 : static_cast<double>(head.push.stands_for) / workers;
    const float multiplier = static_cast<float>(head.push.stands_for) / static_cast<float>(workers);
    job.values->apply(head.update, {multiplier, kept_part(applied_parts), part});
  }
  const PushLedger::Waiting settled = worker.ledger.settle_head(applied_parts);
  ++(applied_parts == 0 ? counters_.refused : counters_.settled);
  if (applied_parts > 0 && applied_parts < kAppliedWhole) ++counters_.weighed;
  worker.base = settled.push.base_version;
  worker.ack_due = true;
  job.at_rest = false;
  job.report.push_back({settled.push.order, settled.push.sequence, settled.push.round, settled.push.lease,
                        settled.push.range, applied_parts, age});
  if (!flush) {
    job.ages.on_round(order, part);
    job.epochs_done =
        std::max(job.epochs_done, settled.push.range.epochs_before(job.request.data.train_samples));
  }
  ++unconfirmed_entries_;
  if (!job.unpublished) job.unpublished_since = now_;
  job.unpublished = true;
}

void ShardCore::send_acks() {
  if (!job_) return;
  std::vector<Worker*> acknowledged;
  for (const auto& [peer, subscriber] : job_->subscribers) {
    const auto it = job_->workers.find(subscriber.request.order);
    if (it == job_->workers.end() || !it->second.ack_due || !subscriber.answered) continue;
    // To every session of the worker: one of two may be what a lost one has left behind.
    actions_.push_back(SendMessage{peer, kControl,
                                   PushAck{job_->request.job, AckLevel::kDurableHere,
                                           it->second.ledger.next_sequence(), it->second.ledger.returned()}});
    acknowledged.push_back(&it->second);
  }
  for (Worker* worker : acknowledged) worker->ack_due = false;
}

void ShardCore::send_reports() {
  if (!job_ || job_->report.empty()) return;
  std::vector<SettleEntry> entries = std::exchange(job_->report, {});
  for (std::size_t begin = 0; begin < entries.size(); begin += kSettleEntriesMax) {
    const std::size_t end = std::min(begin + kSettleEntriesMax, entries.size());
    SettleReport report{job_->request.job,
                        {entries.begin() + static_cast<std::ptrdiff_t>(begin),
                         entries.begin() + static_cast<std::ptrdiff_t>(end)},
                        next_report_++};
    send_to_coordinator(report);
    unconfirmed_reports_.push_back(std::move(report));
  }
}

/// Reports up to this one need not be said again.
void ShardCore::on_confirmed(std::uint64_t number) {
  for (; !unconfirmed_reports_.empty() && unconfirmed_reports_.front().number <= number;
       unconfirmed_reports_.pop_front())
    unconfirmed_entries_ -= unconfirmed_reports_.front().entries.size();
}

}  // namespace nanduti
