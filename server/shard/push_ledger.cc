#include "server/shard/push_ledger.h"

#include <algorithm>

#include "common/base/check.h"

namespace nanduti {

PushLedger::Offer PushLedger::offer(Waiting waiting, std::size_t bytes_max) {
  if (fenced_) return Offer::kFenced;
  const Sequence sequence = waiting.push.sequence;
  if (sequence < next_sequence_) return Offer::kSettledBefore;
  if (sequence.value() >= next_sequence_.value() + kReorderMax) return Offer::kNoRoom;
  if (waiting_.contains(sequence)) return Offer::kHeldAlready;
  const std::size_t bytes = waiting.size_bytes();
  if (sequence != next_sequence_ && waiting_bytes_ + bytes > bytes_max) return Offer::kNoRoom;
  waiting_bytes_ += bytes;
  waiting_.emplace(sequence, std::move(waiting));
  return Offer::kTaken;
}

const PushLedger::Waiting* PushLedger::head() const {
  if (waiting_.empty() || waiting_.begin()->first > next_sequence_) return nullptr;
  return &waiting_.begin()->second;
}

PushLedger::Waiting PushLedger::take_head() {
  NANDUTI_CHECK(head() != nullptr);
  Waiting taken = std::move(waiting_.begin()->second);
  waiting_.erase(waiting_.begin());
  waiting_bytes_ -= taken.size_bytes();
  return taken;
}

PushLedger::Waiting PushLedger::settle_head(std::uint16_t applied_parts) {
  Waiting settled = take_head();
  std::erase_if(returned_, [&](const ReturnedPush& r) { return r.sequence < settled.push.acknowledged; });
  if (applied_parts < kAppliedWhole) {
    returned_.push_back({next_sequence_, applied_parts});
    if (returned_.size() > kReturnedKept) returned_.erase(returned_.begin());
  }
  next_sequence_ = settled.push.sequence.next();
  if (settled.push.lease != LeaseId()) clock_ = std::max(clock_, settled.push.round.next());
  return settled;
}

void PushLedger::skip_to(Sequence sequence, Round clock) {
  while (!waiting_.empty() && waiting_.begin()->first < sequence) {
    waiting_bytes_ -= waiting_.begin()->second.size_bytes();
    waiting_.erase(waiting_.begin());
  }
  next_sequence_ = std::max(next_sequence_, sequence);
  clock_ = std::max(clock_, clock);
}

void PushLedger::enter_at(Round entry) { clock_ = std::max(clock_, entry); }

void PushLedger::fence() {
  fenced_ = true;
  waiting_.clear();
  waiting_bytes_ = 0;
}

}  // namespace nanduti
