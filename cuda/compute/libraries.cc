#include "cuda/compute/libraries.h"

namespace nanduti::device {

Status cudnn_status(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return {};
  const bool memory = status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ||
                      status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
  return make_error(memory ? ErrorCode::kExhausted : ErrorCode::kUnavailable, "{}: {}", what,
                    cudnnGetErrorString(status));
}

Status cublas_status(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return make_error(status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorCode::kExhausted : ErrorCode::kUnavailable,
                    "{}: {}", what, cublasGetStatusString(status));
}

}  // namespace nanduti::device
