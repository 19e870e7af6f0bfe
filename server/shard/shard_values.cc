#include "server/shard/shard_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "common/tensor/parameter_space.h"

namespace nanduti {

ShardValues::ShardValues(std::vector<float> initial, ServerOptimizer optimizer)
    : w_(std::move(initial)),
      optimizer_(std::move(optimizer)),
      shadow_(w_),
      changed_((w_.size() + kBlockSize - 1) / kBlockSize) {}

void ShardValues::apply(const Update& update, PushShare share) {
  if (optimizer_.touches_everything(share))
    copy_rest();
  else
    copy_before_change(update);
  optimizer_.apply(w_, update, share);
}

EncodedUpdate ShardValues::publish(const Codec& codec, const CodingContext& context) {
  change_.resize(w_.size());
  for (std::size_t i = 0; i < w_.size(); ++i) change_[i] = w_[i] - shadow_[i];
  EncodedUpdate encoded = codec.encode(change_, {}, context);
  add_version(encoded.update);
  return encoded;
}

void ShardValues::add_version(const Update& update) {
  copy_before_change(update);
  version_ = version_.next();
  add(shadow_, update, 1.0f);
  if (update.dense) std::fill(changed_.begin(), changed_.end(), version_);
  for (const std::uint32_t index : update.indices) changed_[index / kBlockSize] = version_;
}

void ShardValues::publish_exactly() {
  copy_rest();
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

// ---- a copy of one instant ----

std::vector<std::span<float>> ShardValues::arrays() {
  std::vector<std::span<float>> all{w_, shadow_};
  for (const std::span<float> slots : optimizer_.slots()) all.push_back(slots);
  return all;
}

bool ShardValues::fits() const {
  return changed_.size() == (w_.size() + kBlockSize - 1) / kBlockSize && optimizer_.fits();
}

std::uint64_t ShardValues::part_count() const {
  constexpr std::uint64_t kPartSize = kPartBlocks * kBlockSize;
  return (w_.size() + kPartSize - 1) / kPartSize;
}

void ShardValues::begin_copy() {
  to_copy_.assign(part_count(), true);
  next_to_copy_ = 0;
  copied_.clear();
}

void ShardValues::give_up_copy() {
  to_copy_.clear();
  next_to_copy_ = 0;
  copied_.clear();
}

std::optional<ValuesPart> ShardValues::take_part() {
  if (copied_.empty()) {
    while (next_to_copy_ < to_copy_.size() && !to_copy_[next_to_copy_]) ++next_to_copy_;
    if (next_to_copy_ == to_copy_.size()) return std::nullopt;
    copy_part(next_to_copy_);
  }
  ValuesPart part = std::move(copied_.front());
  copied_.pop_front();
  return part;
}

void ShardValues::copy_part(std::uint64_t part) {
  const std::uint64_t begin = part * kPartBlocks * kBlockSize;
  const std::uint64_t size = std::min<std::uint64_t>(kPartBlocks * kBlockSize, w_.size() - begin);
  std::vector<float> values;
  const std::vector<std::span<float>> all = arrays();
  values.reserve(all.size() * size);
  for (const std::span<float> array : all) {
    const std::span<float> range = array.subspan(begin, size);
    values.insert(values.end(), range.begin(), range.end());
  }
  to_copy_[part] = false;
  copied_.push_back({part, SharedBytes::take(std::move(values))});
}

void ShardValues::copy_before_change(const Update& update) {
  if (next_to_copy_ == to_copy_.size()) return;
  if (update.dense) return copy_rest();
  for (const std::uint32_t index : update.indices)
    if (const std::uint64_t part = index / (kPartBlocks * kBlockSize); to_copy_[part]) copy_part(part);
}

void ShardValues::copy_rest() {
  for (std::uint64_t part = next_to_copy_; part < to_copy_.size(); ++part)
    if (to_copy_[part]) copy_part(part);
  next_to_copy_ = to_copy_.size();
}

bool ShardValues::restore(std::uint64_t part, std::span<const std::byte> bytes) {
  if (part >= part_count()) return false;
  const std::uint64_t begin = part * kPartBlocks * kBlockSize;
  const std::uint64_t size = std::min<std::uint64_t>(kPartBlocks * kBlockSize, w_.size() - begin);
  const std::vector<std::span<float>> all = arrays();
  if (bytes.size() != all.size() * size * sizeof(float)) return false;
  for (const std::span<float> array : all) {
    std::memcpy(array.data() + begin, bytes.data(), size * sizeof(float));
    bytes = bytes.subspan(size * sizeof(float));
  }
  return true;
}

}  // namespace nanduti
