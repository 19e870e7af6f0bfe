#pragma once

#include "cuda/runtime/kernel_language.cuh"

namespace nanduti::device {

/// Of kernels with a thread for each value: neighbours read neighbours.
__device__ inline std::uint64_t value_of_thread() {
  return static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

}  // namespace nanduti::device
