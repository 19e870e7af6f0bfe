#include "worker/client/shard_replica.h"

#include <algorithm>

namespace nanduti {

ShardReplica::ShardReplica(std::unique_ptr<WorkingShard> values, std::uint64_t size, IncarnationOrder own,
                           bool has_initial_values)
    : values_(std::move(values)), size_(size), own_(own), has_initial_values_(has_initial_values) {}

std::size_t ShardReplica::in_flight_bytes() const {
  std::size_t bytes = 0;
  for (std::size_t k = 0; k < in_flight_.size(); ++k)
    bytes += (in_flight_[k].acknowledged ? 0 : in_flight_[k].payload_bytes) + values_->bytes_in_flight(k);
  return bytes;
}

Status ShardReplica::merge(const Publish& publish, const Codec& codec) {
  const VersionHeader& header = publish.header;
  if (!has_shadow() || header.chain != merged_.chain || header.version != merged_.version.next())
    return make_error(ErrorCode::kCorrupt, "version {} of chain {} does not follow version {} of chain {}",
                      header.version, header.chain, merged_.version, merged_.chain);
  if (!publish.payload.empty())
    NANDUTI_RETURN_IF_ERROR(values_->add_to_shadow(publish.coding, publish.payload, codec));
  take_header(header);
  values_->rebase();
  return {};
}

Status ShardReplica::merge(const Assign& assign) {
  const VersionHeader& header = assign.header;
  const bool continues = has_shadow() && header.chain == merged_.chain &&
                         assign.from_version <= merged_.version && header.version >= merged_.version;
  const bool begins = !has_shadow() && has_initial_values_ && assign.from_version == Version();
  if (!assign.whole && !continues && !begins)
    return make_error(ErrorCode::kCorrupt, "an assignment from version {} does not fit version {}",
                      assign.from_version, merged_.version);
  NANDUTI_RETURN_IF_ERROR(check_values(assign));
  const std::byte* source = assign.payload.data();
  for (const AssignedRange& range : assign.ranges) {
    values_->assign({range.begin, range.end}, source);
    source += (range.end - range.begin) * sizeof(float);
  }
  take_header(header);
  values_->rebase();
  return {};
}

Status ShardReplica::check_values(const Assign& assign) const {
  std::uint64_t assigned = 0;
  for (const AssignedRange& range : assign.ranges) {
    if (range.end > size() || range.begin > range.end)
      return make_error(ErrorCode::kCorrupt, "an assignment up to {} in a shard of {}", range.end, size());
    assigned += range.end - range.begin;
  }
  if (assigned * sizeof(float) != assign.payload.size() || (assign.whole && assigned != size()))
    return make_error(ErrorCode::kCorrupt, "an assignment of {} values carries {} bytes", assigned,
                      assign.payload.size());
  return {};
}

void ShardReplica::take_header(const VersionHeader& header) {
  merged_ = header;
  for (const Verdict& verdict : header.verdicts) {
    if (verdict.order != own_) continue;
    take_back(verdict.returned);
    // What is settled is part of the shadow now: the hand-over.
    while (!in_flight_.empty() && in_flight_.front().sequence < verdict.next_sequence) {
      values_->settle_oldest();
      in_flight_.pop_front();
    }
    settled_ = std::max(settled_, std::min(verdict.next_sequence, next_sequence_));
    acknowledged_ = std::max(acknowledged_, settled_);
  }
}

void ShardReplica::acknowledge(Sequence next_sequence, std::span<const ReturnedPush> returned) {
  take_back(returned);
  values_->rebase();
  acknowledged_ = std::max(acknowledged_, std::min(next_sequence, next_sequence_));
  for (InFlight& sent : in_flight_) {
    if (sent.sequence >= acknowledged_) break;
    sent.acknowledged = true;
  }
}

void ShardReplica::take_back(std::span<const ReturnedPush> returned) {
  // A refused push leaves in_flight_ with this, and a weighed one is marked: a repeated verdict finds
  // nothing.
  for (auto it = in_flight_.begin(); it != in_flight_.end();) {
    const auto verdict = std::find_if(returned.begin(), returned.end(), [&](const ReturnedPush& push) {
      return push.sequence == it->sequence;
    });
    if (verdict == returned.end() || it->weighed) {
      ++it;
      continue;
    }
    returned_.any = true;
    const auto k = static_cast<std::size_t>(it - in_flight_.begin());
    if (verdict->applied_parts > 0) {
      values_->take_back_rest(k, kept_part(verdict->applied_parts));
      it->weighed = true;
      ++it;
      continue;
    }
    returned_.refused = true;
    values_->take_back(k);
    it = in_flight_.erase(it);
  }
}

Push ShardReplica::push(std::span<const float> progress, const Codec& codec, const CodingContext& context) {
  Push push;
  push.sequence = next_sequence_;
  push.acknowledged = acknowledged_;
  push.coding = static_cast<std::uint8_t>(codec.coding());
  push.payload = values_->push(progress, codec, context);
  in_flight_.push_back({push.sequence, push.payload.size()});
  next_sequence_ = next_sequence_.next();
  return push;
}

}  // namespace nanduti
