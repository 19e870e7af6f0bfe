#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/codec/codec_kernels.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

/// Values of a group that are sent: `count` of them, indices ascending and relative to the group.
struct Selection {
  std::vector<std::uint32_t> indices;
  std::vector<float> values;
  std::size_t count = 0;

  /// Empties it, and makes room for so many.
  void reset(std::size_t capacity);
};

/// Selects within blocks. What it selects depends on the block alone; what it has seen before only makes it
/// faster. One thread.
class BlockSelector {
 public:
  explicit BlockSelector(const CodecKernels& kernels);

  /// residual += progress (shapes [n], n <= kBlockSize; progress may be null: nothing). Appends to `out` the
  /// `wanted` values with the largest magnitudes, without zeros; of equal ones the lower index first.
  /// `offset` is added to the indices.
  void select(std::span<float> residual, const float* progress, std::size_t wanted, std::uint32_t offset,
              Selection& out);

 private:
  /// Collects at least `wanted` candidates, or all that are not zero. Returns how many.
  std::size_t collect(std::span<float> residual, const float* progress, std::size_t wanted);
  /// A magnitude that at least `wanted` < `count` candidates reach and no more than `wanted` exceed.
  [[nodiscard]] std::uint32_t dividing_magnitude(std::size_t count, std::size_t wanted) const;

  const CodecKernels& kernels_;
  std::uint32_t threshold_ = 1;  ///< that all candidates reach
  std::vector<std::uint32_t> indices_;
  std::vector<std::uint32_t> bits_;
};

}  // namespace nanduti
