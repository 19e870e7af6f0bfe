#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "common/base/random.h"

namespace nanduti {

inline std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(),
                 [](float v) { return std::bit_cast<std::uint32_t>(v); });
  return bits;
}

/// Values of many kinds.
inline std::vector<float> some_values(RandomStream& random, std::size_t size, int kind) {
  std::vector<float> values(size);
  for (float& value : values) {
    const auto any = static_cast<float>(random.uniform(-1, 1));
    switch (kind) {
      case 0:  // of all magnitudes
        value = any * std::exp2(static_cast<float>(random.uniform(-140, 120)));
        break;
      case 1:  // many that are equal
        value = static_cast<float>(static_cast<int>(random.below(7)) - 3);
        break;
      case 2:  // hardly any
        value = random.chance(0.002) ? any : (random.chance(0.5) ? 0.0f : -0.0f);
        break;
      case 3:  // subnormal
        value = std::bit_cast<float>(static_cast<std::uint32_t>(random.below(4)) |
                                     (random.chance(0.5) ? 0x80000000u : 0));
        break;
      case 4:  // none
        value = random.chance(0.001) ? std::numeric_limits<float>::quiet_NaN()
                                     : (random.chance(0.001) ? -std::numeric_limits<float>::infinity() : any);
        break;
      default:
        value = 0;
    }
  }
  return values;
}

inline constexpr int kKinds = 6;

}  // namespace nanduti
