#pragma once

#include "common/codec/bfloat16.h"
#include "common/codec/codec_kernels.h"
#include "common/codec/group_layout.h"
#include "cuda/codec/block_scan.cuh"

/// Values to codes and back, with the operations of common/codec/quantiser.cc in their order.
namespace nanduti::device {

inline constexpr unsigned kInfinityBits = 0x7F800000;

__device__ inline float magnitude_of(float value) {
  return __uint_as_float(__float_as_uint(value) & kMagnitudeBits);
}
__device__ inline unsigned sign_of(float value) { return __float_as_uint(value) >> 31; }

/// Whether codes of the even kinds go so far: 7 or 127.
__device__ inline unsigned top_level(ValueCode code) { return (1u << (bits_of(code) - 1)) - 1; }

/// How the values of a group are quantised.
struct Quantiser {
  ValueCode code = ValueCode::kFloat32;
  unsigned short scales[2] = {0, 0};
  float middle = 0;  ///< of two bits: larger magnitudes are high

  [[nodiscard]] __device__ unsigned code_of(float value) const {
    if (code == ValueCode::kFloat32) return __float_as_uint(value);
    const float magnitude = magnitude_of(value);
    if (code == ValueCode::kTwoBits) return sign_of(value) | (magnitude > middle ? 2u : 0u);
    // A quotient below 2^22 plus this has no room for a fraction: it is rounded to nearest, ties to even.
    constexpr float kRound = 12582912.0f;
    const float step = from_bfloat16(scales[1]);
    const auto top = static_cast<float>(top_level(code));
    float quotient = step == 0 ? 0.0f : __fdiv_rn(__fsub_rn(magnitude, from_bfloat16(scales[0])), step);
    if (top < quotient) quotient = top;
    const auto level = static_cast<unsigned>(__fsub_rn(__fadd_rn(quotient, kRound), kRound));
    // Zero has no sign.
    return (level == 0 && scales[0] == 0 ? 0 : sign_of(value)) | (level << 1);
  }

  /// What a receiver makes of a code.
  [[nodiscard]] __device__ float value_of(unsigned coded) const {
    if (code == ValueCode::kFloat32) return __uint_as_float(coded);
    const float first = from_bfloat16(scales[0]), second = from_bfloat16(scales[1]);
    const unsigned level = coded >> 1;
    const float magnitude = code == ValueCode::kTwoBits
                                ? (level == 0 ? first : second)
                                : __fadd_rn(first, __fmul_rn(static_cast<float>(level), second));
    return coded % 2 != 0 ? -magnitude : magnitude;
  }
};

__device__ inline Quantiser quantiser_of(const GroupEntry& entry, float middle) {
  Quantiser quantiser;
  quantiser.code = entry.code();
  quantiser.scales[0] = entry.scales[0];
  quantiser.scales[1] = entry.scales[1];
  quantiser.middle = middle;
  return quantiser;
}

__device__ inline float mean(double sum, unsigned count) {
  return count == 0 ? 0.0f : __double2float_rn(__ddiv_rn(sum, static_cast<double>(count)));
}

/// The even kinds' scales for magnitudes from `smallest` to `largest`. Both are rounded down, so that the
/// largest code is finite.
__device__ inline void scale_evenly(Quantiser& quantiser, float smallest, float largest, bool from_zero) {
  quantiser.scales[0] = from_zero ? static_cast<unsigned short>(0) : bfloat16_below(smallest);
  const float base = from_bfloat16(quantiser.scales[0]);
  quantiser.scales[1] =
      bfloat16_below(__fdiv_rn(__fsub_rn(largest, base), static_cast<float>(top_level(quantiser.code))));
}

inline constexpr unsigned kSumLanes = 16;

/// By a whole warp: the sum of value(0) to value(count - 1), lane k of 16 taking every 16th, then by halves.
/// The lower half of the warp has that of value(_, 0), the upper that of value(_, 1); the first lane of each,
/// that is.
template <class Value>
__device__ double sum_in_lanes(unsigned count, const Value& value) {
  const unsigned lane = threadIdx.x % 32, which = lane / kSumLanes;
  double sum = 0;
  for (unsigned k = lane % kSumLanes; k < count; k += kSumLanes)
    sum = __dadd_rn(sum, static_cast<double>(value(k, which)));
  for (unsigned width = kSumLanes / 2; width > 0; width /= 2)
    sum = __dadd_rn(sum, __shfl_down_sync(~0u, sum, width));
  return sum;
}

}  // namespace nanduti::device
