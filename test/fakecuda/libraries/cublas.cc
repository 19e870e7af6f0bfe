// The part of cuBLAS that cuda/ uses, on the CPU: matrices by columns, sums in double; factors have the bits
// of TF32 where that is asked for.
#include <cublas_v2.h>

#include "test/fakecuda/library.h"
#include "test/fakecuda/tf32.h"

struct cublasContext {
  cudaStream_t stream = nullptr;
  bool tf32 = false;
};

namespace {

using namespace nanduti::fakecuda;

constexpr const char* kHandles = "cuBLAS handles";

cublasStatus_t cublas_entered(const char* function) {
  switch (entered(function)) {
    case cudaSuccess:
      return CUBLAS_STATUS_SUCCESS;
    case cudaErrorMemoryAllocation:
      return CUBLAS_STATUS_ALLOC_FAILED;
    default:
      return CUBLAS_STATUS_EXECUTION_FAILED;
  }
}

/// op(M), rows x columns, of a matrix that lies by columns, `stride` apart.
struct Matrix {
  const float* values;
  std::size_t rows, columns, stride;
  bool transposed;
  bool tf32;
  [[nodiscard]] double at(std::size_t row, std::size_t column) const {
    const float value = transposed ? values[column + row * stride] : values[row + column * stride];
    return static_cast<double>(tf32 ? as_tf32(value) : value);
  }
  [[nodiscard]] bool fits() const { return stride >= (transposed ? columns : rows); }
  [[nodiscard]] std::size_t bytes() const {
    const std::size_t height = transposed ? columns : rows, width = transposed ? rows : columns;
    return width == 0 ? 0 : ((width - 1) * stride + height) * sizeof(float);
  }
};

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = nullptr;
  if (const cublasStatus_t status = cublas_entered("cublasCreate_v2"); status != CUBLAS_STATUS_SUCCESS)
    return status;
  *handle = new cublasContext();
  made(kHandles);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  given_back(kHandles);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  if (const cublasStatus_t status = cublas_entered("cublasSetStream_v2"); status != CUBLAS_STATUS_SUCCESS)
    return status;
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  if (const cublasStatus_t status = cublas_entered("cublasSetMathMode"); status != CUBLAS_STATUS_SUCCESS)
    return status;
  handle->tf32 = mode == CUBLAS_TF32_TENSOR_OP_MATH;
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    default:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
  }
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                              int m, int n, int k, const float* alpha, const float* A, int lda,
                              const float* B, int ldb, const float* beta, float* C, int ldc) {
  if (const cublasStatus_t status = cublas_entered("cublasSgemm_v2"); status != CUBLAS_STATUS_SUCCESS)
    return status;
  if (m < 0 || n < 0 || k < 0) return CUBLAS_STATUS_INVALID_VALUE;
  const auto size = [](int value) { return static_cast<std::size_t>(value); };
  const Matrix a{A, size(m), size(k), size(lda), transa != CUBLAS_OP_N, handle->tf32};
  const Matrix b{B, size(k), size(n), size(ldb), transb != CUBLAS_OP_N, handle->tf32};
  const Matrix c{C, size(m), size(n), size(ldc), false, false};
  if (!a.fits() || !b.fits() || !c.fits()) return CUBLAS_STATUS_INVALID_VALUE;
  for (const Matrix& in : {a, b})
    if (overlap({"", in.values, in.bytes()}, {"", C, c.bytes()})) return CUBLAS_STATUS_INVALID_VALUE;
  const auto work = [a, b, c, to = C, alpha = static_cast<double>(*alpha),
                     beta = static_cast<double>(*beta)] {
    constexpr const char* kName = "cublasSgemm_v2";
    if (!is_there(kName, {"A", a.values, a.bytes()}) || !is_there(kName, {"B", b.values, b.bytes()}) ||
        !is_there(kName, {"C", c.values, c.bytes()}))
      return;
    for (std::size_t column = 0; column < c.columns; ++column)
      for (std::size_t row = 0; row < c.rows; ++row) {
        double sum = 0;
        for (std::size_t i = 0; i < a.columns; ++i) sum += a.at(row, i) * b.at(i, column);
        float& value = to[row + column * c.stride];
        value = static_cast<float>(alpha * sum + (beta == 0 ? 0 : beta * static_cast<double>(value)));
      }
  };
  return hand_over(handle->stream, work) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

}  // extern "C"
