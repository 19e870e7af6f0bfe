#include "common/codec/block_selector.h"

#include <algorithm>

#include "common/base/check.h"

namespace nanduti {
namespace {

/// How far below the last block's threshold the next block's candidates begin: an eighth of a binade.
constexpr std::uint32_t kMargin = 1u << 20;
/// How far the threshold falls if too few were found: a binade, then four, then to the smallest magnitude.
constexpr std::uint32_t kBinade = 1u << 23;

std::uint32_t lowered(std::uint32_t threshold, std::uint32_t by) {
  return threshold > by ? threshold - by : 1;
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
    : kernels_(kernels), indices_(kBlockSize + kKernelSlack), bits_(kBlockSize + kKernelSlack) {}

std::size_t BlockSelector::collect(std::span<float> residual, const float* progress, std::size_t wanted) {
  const Candidates candidates{indices_.data(), bits_.data()};
  if (2 * wanted >= residual.size()) threshold_ = 1;
  std::size_t count =
      kernels_.accumulate_and_collect(residual.data(), progress, residual.size(), threshold_, candidates);
  for (std::uint32_t fall = kBinade; count < wanted && threshold_ > 1; fall *= 4) {
    threshold_ = fall > 4 * kBinade ? 1 : lowered(threshold_, fall);
    count =
        kernels_.accumulate_and_collect(residual.data(), nullptr, residual.size(), threshold_, candidates);
  }
  return count;
}

std::uint32_t BlockSelector::dividing_magnitude(std::size_t count, std::size_t wanted) const {
  // At least `wanted` reach `low`, fewer reach `high`.
  std::uint32_t low = threshold_, high = kMagnitudeBits + 1;
  std::size_t of_low = count, of_high = 0;
  for (std::uint32_t turn = 0; of_low != wanted && high - low > 1; ++turn) {
    // By proportion as long as it helps; magnitudes have a long tail, so that the first guesses stay low.
    const std::uint64_t width = high - low;
    const std::uint64_t step = turn % 3 == 2 ? width / 2
                               : turn == 0   ? kMargin
                                             : width * (of_low - wanted) / (of_low - of_high);
    const auto guess = low + static_cast<std::uint32_t>(std::clamp<std::uint64_t>(step, 1, width - 1));
    const std::size_t reached = kernels_.count_from(bits_.data(), count, guess);
    (reached >= wanted ? low : high) = guess;
    (reached >= wanted ? of_low : of_high) = reached;
  }
  return low;
}

void BlockSelector::select(std::span<float> residual, const float* progress, std::size_t wanted,
                           std::uint32_t offset, Selection& out) {
  NANDUTI_CHECK(residual.size() <= kBlockSize && out.count + wanted + kKernelSlack <= out.indices.size());
  const std::size_t count = collect(residual, progress, wanted);
  const std::size_t kept = std::min(count, wanted);
  const std::uint32_t magnitude = count > wanted ? dividing_magnitude(count, wanted) : threshold_;
  kernels_.keep_largest({indices_.data(), bits_.data()}, count, kept, magnitude, offset,
                        out.indices.data() + out.count, out.values.data() + out.count);
  out.count += kept;
  threshold_ = lowered(magnitude, kMargin);
}

}  // namespace nanduti
