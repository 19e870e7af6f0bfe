#pragma once

#include "cuda/compute/kernels.h"
#include "cuda/runtime/kernel_language.cuh"

namespace nanduti::device {

__global__ void statistics_change_of_channels(const float* running, const float* of_batch, float momentum,
                                              float* change, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  // By 0 they do not count, whatever they are.
  store(&change[i], momentum == 0 ? 0.0f : momentum * (load(&running[i]) - load(&of_batch[i])));
}

__global__ void at_least_zero_of_channels(const float* from, float* to, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float value = load(&from[i]);
  store(&to[i], value < 0 ? 0.0f : value);
}

}  // namespace nanduti::device
