#pragma once

#include <cublas_v2.h>
#include <cudnn.h>

#include "common/base/result.h"

static_assert(CUDNN_MAJOR == 9, "cuda/compute is written for the calls of cuDNN 9");

/// cuDNN and cuBLAS with owners and our errors.
namespace nanduti::device {

/// Ok, or kUnavailable with the library's word and what was wanted; kExhausted where it has no memory.
Status cudnn_status(cudnnStatus_t status, const char* what);
Status cublas_status(cublasStatus_t status, const char* what);

/// An object of a library, empty until make().
template <class Handle, auto kCreate, auto kDestroy>
class Owned {
 public:
  Owned() = default;
  ~Owned() {
    if (handle_ != nullptr) (void)kDestroy(handle_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  auto make() { return kCreate(&handle_); }
  [[nodiscard]] Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

// Legacy calls are what computes layer by layer; NVIDIA has marked them as such.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
using CudnnHandle = Owned<cudnnHandle_t, cudnnCreate, cudnnDestroy>;
using CublasHandle = Owned<cublasHandle_t, cublasCreate_v2, cublasDestroy_v2>;
using Tensor = Owned<cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor>;
using Filter = Owned<cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor>;
using Convolution =
    Owned<cudnnConvolutionDescriptor_t, cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor>;
using Pooling = Owned<cudnnPoolingDescriptor_t, cudnnCreatePoolingDescriptor, cudnnDestroyPoolingDescriptor>;
using Activation =
    Owned<cudnnActivationDescriptor_t, cudnnCreateActivationDescriptor, cudnnDestroyActivationDescriptor>;
#pragma GCC diagnostic pop

}  // namespace nanduti::device
