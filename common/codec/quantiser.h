#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/codec/block_layout.h"

namespace nanduti {

/// The values of a group as codes, and what a receiver will make of them.
struct QuantisedValues {
  std::uint16_t scales[2] = {0, 0};
  std::vector<std::uint32_t> codes;  ///< below 2^bits_of(code), or the bits of the float32
  std::vector<float> sent;
};

/// What the codes of 2, 4 or 8 bits stand for: writes 2^bits_of(code) values.
void fill_value_table(ValueCode code, const std::uint16_t scales[2], float* table);

/// Quantises finite values, of any kind for kFloat32. `from_zero`: the first scale is 0 where there are
/// magnitudes between two scales, so that the code 0 stands for 0.
/// Two bits: low or high around the mean magnitude, each sent as the mean of its kind. Four and eight: evenly
/// spaced from the smallest magnitude to the largest, to nearest, ties to even.
void quantise(std::span<const float> values, ValueCode code, bool from_zero, QuantisedValues& out);

}  // namespace nanduti
