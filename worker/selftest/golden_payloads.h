#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "common/codec/block_codec.h"

namespace nanduti {

/// Values that every machine makes alike, and the fingerprint (common/base/bytes.h) of the payload that
/// BlockCodec makes of them: format and choice of values are part of what all releases agree on.
struct GoldenPayload {
  const char* name;
  BlockCodecOptions options;
  std::uint64_t size = 0;
  std::uint64_t fingerprint = 0;
};

/// Integers below 2^24 times powers of two: exact.
inline std::vector<float> golden_values(const GoldenPayload& golden) {
  std::vector<float> values(golden.size);
  std::uint32_t state = 12345;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    const auto mantissa = static_cast<float>(state >> 9);  // below 2^23
    state = state * 1664525u + 1013904223u;
    const float scale = std::bit_cast<float>((100 + (state >> 28)) << 23);
    value = (state >> 27) % 2 == 0 ? mantissa * scale : -mantissa * scale;
  }
  return values;
}

inline std::uint64_t fingerprint_of(const SharedBytes& payload) {
  Fingerprint fingerprint;
  fingerprint.add(payload.view());
  return fingerprint.value();
}

inline std::vector<GoldenPayload> golden_payloads() {
  const auto options = [](std::uint32_t bits, double density, std::uint64_t dense_blocks) {
    BlockCodecOptions made;
    made.value_bits = bits;
    made.density = density;
    made.dense_segment_begin = dense_blocks * kBlockSize;
    return made;
  };
  return {
      {"1 in 100, 2 bits", options(2, 0.01, 20), 15 * kBlockSize + 77, 0x3503bfa29c2ef686},
      {"2 in 100, 4 bits", options(4, 0.02, 20), 9 * kBlockSize, 0xab2d79271b0131f0},
      {"1 in 5, 8 bits, and a dense segment", options(8, 0.2, 3), 5 * kBlockSize + 1, 0x8baf41d271f8e586},
      {"1 in 3, exactly", options(32, 1.0 / 3, 20), 2 * kBlockSize + 4000, 0xe355c791fbb98587},
  };
}

}  // namespace nanduti
