#include "worker/train/sample_order.h"

#include <numeric>
#include <utility>

#include "common/base/check.h"
#include "common/base/random.h"

namespace nanduti {
namespace {

constexpr std::uint64_t kOrderStream = 0x4F524445;  // "ORDE": apart from every other use of the seed

}  // namespace

std::vector<std::uint32_t> sample_order(std::uint64_t seed, std::uint32_t epoch, std::uint64_t count) {
  NANDUTI_CHECK(count <= UINT32_MAX, "{} samples", count);
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  RandomStream random(seed, (std::uint64_t{epoch} << 32) | kOrderStream);
  for (std::uint64_t left = count; left > 1; --left) std::swap(order[left - 1], order[random.below(left)]);
  return order;
}

}  // namespace nanduti
