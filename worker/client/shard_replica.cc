#include "worker/client/shard_replica.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"
#include "common/codec/coding_spec.h"

namespace nanduti {

ShardReplica::ShardReplica(std::uint64_t size, IncarnationOrder own,
                           std::optional<std::span<const float>> initial)
    : own_(own),
      has_initial_values_(initial.has_value()),
      shadow_(size),
      residual_(size),
      base_(size),
      touched_(size) {
  if (!initial) return;
  NANDUTI_CHECK(initial->size() == size);
  shadow_.assign(initial->begin(), initial->end());
  base_ = shadow_;
}

std::size_t ShardReplica::in_flight_bytes() const {
  std::size_t bytes = 0;
  for (const InFlight& sent : in_flight_)
    bytes += (sent.acknowledged ? 0 : sent.payload_bytes) + sent.update.values.size() * sizeof(float) +
             sent.update.indices.size() * sizeof(sent.update.indices[0]);
  return bytes;
}

Status ShardReplica::merge(const Publish& publish, const Codec& codec) {
  const VersionHeader& header = publish.header;
  if (!has_shadow() || header.chain != merged_.chain || header.version != merged_.version.next())
    return make_error(ErrorCode::kCorrupt, "version {} of chain {} does not follow version {} of chain {}",
                      header.version, header.chain, merged_.version, merged_.chain);
  if (!publish.payload.empty()) {
    Result<Update> update = decode_update(publish.coding, publish.payload, size(), codec);
    if (!update.ok()) return update.error();
    add(shadow_, *update, 1.0f);
    touch(*update);
  }
  take_header(header);
  rebase();
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
    const std::size_t bytes = (range.end - range.begin) * sizeof(float);
    std::memcpy(shadow_.data() + range.begin, source, bytes);
    source += bytes;
    touch(range.begin, range.end);
  }
  take_header(header);
  rebase();
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
      touch(in_flight_.front().update);
      in_flight_.pop_front();
    }
    settled_ = std::max(settled_, std::min(verdict.next_sequence, next_sequence_));
    acknowledged_ = std::max(acknowledged_, settled_);
  }
}

void ShardReplica::acknowledge(Sequence next_sequence, std::span<const ReturnedPush> returned) {
  take_back(returned);
  rebase();
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
    touch(it->update);
    if (verdict->applied_parts > 0) {
      weigh(*it++, kept_part(verdict->applied_parts));
      continue;
    }
    returned_.refused = true;
    add(residual_, it->update, 1.0f);
    it = in_flight_.erase(it);
  }
}

/// The shard applies this part of every value; the rest returns.
void ShardReplica::weigh(InFlight& sent, float part) {
  struct Owner {
    std::vector<std::uint32_t> indices;
    std::vector<float> values;
  };
  Update& update = sent.update;
  auto owner = std::make_shared<Owner>(
      Owner{{update.indices.begin(), update.indices.end()}, {update.values.begin(), update.values.end()}});
  for (std::size_t k = 0; k < owner->values.size(); ++k) {
    const float value = owner->values[k];
    owner->values[k] = part * value;
    residual_[update.dense ? k : update.indices[k]] += value - owner->values[k];
  }
  update = {update.size, update.dense, owner->indices, owner->values, owner};
  sent.weighed = true;
}

void ShardReplica::touch(const Update& update) {
  if (update.dense || all_touched_) {
    all_touched_ = true;
    return;
  }
  for (const std::uint32_t index : update.indices) {
    if (touched_[index] != 0) continue;
    touched_[index] = 1;
    touched_indices_.push_back(index);
  }
}

void ShardReplica::touch(std::uint64_t begin, std::uint64_t end) {
  all_touched_ = all_touched_ || end - begin > size() / 4;
  if (all_touched_) return;
  for (std::uint64_t i = begin; i < end; ++i) {
    if (touched_[i] != 0) continue;
    touched_[i] = 1;
    touched_indices_.push_back(static_cast<std::uint32_t>(i));
  }
}

void ShardReplica::rebase() {
  if (all_touched_) {
    std::copy(shadow_.begin(), shadow_.end(), base_.begin());
    for (const InFlight& sent : in_flight_) add(base_, sent.update, -1.0f);
  } else {
    for (const std::uint32_t i : touched_indices_) base_[i] = shadow_[i];
    for (const InFlight& sent : in_flight_) {
      if (sent.update.dense) {
        for (const std::uint32_t i : touched_indices_) base_[i] -= sent.update.values[i];
        continue;
      }
      if (touched_indices_.empty()) break;
      for (std::size_t k = 0; k < sent.update.indices.size(); ++k) {
        const std::uint32_t i = sent.update.indices[k];
        if (touched_[i] != 0) base_[i] -= sent.update.values[k];
      }
    }
  }
  for (const std::uint32_t i : touched_indices_) touched_[i] = 0;
  touched_indices_.clear();
  all_touched_ = false;
}

void ShardReplica::compute_parameters(std::span<float> x, std::span<const float> pending,
                                      MergeWeights weights) const {
  NANDUTI_CHECK(x.size() == base_.size() && (pending.empty() || pending.size() == x.size()));
  const auto [own_work, rho] = weights;
  if (own_work != 1) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float on_its_way = (shadow_[i] - base_[i]) + (pending.empty() ? 0 : pending[i]);
      x[i] = (shadow_[i] - own_work * on_its_way) - rho * residual_[i];
    }
  } else if (pending.empty()) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = base_[i] - rho * residual_[i];
  } else {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = (base_[i] - pending[i]) - rho * residual_[i];
  }
}

Push ShardReplica::push(std::span<const float> progress, const Codec& codec, const CodingContext& context) {
  EncodedUpdate encoded = codec.encode(residual_, progress, context);
  add(base_, encoded.update, -1.0f);
  Push push;
  push.sequence = next_sequence_;
  push.acknowledged = acknowledged_;
  push.coding = static_cast<std::uint8_t>(codec.coding());
  push.payload = std::move(encoded.payload);
  in_flight_.push_back({push.sequence, std::move(encoded.update), push.payload.size()});
  next_sequence_ = next_sequence_.next();
  return push;
}

}  // namespace nanduti
