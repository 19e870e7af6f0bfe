#include "worker/client/shard_replica.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"

namespace nanduti {

namespace {

/// target += factor * update
void add(std::span<float> target, const Update& update, float factor) {
  if (update.dense) {
    for (std::size_t i = 0; i < target.size(); ++i) target[i] += factor * update.values[i];
  } else {
    for (std::size_t k = 0; k < update.indices.size(); ++k)
      target[update.indices[k]] += factor * update.values[k];
  }
}

}  // namespace

Status ShardReplica::merge(const Publish& publish, const Codec& codec) {
  const VersionHeader& header = publish.header;
  if (!has_shadow() || header.chain != merged_.chain || header.version != merged_.version.next())
    return make_error(ErrorCode::kCorrupt, "version {} of chain {} does not follow version {} of chain {}",
                      header.version, header.chain, merged_.version, merged_.chain);
  if (!publish.payload.empty()) {
    if (publish.coding != static_cast<std::uint8_t>(codec.coding()))
      return make_error(ErrorCode::kCorrupt, "a version in coding {}, which this job does not use",
                        publish.coding);
    Result<Update> update = codec.decode(publish.payload, size());
    if (!update.ok()) return update.error();
    add(shadow_, *update, 1.0f);
  }
  take_header(header);
  return {};
}

Status ShardReplica::merge(const Assign& assign) {
  const VersionHeader& header = assign.header;
  const bool continues = has_shadow() && header.chain == merged_.chain &&
                         assign.from_version <= merged_.version && header.version >= merged_.version;
  if (!assign.whole && !continues)
    return make_error(ErrorCode::kCorrupt, "an assignment from version {} does not fit version {}",
                      assign.from_version, merged_.version);
  NANDUTI_RETURN_IF_ERROR(check_values(assign));
  const std::byte* source = assign.payload.data();
  for (const AssignedRange& range : assign.ranges) {
    const std::size_t bytes = (range.end - range.begin) * sizeof(float);
    std::memcpy(shadow_.data() + range.begin, source, bytes);
    source += bytes;
  }
  take_header(header);
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
    take_refusals(verdict.refused);
    // What is settled is part of the shadow now: the hand-over.
    while (!in_flight_.empty() && in_flight_.front().push.sequence < verdict.next_sequence)
      in_flight_.pop_front();
    acknowledged_ = std::max(acknowledged_, std::min(verdict.next_sequence, next_sequence_));
  }
}

void ShardReplica::acknowledge(Sequence next_sequence, std::span<const Sequence> refused) {
  take_refusals(refused);
  acknowledged_ = std::max(acknowledged_, std::min(next_sequence, next_sequence_));
  for (InFlight& sent : in_flight_) {
    if (sent.push.sequence >= acknowledged_) break;
    sent.acknowledged = true;
    sent.push.payload = {};
  }
}

void ShardReplica::take_refusals(std::span<const Sequence> refused) {
  // A refused push leaves in_flight_ with this, so a repeated verdict finds nothing.
  for (auto it = in_flight_.begin(); it != in_flight_.end();) {
    if (std::find(refused.begin(), refused.end(), it->push.sequence) == refused.end()) {
      ++it;
      continue;
    }
    add(residual_, it->update, 1.0f);
    it = in_flight_.erase(it);
  }
}

std::size_t ShardReplica::in_flight_bytes() const {
  std::size_t bytes = 0;
  for (const InFlight& sent : in_flight_)
    bytes += sent.push.payload.size() + sent.update.indices.size() * sizeof(sent.update.indices[0]) +
             sent.update.values.size() * sizeof(float);
  return bytes;
}

void ShardReplica::compute_parameters(std::span<float> x, float rho) const {
  NANDUTI_CHECK(x.size() == shadow_.size());
  std::copy(shadow_.begin(), shadow_.end(), x.begin());
  for (const InFlight& sent : in_flight_) add(x, sent.update, -1.0f);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] -= rho * residual_[i];
}

Push ShardReplica::push(std::span<const float> progress, const Codec& codec, const CodecKey& key) {
  NANDUTI_CHECK(progress.size() == residual_.size());
  for (std::size_t i = 0; i < residual_.size(); ++i) residual_[i] += progress[i];
  EncodedUpdate encoded = codec.encode(residual_, key);
  add(residual_, encoded.update, -1.0f);
  Push push;
  push.sequence = next_sequence_;
  push.base_version = merged_.version;
  push.coding = static_cast<std::uint8_t>(codec.coding());
  push.payload = std::move(encoded.payload);
  in_flight_.push_back({push, std::move(encoded.update), false});
  next_sequence_ = next_sequence_.next();
  return push;
}

void ShardReplica::record(const Push& push) {
  NANDUTI_CHECK(!in_flight_.empty() && in_flight_.back().push.sequence == push.sequence);
  in_flight_.back().push = push;
}

}  // namespace nanduti
