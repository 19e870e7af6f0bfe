#include "server/shard/shard_values.h"

#include <algorithm>
#include <bit>

#include "common/base/check.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

ShardValues::ShardValues(std::vector<float> initial)
    : w_(std::move(initial)), shadow_(w_), changed_((w_.size() + kBlockSize - 1) / kBlockSize) {}

void ShardValues::apply(const Update& update, float multiplier) {
  NANDUTI_CHECK(update.size == w_.size());
  if (update.dense) {
    for (std::size_t i = 0; i < w_.size(); ++i) w_[i] -= multiplier * update.values[i];
  } else {
    for (std::size_t k = 0; k < update.indices.size(); ++k)
      w_[update.indices[k]] -= multiplier * update.values[k];
  }
}

EncodedUpdate ShardValues::publish(const Codec& codec, std::uint64_t seed) {
  version_ = version_.next();
  std::vector<float> change(w_.size());
  for (std::size_t i = 0; i < w_.size(); ++i) change[i] = w_[i] - shadow_[i];
  EncodedUpdate encoded = codec.encode(change, {seed, version_.value()});
  const Update& update = encoded.update;
  if (update.dense) {
    for (std::size_t i = 0; i < shadow_.size(); ++i) shadow_[i] += update.values[i];
    std::fill(changed_.begin(), changed_.end(), version_);
  } else {
    for (std::size_t k = 0; k < update.indices.size(); ++k) {
      shadow_[update.indices[k]] += update.values[k];
      changed_[update.indices[k] / kBlockSize] = version_;
    }
  }
  return encoded;
}

void ShardValues::publish_exactly() {
  version_ = version_.next();
  for (std::size_t block = 0; block < changed_.size(); ++block) {
    const std::size_t begin = block * kBlockSize;
    const std::size_t end = std::min<std::size_t>(begin + kBlockSize, w_.size());
    for (std::size_t i = begin; i < end; ++i) {
      if (std::bit_cast<std::uint32_t>(shadow_[i]) == std::bit_cast<std::uint32_t>(w_[i])) continue;
      shadow_[i] = w_[i];
      changed_[block] = version_;
    }
  }
}

std::vector<AssignedRange> ShardValues::changed_since(Version since) const {
  std::vector<AssignedRange> ranges;
  for (std::size_t block = 0; block < changed_.size(); ++block) {
    if (changed_[block] <= since) continue;
    const std::uint64_t begin = block * kBlockSize;
    const std::uint64_t end = std::min<std::uint64_t>(begin + kBlockSize, w_.size());
    if (!ranges.empty() && ranges.back().end == begin)
      ranges.back().end = end;
    else
      ranges.push_back({begin, end});
  }
  return ranges;
}

SharedBytes ShardValues::shadow_at(const std::vector<AssignedRange>& ranges) const {
  std::vector<float> values;
  for (const AssignedRange& range : ranges)
    values.insert(values.end(), shadow_.begin() + static_cast<std::ptrdiff_t>(range.begin),
                  shadow_.begin() + static_cast<std::ptrdiff_t>(range.end));
  return SharedBytes::take(std::move(values));
}

SharedBytes ShardValues::copy_of_w() const { return SharedBytes::take(std::vector<float>(w_)); }

}  // namespace nanduti
