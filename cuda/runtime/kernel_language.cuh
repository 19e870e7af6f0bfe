#pragma once

/// What kernels are written in: CUDA C++, and for memory that threads share
///   NANDUTI_SHARED(type, name, count)   an array in shared memory
///   device::load, device::store        global memory
///   NANDUTI_LAUNCH(kernel, blocks, threads, stream, arguments...)   gives a cudaError_t
/// so that an emulated device can check and count accesses (test/simt/kernel_language.h, which comes first
/// there). Operations on real numbers whose bits matter are the explicitly rounded ones (__fadd_rn, ...).
#if defined(__CUDACC__)

#include <cstdint>

#include <cuda_runtime.h>

#define NANDUTI_SHARED(type, name, count) __shared__ type name[count]
#define NANDUTI_LAUNCH(kernel, blocks, threads, stream, ...) \
  (kernel<<<(blocks), (threads), 0, (stream)>>>(__VA_ARGS__), cudaGetLastError())

namespace nanduti::device {

template <class T>
__device__ __forceinline__ T load(const T* from) {
  return *from;
}

template <class T>
__device__ __forceinline__ void store(T* to, const T& value) {
  *to = value;
}

}  // namespace nanduti::device

#elif !defined(NANDUTI_SHARED)
#error "a kernel is compiled by nvcc, or after test/simt/kernel_language.h"
#endif
