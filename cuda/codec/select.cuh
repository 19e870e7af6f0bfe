#pragma once

#include "cuda/runtime/kernel_language.cuh"

/// Which values of each block are sent: residual += progress, then the largest magnitudes, of equal ones the
/// lower index first, never a zero (common/codec/README.md, "What is sent").
namespace nanduti::device {

inline constexpr unsigned kBlockValues = 4096;  // kBlockSize
inline constexpr unsigned kSelectThreads = 256;
inline constexpr unsigned kMagnitude = 0x7FFFFFFF;

/// All arrays in global memory; `residual` and `progress` aligned to 16 bytes.
struct SelectArguments {
  float* residual;          ///< shape [size]
  const float* progress;    ///< shape [size], or null: nothing is added
  unsigned long long size;  ///< of all blocks; the last one may be shorter
  const unsigned* wanted;   ///< per block: at most so many
  const unsigned* slots;    ///< per block: where its values begin in the next two
  unsigned* indices;        ///< within the block, ascending
  float* values;            ///< of the residual, progress included
  unsigned* selected;       ///< per block: how many there are
  unsigned* nonzeros;       ///< per block: values that are not zero
};

/// Slow and plain: launch with one thread for each block. The oracle of select().
__global__ void select_plainly(SelectArguments arguments, unsigned blocks) {
  const unsigned block = blockIdx.x * blockDim.x + threadIdx.x;
  if (block >= blocks) return;
  const unsigned long long begin = static_cast<unsigned long long>(block) * kBlockValues;
  const unsigned size =
      arguments.size - begin < kBlockValues ? static_cast<unsigned>(arguments.size - begin) : kBlockValues;
  float* const residual = arguments.residual + begin;
  unsigned nonzeros = 0;
  for (unsigned i = 0; i < size; ++i) {
    float value = load(&residual[i]);
    if (arguments.progress != nullptr) {
      value = __fadd_rn(value, load(&arguments.progress[begin + i]));
      store(&residual[i], value);
    }
    nonzeros += (__float_as_uint(value) & kMagnitude) != 0 ? 1 : 0;
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
        reached += (__float_as_uint(load(&residual[i])) & kMagnitude) >= guess ? 1 : 0;
      if (reached >= wanted) least = guess;
    }
  }
  unsigned above = 0;
  for (unsigned i = 0; i < size; ++i)
    above += (__float_as_uint(load(&residual[i])) & kMagnitude) > least ? 1 : 0;
  unsigned equals_left = nonzeros > wanted ? wanted - above : size;
  const unsigned slot = load(&arguments.slots[block]);
  unsigned count = 0;
  for (unsigned i = 0; i < size; ++i) {
    const float value = load(&residual[i]);
    const unsigned magnitude = __float_as_uint(value) & kMagnitude;
    if (magnitude < least || (magnitude == least && equals_left == 0)) continue;
    if (magnitude == least) --equals_left;
    store(&arguments.indices[slot + count], i);
    store(&arguments.values[slot + count], value);
    ++count;
  }
  store(&arguments.selected[block], count);
  store(&arguments.nonzeros[block], nonzeros);
}

/// Of the block's threads, the sum of `value`; `round` counts the calls, so that one barrier is enough.
template <class Sums>
__device__ inline unsigned sum_over_block(unsigned value, unsigned round, Sums& sums) {
  constexpr unsigned kWarps = kSelectThreads / 32;
  const unsigned of_warp = __reduce_add_sync(~0u, value);
  if (threadIdx.x % 32 == 0) sums[round % 2 * kWarps + threadIdx.x / 32] = of_warp;
  __syncthreads();
  unsigned sum = 0;
#pragma unroll
  for (unsigned warp = 0; warp < kWarps; ++warp) sum += sums[round % 2 * kWarps + warp];
  return sum;
}

/// One block of kSelectThreads for each block of values. Reads and writes every value once; the magnitudes
/// stay in registers.
__global__ void select(SelectArguments arguments) {
  constexpr unsigned kFours =
      kBlockValues / 4 / kSelectThreads;  // of each thread: values 4 (k * threads + thread) and on
  constexpr unsigned kWarps = kSelectThreads / 32;
  NANDUTI_SHARED(unsigned, sums, 2 * kWarps);
  const unsigned thread = threadIdx.x;
  const unsigned long long begin = static_cast<unsigned long long>(blockIdx.x) * kBlockValues;
  const unsigned size =
      arguments.size - begin < kBlockValues ? static_cast<unsigned>(arguments.size - begin) : kBlockValues;
  float* const residual = arguments.residual + begin;
  const bool adds = arguments.progress != nullptr;
  const float* const progress = adds ? arguments.progress + begin : nullptr;

  float values[4 * kFours];
#pragma unroll
  for (unsigned k = 0; k < kFours; ++k) {
    const unsigned at = 4 * (k * kSelectThreads + thread);
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

  const unsigned wanted = load(&arguments.wanted[blockIdx.x]);
  unsigned round = 0;
  const auto count_from = [&](unsigned least) {
    unsigned reached = 0;
#pragma unroll
    for (unsigned i = 0; i < 4 * kFours; ++i)
      reached += (__float_as_uint(values[i]) & kMagnitude) >= least ? 1 : 0;
    return sum_over_block(reached, round++, sums);
  };
  const unsigned nonzeros = count_from(1);
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
  const unsigned slot = load(&arguments.slots[blockIdx.x]);
  unsigned before = 0;  // of the rows before: above `least` in the lower half, equal to it in the upper
#pragma unroll
  for (unsigned k = 0; k < kFours; ++k) {
    unsigned own = 0;
#pragma unroll
    for (unsigned c = 0; c < 4; ++c) {
      const unsigned magnitude = __float_as_uint(values[4 * k + c]) & kMagnitude;
      own += (magnitude > least ? 1u : 0u) + (magnitude == least ? 1u << 16 : 0u);
    }
    unsigned through = own;
    for (unsigned step = 1; step < 32; step *= 2) {
      const unsigned other = __shfl_up_sync(~0u, through, step);
      if (thread % 32 >= step) through += other;
    }
    const unsigned half = round++ % 2 * kWarps;
    if (thread % 32 == 31) sums[half + thread / 32] = through;
    __syncthreads();
    unsigned place = before + through - own;
    for (unsigned warp = 0; warp < kWarps; ++warp) {
      const unsigned of_warp = sums[half + warp];
      if (warp < thread / 32) place += of_warp;
      before += of_warp;
    }
#pragma unroll
    for (unsigned c = 0; c < 4; ++c) {
      const unsigned magnitude = __float_as_uint(values[4 * k + c]) & kMagnitude;
      const unsigned above = place & 0xFFFF, equal = place >> 16;
      if (magnitude > least || (magnitude == least && equal < equals)) {
        const unsigned to = slot + above + (equal < equals ? equal : equals);
        store(&arguments.indices[to], 4 * (k * kSelectThreads + thread) + c);
        store(&arguments.values[to], values[4 * k + c]);
      }
      place += (magnitude > least ? 1u : 0u) + (magnitude == least ? 1u << 16 : 0u);
    }
  }
  if (thread != 0) return;
  const unsigned above = before & 0xFFFF, equal = before >> 16;
  store(&arguments.selected[blockIdx.x], above + (equal < equals ? equal : equals));
  store(&arguments.nonzeros[blockIdx.x], nonzeros);
}

}  // namespace nanduti::device
