#pragma once

#include "cuda/replica/kernels.h"
#include "cuda/runtime/value_of_thread.cuh"

/// A thread for each value, but where sums are wanted.
namespace nanduti::device {

inline constexpr unsigned kReplicaThreads = 256;

__global__ void add_some_values(const float* what, float factor, float* to, std::uint64_t count) {
  const std::uint64_t i = value_of_thread();
  if (i < count) store(&to[i], __fadd_rn(load(&to[i]), __fmul_rn(factor, load(&what[i]))));
}

__global__ void compute_some_parameters(WorkingCopy copy) {
  const std::uint64_t i = value_of_thread();
  if (i >= copy.count) return;
  float x = load(&copy.x[i]);
  if (copy.own_work != 1) {
    const float shadow = load(&copy.shadow[i]);
    const float pending = copy.pending == nullptr ? 0.0f : load(&copy.pending[i]);
    const float on_its_way = __fadd_rn(__fsub_rn(shadow, x), pending);
    x = __fsub_rn(shadow, __fmul_rn(copy.own_work, on_its_way));
  } else if (copy.pending != nullptr) {
    x = __fsub_rn(x, load(&copy.pending[i]));
  }
  store(&copy.x[i], __fsub_rn(x, __fmul_rn(copy.rho, load(&copy.residual[i]))));
}

/// kReplicaThreads for each part. Sums go up a fixed tree: the same bits every time.
__global__ void measure_some_residual(const float* values, std::uint64_t count, ResidualPart* parts) {
  NANDUTI_SHARED(double, squares, kReplicaThreads);
  NANDUTI_SHARED(unsigned, left, kReplicaThreads);
  const unsigned thread = threadIdx.x;
  double sum = 0;
  unsigned finite = 0;
  for (std::uint64_t i = value_of_thread(); i < count;
       i += static_cast<std::uint64_t>(gridDim.x) * kReplicaThreads) {
    const float value = load(&values[i]);
    sum += static_cast<double>(value) * value;
    // A difference from itself is 0, unless it is infinite or not a number.
    if (value != 0 && value - value == 0) ++finite;
  }
  squares[thread] = sum;
  left[thread] = finite;
  __syncthreads();
  for (unsigned step = kReplicaThreads / 2; step > 0; step /= 2) {
    if (thread < step) {
      squares[thread] += squares[thread + step];
      left[thread] += left[thread + step];
    }
    __syncthreads();
  }
  if (thread != 0) return;
  store(&parts[blockIdx.x].squares, static_cast<double>(squares[0]));
  store(&parts[blockIdx.x].left, static_cast<std::uint64_t>(left[0]));
}

}  // namespace nanduti::device
