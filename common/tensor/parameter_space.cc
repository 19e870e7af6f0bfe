#include "common/tensor/parameter_space.h"

#include <functional>
#include <numeric>
#include <span>

#include "common/base/bytes.h"
#include "common/base/check.h"

namespace nanduti {
namespace {

std::uint64_t round_up_to_block(std::uint64_t size) {
  return (size + kBlockSize - 1) / kBlockSize * kBlockSize;
}

}  // namespace

std::uint64_t TensorPlace::size() const {
  return std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, std::multiplies<>());
}

ParameterSpace::ParameterSpace(const std::vector<NamedShape>& tensors) {
  tensors_.reserve(tensors.size());
  for (const NamedShape& tensor : tensors) tensors_.push_back({tensor.name, tensor.shape, 0});
  enum class Segment { kLarge, kSmall, kBuffers };
  const auto lay_out = [&](Segment segment) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      TensorPlace& place = tensors_[i];
      const Segment own = tensors[i].is_buffer         ? Segment::kBuffers
                          : place.size() >= kBlockSize ? Segment::kLarge
                                                       : Segment::kSmall;
      if (own != segment) continue;
      place.offset = size_;
      size_ += place.size();
      if (segment == Segment::kLarge) size_ = round_up_to_block(size_);
      if (segment != Segment::kBuffers) parameter_count_ += place.size();
    }
    size_ = round_up_to_block(size_);
  };
  lay_out(Segment::kLarge);
  dense_segment_begin_ = size_;
  lay_out(Segment::kSmall);
  buffers_begin_ = size_;
  lay_out(Segment::kBuffers);
}

std::uint64_t ParameterSpace::layout_hash() const {
  Fingerprint fingerprint;
  fingerprint.add(size_);
  for (const TensorPlace& place : tensors_) {
    fingerprint.add(std::as_bytes(std::span(place.name)));
    fingerprint.add(place.shape.size());
    for (const std::uint64_t extent : place.shape) fingerprint.add(extent);
    fingerprint.add(place.offset);
  }
  return fingerprint.value();
}

std::vector<ParameterRange> split_into_shards(std::uint64_t size, std::uint32_t count) {
  NANDUTI_CHECK(count > 0 && size % kBlockSize == 0, "size {} in {} shards", size, count);
  const std::uint64_t blocks = size / kBlockSize;
  std::vector<ParameterRange> ranges;
  std::uint64_t begin = 0;
  for (std::uint32_t shard = 0; shard < count; ++shard) {
    const std::uint64_t share = blocks / count + (shard < blocks % count ? 1 : 0);
    ranges.push_back({begin * kBlockSize, (begin + share) * kBlockSize});
    begin += share;
  }
  return ranges;
}

}  // namespace nanduti
