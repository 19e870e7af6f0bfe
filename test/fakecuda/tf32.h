#pragma once

#include <bit>
#include <cstdint>

namespace nanduti::fakecuda {

/// A float with the 10 bits after the point that TF32 has, to the nearest, ties to even.
inline float as_tf32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7F800000u) == 0x7F800000u) return value;  // infinite, or not a number
  const std::uint32_t rounded = bits + 0xFFFu + ((bits >> 13) & 1u);
  return std::bit_cast<float>(rounded & ~0x1FFFu);
}

}  // namespace nanduti::fakecuda
