#pragma once

#include <bit>
#include <cstdint>

namespace nanduti {

/// Scales are the upper halves of float32: 8 significant bits, so that a scale times a small integer is
/// exact. What the rounding loses stays in the residual. Host and device.
constexpr float from_bfloat16(std::uint16_t half) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16);
}

/// The next one towards zero.
constexpr std::uint16_t bfloat16_below(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

/// The nearest one, ties to even, but never infinity for a finite `value` >= 0.
constexpr std::uint16_t nearest_bfloat16(float value) {
  constexpr std::uint16_t kInfinity = 0x7F80;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  return rounded >= kInfinity ? bfloat16_below(value) : static_cast<std::uint16_t>(rounded);
}

}  // namespace nanduti
