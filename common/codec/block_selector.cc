#include "common/codec/block_selector.h"

#include <algorithm>

#include "common/base/check.h"

namespace nanduti {
namespace {

/// So many bins for each value that is wanted: then few others are above the largest of a bin.
constexpr std::size_t kBinsPerWanted = 2;
constexpr std::uint32_t kBinLog2Max = 4;

/// Magnitude bits, and how many of them reach it.
struct Division {
  std::uint32_t magnitude = 1;
  std::size_t reached = 0;
};

/// Finds a magnitude that at least `wanted` reach, by bisection from `low`, which is one: exactly `wanted`,
/// if ties allow, or `enough` and fewer. Magnitudes as bits are about logarithmic.
Division divide(const CodecKernels& kernels, const std::vector<std::uint32_t>& bits, std::size_t count,
                Division low, std::size_t wanted, std::size_t enough) {
  std::uint32_t high = kMagnitudeBits + 1;
  while (low.reached > enough && high - low.magnitude > 1) {
    const std::uint32_t guess = low.magnitude + (high - low.magnitude) / 2;
    const std::size_t reached = kernels.count_from(bits.data(), count, guess);
    if (reached >= wanted)
      low = {guess, reached};
    else
      high = guess;
  }
  return low;
}

}  // namespace

void Selection::reset(std::size_t capacity) {
  count = 0;
  if (indices.size() < capacity + kKernelSlack) {
    indices.resize(capacity + kKernelSlack);
    values.resize(capacity + kKernelSlack);
  }
}

BlockSelector::BlockSelector(const CodecKernels& kernels)
    : kernels_(kernels),
      bin_maxima_(kBlockSize + kKernelSlack),
      indices_(kBlockSize + kKernelSlack),
      bits_(kBlockSize + kKernelSlack) {}

void BlockSelector::select(std::span<float> residual, const float* progress, std::size_t wanted,
                           std::uint32_t offset, Selection& out) {
  const std::size_t size = residual.size();
  NANDUTI_CHECK(size <= kBlockSize && out.count + wanted + kKernelSlack <= out.indices.size());
  std::uint32_t bin_log2 = kBinLog2Max;
  while (bin_log2 > 0 && (size >> bin_log2) < kBinsPerWanted * wanted) --bin_log2;
  const std::size_t bins = kernels_.accumulate(residual.data(), progress, size, bin_log2, bin_maxima_.data());

  // What `wanted` bins reach, at least `wanted` values reach.
  Division least{1, kernels_.count_from(bin_maxima_.data(), bins, 1)};
  if (least.reached > wanted) least = divide(kernels_, bin_maxima_, bins, least, wanted, wanted + wanted / 8);
  const Candidates candidates{indices_.data(), bits_.data()};
  const std::size_t count = kernels_.collect(residual.data(), progress, size, least.magnitude, candidates);
  const std::size_t kept = std::min(count, wanted);
  const Division last = divide(kernels_, bits_, count, {least.magnitude, count}, wanted, wanted);
  kernels_.keep_largest(candidates, count, kept, last.magnitude, offset, out.indices.data() + out.count,
                        out.values.data() + out.count);
  out.count += kept;
}

}  // namespace nanduti
