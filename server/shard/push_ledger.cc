#include "server/shard/push_ledger.h"

#include <algorithm>

#include "common/base/check.h"

namespace nanduti {

PushLedger::Offer PushLedger::offer(Waiting waiting) {
  if (fenced_) return Offer::kFenced;
  const Sequence sequence = waiting.push.sequence;
  if (sequence < next_sequence_) return Offer::kSettledBefore;
  if (sequence.value() >= next_sequence_.value() + kReorderMax) return Offer::kNoRoom;
  return waiting_.emplace(sequence, std::move(waiting)).second ? Offer::kTaken : Offer::kHeldAlready;
}

const PushLedger::Waiting* PushLedger::head() const {
  if (waiting_.empty() || waiting_.begin()->first > next_sequence_) return nullptr;
  return &waiting_.begin()->second;
}

PushLedger::Waiting PushLedger::settle_head(bool refused) {
  NANDUTI_CHECK(head() != nullptr);
  Waiting settled = std::move(waiting_.begin()->second);
  waiting_.erase(waiting_.begin());
  if (refused) {
    refused_.push_back(next_sequence_);
    if (refused_.size() > kRefusedMax) refused_.erase(refused_.begin());
  }
  next_sequence_ = settled.push.sequence.next();
  if (settled.push.lease != LeaseId()) clock_ = std::max(clock_, settled.push.round.next());
  return settled;
}

void PushLedger::enter_at(Round entry) { clock_ = std::max(clock_, entry); }

void PushLedger::fence() {
  fenced_ = true;
  waiting_.clear();
}

}  // namespace nanduti
