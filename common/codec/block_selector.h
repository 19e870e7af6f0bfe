#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/codec/codec_kernels.h"
#include "common/tensor/parameter_range.h"

namespace nanduti {

/// Values of a group that are sent: `count` of them, indices ascending and relative to the group.
struct Selection {
  std::vector<std::uint32_t> indices;
  std::vector<float> values;
  std::size_t count = 0;

  /// Empties it, and makes room for so many.
  void reset(std::size_t capacity);
};

/// Selects within blocks. One thread.
class BlockSelector {
 public:
  explicit BlockSelector(const CodecKernels& kernels);

  /// residual += progress (shapes [n], n <= kBlockSize; progress may be null: nothing). Appends to `out` the
  /// `wanted` values with the largest magnitudes, without zeros; of equal ones the lower index first.
  /// `offset` is added to the indices.
  void select(std::span<float> residual, const float* progress, std::size_t wanted, std::uint32_t offset,
              Selection& out);

 private:
  const CodecKernels& kernels_;
  std::vector<std::uint32_t> bin_maxima_;
  std::vector<std::uint32_t> indices_;  ///< of candidates
  std::vector<std::uint32_t> bits_;
};

}  // namespace nanduti
