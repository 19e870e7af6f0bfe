#include "cuda/runtime/device_buffer.h"

namespace nanduti {

Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  // Told once: the next launch is not to find it.
  (void)cudaGetLastError();
  const bool memory = error == cudaErrorMemoryAllocation;
  return make_error(memory ? ErrorCode::kExhausted : ErrorCode::kUnavailable, "{}: {} ({})", what,
                    cudaGetErrorString(error), cudaGetErrorName(error));
}

}  // namespace nanduti
