#include <algorithm>
#include <cmath>

#include "common/base/random.h"
#include "common/model/resolved_model.h"

namespace nanduti {
namespace {

constexpr std::uint32_t kInitialValuesStream = 0x494E4954;  // "INIT": apart from every other use of the seed

/// Fills the part of tensor `place` that lies in `range`. One Philox block serves four consecutive indices.
void fill(const TensorPlace& place, double bound, std::uint64_t seed, ParameterRange range,
          std::vector<float>& values) {
  const std::uint64_t begin = std::max(place.offset, range.begin);
  const std::uint64_t end = std::min(place.offset + place.size(), range.end);
  const std::array<std::uint32_t, 2> key{static_cast<std::uint32_t>(seed),
                                         static_cast<std::uint32_t>(seed >> 32)};
  std::array<std::uint32_t, 4> words{};
  for (std::uint64_t index = begin; index < end; ++index) {
    if (index == begin || index % 4 == 0) {
      const std::uint64_t block = index / 4;
      words = philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                          kInitialValuesStream, 0},
                         key);
    }
    const double unit = (words[index % 4] + 0.5) * 0x1.0p-32;  // in (0, 1), exact
    values[index - range.begin] = static_cast<float>(bound * (2.0 * unit - 1.0));
  }
}

}  // namespace

std::vector<float> initial_values(const ResolvedModel& model, std::uint64_t seed, ParameterRange range) {
  NANDUTI_CHECK(range.begin <= range.end && range.end <= model.space.size());
  std::vector<float> values(range.size(), 0.0f);
  for (const ResolvedLayer& layer : model.layers) {
    if (!layer.weight) continue;
    const double bound = 1.0 / std::sqrt(static_cast<double>(layer.fan_in));
    fill(model.space.tensors()[*layer.weight], bound, seed, range, values);
    fill(model.space.tensors()[*layer.weight + 1], bound, seed, range, values);
  }
  return values;
}

}  // namespace nanduti
