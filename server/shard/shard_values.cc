#include "server/shard/shard_values.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/tensor/parameter_space.h"

namespace nanduti {

ShardValues::ShardValues(std::vector<float> initial, ServerOptimizer optimizer)
    : w_(std::move(initial)),
      optimizer_(std::move(optimizer)),
      shadow_(w_),
      changed_((w_.size() + kBlockSize - 1) / kBlockSize) {}

EncodedUpdate ShardValues::publish(const Codec& codec, const CodingContext& context) {
  version_ = version_.next();
  change_.resize(w_.size());
  for (std::size_t i = 0; i < w_.size(); ++i) change_[i] = w_[i] - shadow_[i];
  EncodedUpdate encoded = codec.encode(change_, {}, context);
  const Update& update = encoded.update;
  add(shadow_, update, 1.0f);
  if (update.dense) std::fill(changed_.begin(), changed_.end(), version_);
  for (const std::uint32_t index : update.indices) changed_[index / kBlockSize] = version_;
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

double ShardValues::residual_norm() const {
  double squares = 0;
  for (std::size_t i = 0; i < w_.size(); ++i) {
    const auto lacks = static_cast<double>(w_[i]) - static_cast<double>(shadow_[i]);
    squares += lacks * lacks;
  }
  return std::isfinite(squares) ? std::sqrt(squares) : 0;
}

}  // namespace nanduti
