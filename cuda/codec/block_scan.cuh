#pragma once

#include "cuda/runtime/kernel_language.cuh"

namespace nanduti::device {

inline constexpr unsigned kThreads = 256;
inline constexpr unsigned kWarps = kThreads / 32;

/// Sums over the kThreads threads of a block, one barrier each: calls take turns with two halves of `shared`,
/// an array of 2 * kWarps unsigned in shared memory. Every thread calls the same.
template <class Shared>
class BlockScan {
 public:
  __device__ explicit BlockScan(Shared& shared) : shared_(shared) {}

  /// The sum of all threads' values.
  __device__ unsigned sum(unsigned value) {
    const unsigned half = share(__reduce_add_sync(~0u, value), 0);
    unsigned total = 0;
#pragma unroll
    for (unsigned warp = 0; warp < kWarps; ++warp) total += shared_[half + warp];
    return total;
  }

  /// The largest.
  __device__ unsigned maximum(unsigned value) {
    const unsigned half = share(__reduce_max_sync(~0u, value), 0);
    unsigned largest = 0;
#pragma unroll
    for (unsigned warp = 0; warp < kWarps; ++warp) {
      const unsigned of_warp = shared_[half + warp];
      if (of_warp > largest) largest = of_warp;
    }
    return largest;
  }

  /// The sum of the values of threads before this one; `total`: of all.
  __device__ unsigned before(unsigned value, unsigned& total) {
    const unsigned thread = threadIdx.x;
    unsigned through = value;
    for (unsigned step = 1; step < 32; step *= 2) {
      const unsigned other = __shfl_up_sync(~0u, through, step);
      if (thread % 32 >= step) through += other;
    }
    const unsigned half = share(through, 31);
    unsigned place = through - value;
    total = 0;
#pragma unroll
    for (unsigned warp = 0; warp < kWarps; ++warp) {
      const unsigned of_warp = shared_[half + warp];
      if (warp < thread / 32) place += of_warp;
      total += of_warp;
    }
    return place;
  }

 private:
  /// Each warp's value, which its lane `from` has; returns where the first one's is.
  __device__ unsigned share(unsigned value, unsigned from) {
    const unsigned half = round_++ % 2 * kWarps;
    if (threadIdx.x % 32 == from) shared_[half + threadIdx.x / 32] = value;
    __syncthreads();
    return half;
  }

  Shared& shared_;
  unsigned round_ = 0;
};

}  // namespace nanduti::device
