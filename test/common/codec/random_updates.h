#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/base/random.h"

namespace nanduti {

/// What the values of a test update are like.
enum class UpdateKind : std::uint8_t {
  kBell,         ///< sums of uniform numbers, of one scale
  kHeavyTailed,  ///< magnitudes over many powers of two
  kAnyBits,      ///< any finite float32, subnormal ones and both zeros included
  kFewLevels,    ///< many equal magnitudes
  kMostlyZero,   ///< one in 200 is not zero
  kRows,         ///< runs of 300 with a scale of their own, some of them zero
  kZero,
};
inline constexpr UpdateKind kUpdateKinds[] = {
    UpdateKind::kBell,       UpdateKind::kHeavyTailed, UpdateKind::kAnyBits, UpdateKind::kFewLevels,
    UpdateKind::kMostlyZero, UpdateKind::kRows,        UpdateKind::kZero};

inline float random_bell(RandomStream& random) {
  double sum = -2;
  for (int i = 0; i < 4; ++i) sum += random.uniform();
  return static_cast<float>(sum);
}

inline float random_finite(RandomStream& random) {
  for (;;) {
    const float value = std::bit_cast<float>(random.next_u32());
    if (std::isfinite(value)) return value;
  }
}

inline std::vector<float> random_update(UpdateKind kind, std::size_t size, RandomStream& random) {
  std::vector<float> values(size);
  float scale = 1;
  for (std::size_t i = 0; i < size; ++i) {
    switch (kind) {
      case UpdateKind::kBell:
        values[i] = random_bell(random);
        break;
      case UpdateKind::kHeavyTailed:
        // One draw behind the other: compilers order arguments as they like.
        scale = random_bell(random);
        values[i] = std::ldexp(scale, static_cast<int>(random.below(40)) - 30);
        break;
      case UpdateKind::kAnyBits:
        values[i] = random_finite(random);
        break;
      case UpdateKind::kFewLevels:
        values[i] = 0.25f * static_cast<float>(static_cast<int>(random.below(9)) - 4);
        break;
      case UpdateKind::kMostlyZero:
        values[i] = random.below(200) == 0 ? random_bell(random) : 0.0f;
        break;
      case UpdateKind::kRows:
        if (i % 300 == 0)
          scale = random.chance(0.3) ? 0.0f : std::ldexp(1.0f, static_cast<int>(random.below(12)) - 6);
        values[i] = scale * random_bell(random);
        break;
      case UpdateKind::kZero:
        break;
    }
  }
  return values;
}

}  // namespace nanduti
