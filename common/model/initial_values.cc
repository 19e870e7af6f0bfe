#include <algorithm>
#include <cmath>

#include "common/base/random.h"
#include "common/model/resolved_model.h"

namespace nanduti {
namespace {

constexpr std::uint32_t kInitialValuesStream = 0x494E4954;  // "INIT": apart from every other use of the seed

/// The part of a tensor that lies in a range.
ParameterRange part_of(const TensorPlace& place, ParameterRange range) {
  return {std::max(place.offset, range.begin), std::min(place.offset + place.size(), range.end)};
}

/// Fills the part of tensor `place` that lies in `range`. One Philox block serves four consecutive indices.
void fill_uniform(const TensorPlace& place, double bound, std::uint64_t seed, ParameterRange range,
                  std::vector<float>& values) {
  const ParameterRange part = part_of(place, range);
  const std::array<std::uint32_t, 2> key{static_cast<std::uint32_t>(seed),
                                         static_cast<std::uint32_t>(seed >> 32)};
  std::array<std::uint32_t, 4> words{};
  for (std::uint64_t index = part.begin; index < part.end; ++index) {
    if (index == part.begin || index % 4 == 0) {
      const std::uint64_t block = index / 4;
      words = philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                          kInitialValuesStream, 0},
                         key);
    }
    const double unit = (words[index % 4] + 0.5) * 0x1.0p-32;  // in (0, 1), exact
    values[index - range.begin] = static_cast<float>(bound * (2.0 * unit - 1.0));
  }
}

void fill_ones(const TensorPlace& place, ParameterRange range, std::vector<float>& values) {
  const ParameterRange part = part_of(place, range);
  for (std::uint64_t index = part.begin; index < part.end; ++index) values[index - range.begin] = 1.0f;
}

}  // namespace

std::vector<float> initial_values(const ResolvedModel& model, std::uint64_t seed, ParameterRange range) {
  NANDUTI_CHECK(range.begin <= range.end && range.end <= model.space.size());
  std::vector<float> values(range.size(), 0.0f);
  for (const ResolvedLayer& layer : model.layers) {
    const auto& tensors = model.space.tensors();
    if (layer.running_var) {
      fill_ones(tensors[*layer.weight], range, values);
      fill_ones(tensors[*layer.running_var], range, values);
      continue;
    }
    const double bound = 1.0 / std::sqrt(static_cast<double>(std::max<std::uint64_t>(layer.fan_in, 1)));
    for (const auto& tensor : {layer.weight, layer.bias})
      if (tensor) fill_uniform(tensors[*tensor], bound, seed, range, values);
  }
  return values;
}

}  // namespace nanduti
