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

void BlockSelector::select(std::span<float> residual, const float* progress, std::size_t wanted,
                           std::uint32_t offset, Selection& out) {
  NANDUTI_CHECK(residual.size() <= kBlockSize && out.count + wanted + kKernelSlack <= out.indices.size());
  const std::size_t count = collect(residual, progress, wanted);
  const Candidates candidates{indices_.data(), bits_.data()};
  std::uint32_t* const indices = out.indices.data() + out.count;
  float* const values = out.values.data() + out.count;
  if (count <= wanted) {
    out.count += kernels_.keep(candidates, count, 0, 0, offset, indices, values);
    threshold_ = lowered(threshold_, kMargin);
    return;
  }
  const std::uint32_t magnitude = kernels_.magnitude_of_rank(bits_.data(), count, wanted, threshold_);
  std::size_t above = 0;
  for (std::size_t i = 0; i < count; ++i) above += (bits_[i] & kMagnitudeBits) > magnitude ? 1 : 0;
  out.count += kernels_.keep(candidates, count, magnitude, wanted - above, offset, indices, values);
  threshold_ = lowered(magnitude, kMargin);
}

}  // namespace nanduti
