#pragma once

#include "common/codec/codec_kernels.h"
#include "cuda/codec/block_scan.cuh"
#include "cuda/codec/kernels.h"

namespace nanduti::device {

inline constexpr unsigned kBlockValues = 4096;
static_assert(kBlockValues == kBlockSize);

/// Of block `block`, among `size` values.
__device__ inline unsigned values_in_block(unsigned block, std::uint64_t size) {
  const std::uint64_t left = size - static_cast<std::uint64_t>(block) * kBlockValues;
  return left < kBlockValues ? static_cast<unsigned>(left) : kBlockValues;
}

/// One thread for each block.
__global__ void select_plainly(SelectArguments arguments, unsigned blocks) {
  const unsigned block = blockIdx.x * blockDim.x + threadIdx.x;
  if (block >= blocks) return;
  const unsigned size = values_in_block(block, arguments.size);
  const std::uint64_t begin = static_cast<std::uint64_t>(block) * kBlockValues;
  float* const residual = arguments.residual + begin;
  unsigned nonzeros = 0;
  for (unsigned i = 0; i < size; ++i) {
    float value = load(&residual[i]);
    if (arguments.progress != nullptr) {
      value = __fadd_rn(value, load(&arguments.progress[begin + i]));
      store(&residual[i], value);
    }
    nonzeros += (__float_as_uint(value) & kMagnitudeBits) != 0 ? 1 : 0;
  }
  const unsigned wanted = load(&arguments.wanted[block]);
  // The largest magnitude that `wanted` values reach, found bit by bit; 1 if not so many are not zero.
  unsigned least = 1;
  if (nonzeros > wanted) {
    least = 0;
    for (int bit = 30; bit >= 0; --bit) {
      const unsigned guess = least | (1u << bit);
      unsigned reached = 0;
      for (unsigned i = 0; i < size; ++i)
        reached += (__float_as_uint(load(&residual[i])) & kMagnitudeBits) >= guess ? 1 : 0;
      if (reached >= wanted) least = guess;
    }
  }
  unsigned above = 0;
  for (unsigned i = 0; i < size; ++i)
    above += (__float_as_uint(load(&residual[i])) & kMagnitudeBits) > least ? 1 : 0;
  unsigned equals_left = nonzeros > wanted ? wanted - above : size;
  const Candidates& to = arguments.candidates;
  const unsigned slot = load(&to.slots[block]);
  unsigned count = 0;
  for (unsigned i = 0; i < size; ++i) {
    const float value = load(&residual[i]);
    const unsigned magnitude = __float_as_uint(value) & kMagnitudeBits;
    if (magnitude < least || (magnitude == least && equals_left == 0)) continue;
    if (magnitude == least) --equals_left;
    store(&to.indices[slot + count], i);
    store(&to.values[slot + count], value);
    ++count;
  }
  store(&to.selected[block], count);
  store(&to.nonzeros[block], nonzeros);
}

/// kThreads for each block of values. Reads and writes every value once; the magnitudes stay in registers.
__global__ void select_fast(SelectArguments arguments) {
  constexpr unsigned kFours = kBlockValues / 4 / kThreads;  // of each thread: values 4 (k * threads + thread)
  NANDUTI_SHARED(unsigned, shared, 2 * kWarps);
  NANDUTI_SHARED(unsigned, asked, 2);  // how many are wanted, and where they go: read once
  BlockScan scan(shared);
  const unsigned thread = threadIdx.x;
  const Candidates& to = arguments.candidates;
  if (thread == 0) {
    asked[0] = load(&arguments.wanted[blockIdx.x]);
    asked[1] = load(&to.slots[blockIdx.x]);
  }
  const std::uint64_t begin = static_cast<std::uint64_t>(blockIdx.x) * kBlockValues;
  const unsigned size = values_in_block(blockIdx.x, arguments.size);
  float* const residual = arguments.residual + begin;
  const bool adds = arguments.progress != nullptr;
  const float* const progress = adds ? arguments.progress + begin : nullptr;

  float values[4 * kFours];
#pragma unroll
  for (unsigned k = 0; k < kFours; ++k) {
    const unsigned at = 4 * (k * kThreads + thread);
    float* const own = values + 4 * k;
    if (at + 4 <= size) {
      float4 four = load(reinterpret_cast<const float4*>(residual + at));
      if (adds) {
        const float4 more = load(reinterpret_cast<const float4*>(progress + at));
        four.x = __fadd_rn(four.x, more.x);
        four.y = __fadd_rn(four.y, more.y);
        four.z = __fadd_rn(four.z, more.z);
        four.w = __fadd_rn(four.w, more.w);
        store(reinterpret_cast<float4*>(residual + at), four);
      }
      own[0] = four.x;
      own[1] = four.y;
      own[2] = four.z;
      own[3] = four.w;
    } else {
#pragma unroll
      for (unsigned c = 0; c < 4; ++c) {
        own[c] = 0.0f;
        if (at + c >= size) continue;
        own[c] = load(&residual[at + c]);
        if (!adds) continue;
        own[c] = __fadd_rn(own[c], load(&progress[at + c]));
        store(&residual[at + c], own[c]);
      }
    }
  }

  const auto count_from = [&](unsigned least) {
    unsigned reached = 0;
#pragma unroll
    for (unsigned i = 0; i < 4 * kFours; ++i)
      reached += (__float_as_uint(values[i]) & kMagnitudeBits) >= least ? 1 : 0;
    return scan.sum(reached);
  };
  const unsigned nonzeros = count_from(1);
  const unsigned wanted = asked[0];
  unsigned least = 1, equals = kBlockValues;
  if (nonzeros > wanted) {
    least = 0;
    unsigned reached = kBlockValues;
    for (int bit = 30; bit >= 0 && reached != wanted; --bit) {
      const unsigned guess = least | (1u << bit);
      const unsigned of_guess = count_from(guess);
      if (of_guess < wanted) continue;
      least = guess;
      reached = of_guess;
    }
    if (reached != wanted) equals = wanted - count_from(least + 1);
  }

  // In order of the indices: first the places of a row of 4 * threads values, then the next row.
  const unsigned slot = asked[1];
  unsigned rows_before = 0;  // above `least` in the lower half, equal to it in the upper
#pragma unroll
  for (unsigned k = 0; k < kFours; ++k) {
    unsigned own = 0;
#pragma unroll
    for (unsigned c = 0; c < 4; ++c) {
      const unsigned magnitude = __float_as_uint(values[4 * k + c]) & kMagnitudeBits;
      own += (magnitude > least ? 1u : 0u) + (magnitude == least ? 1u << 16 : 0u);
    }
    unsigned of_row;
    unsigned place = rows_before + scan.before(own, of_row);
    rows_before += of_row;
#pragma unroll
    for (unsigned c = 0; c < 4; ++c) {
      const unsigned magnitude = __float_as_uint(values[4 * k + c]) & kMagnitudeBits;
      const unsigned above = place & 0xFFFF, equal = place >> 16;
      if (magnitude > least || (magnitude == least && equal < equals)) {
        const unsigned at = slot + above + (equal < equals ? equal : equals);
        store(&to.indices[at], 4 * (k * kThreads + thread) + c);
        store(&to.values[at], values[4 * k + c]);
      }
      place += (magnitude > least ? 1u : 0u) + (magnitude == least ? 1u << 16 : 0u);
    }
  }
  if (thread != 0) return;
  const unsigned above = rows_before & 0xFFFF, equal = rows_before >> 16;
  store(&to.selected[blockIdx.x], above + (equal < equals ? equal : equals));
  store(&to.nonzeros[blockIdx.x], nonzeros);
}

}  // namespace nanduti::device
