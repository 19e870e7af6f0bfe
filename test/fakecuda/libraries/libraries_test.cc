// Goal: the fake libraries show what is wrong in a program that uses cuDNN and cuBLAS: a workspace that is
// too small, shapes that do not fit, nobody who waits, memory of the host, things left behind. Method:
// programs with and without each planted fault; sums by hand.
#include <cmath>
#include <string>
#include <vector>

#include <cublas_v2.h>
#include <cudnn.h>
#include <fmt/format.h>

#include "test/cuda/device_vector.h"
#include "test/fakecuda/fake_device.h"
#include "test/support/catch.h"

// Legacy calls are what is faked.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace nanduti::fakecuda {
namespace {

using Catch::Contains;

constexpr float kOne = 1, kZero = 0, kTwo = 2;

/// One convolution: 1 x 1 x 3 x 3, a filter of 2 x 2.
struct Convolving {
  Convolving() {
    reset();
    REQUIRE(cudnnCreate(&handle) == CUDNN_STATUS_SUCCESS);
    for (auto* tensor : {&x, &y}) REQUIRE(cudnnCreateTensorDescriptor(tensor) == CUDNN_STATUS_SUCCESS);
    REQUIRE(cudnnCreateFilterDescriptor(&w) == CUDNN_STATUS_SUCCESS);
    REQUIRE(cudnnCreateConvolutionDescriptor(&convolution) == CUDNN_STATUS_SUCCESS);
    REQUIRE(cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 1, 1, 3, 3) ==
            CUDNN_STATUS_SUCCESS);
    REQUIRE(cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 1, 1, 2, 2) ==
            CUDNN_STATUS_SUCCESS);
    REQUIRE(cudnnSetFilter4dDescriptor(w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NCHW, 1, 1, 2, 2) ==
            CUDNN_STATUS_SUCCESS);
    REQUIRE(cudnnSetConvolution2dDescriptor(convolution, 0, 0, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION,
                                            CUDNN_DATA_FLOAT) == CUDNN_STATUS_SUCCESS);
    REQUIRE(cudnnGetConvolutionForwardWorkspaceSize(handle, x, w, convolution, y, kAlgorithm, &needed) ==
            CUDNN_STATUS_SUCCESS);
  }
  ~Convolving() {
    (void)cudnnDestroyConvolutionDescriptor(convolution);
    (void)cudnnDestroyFilterDescriptor(w);
    for (auto* tensor : {x, y}) (void)cudnnDestroyTensorDescriptor(tensor);
    (void)cudnnDestroy(handle);
  }
  Convolving(const Convolving&) = delete;
  Convolving& operator=(const Convolving&) = delete;

  cudnnStatus_t run(const float* images, const float* filter, void* workspace, std::size_t bytes, float* to,
                    const float* beta = &kZero) const {
    return cudnnConvolutionForward(handle, &kOne, x, images, w, filter, convolution, kAlgorithm, workspace,
                                   bytes, beta, y, to);
  }

  static constexpr auto kAlgorithm = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
  cudnnHandle_t handle = nullptr;
  cudnnTensorDescriptor_t x = nullptr, y = nullptr;
  cudnnFilterDescriptor_t w = nullptr;
  cudnnConvolutionDescriptor_t convolution = nullptr;
  std::size_t needed = 0;
};

const std::vector<float> kImages = {1, 2, 3, 4, 5, 6, 7, 8, 9};
const std::vector<float> kFilter = {1, 0, 0, -1};

}  // namespace

TEST_CASE("a convolution is done when somebody waits, as its definition says") {
  const Convolving program;
  REQUIRE(program.needed > 0);
  const DeviceVector<float> images(kImages), filter(kFilter), result(std::vector<float>(4, 10));
  const DeviceVector<std::byte> workspace(program.needed);
  CHECK(program.run(images.data(), filter.data(), workspace.data(), program.needed, result.data()) ==
        CUDNN_STATUS_SUCCESS);
  CHECK(result.to_host() == std::vector<float>{-4, -4, -4, -4});
  CHECK(program.run(images.data(), filter.data(), workspace.data(), program.needed, result.data(), &kTwo) ==
        CUDNN_STATUS_SUCCESS);
  CHECK(result.to_host() == std::vector<float>{-12, -12, -12, -12});  // -4 + 2 * -4
}

TEST_CASE("a workspace that is too small is an error if it says so, and a failure if it does not") {
  const Convolving program;
  const DeviceVector<float> images(kImages), filter(kFilter), result(4);
  const DeviceVector<std::byte> small(program.needed - 1);
  CHECK(program.run(images.data(), filter.data(), small.data(), program.needed - 1, result.data()) ==
        CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
  CHECK(program.run(images.data(), filter.data(), small.data(), program.needed, result.data()) ==
        CUDNN_STATUS_SUCCESS);
  CHECK(cudaStreamSynchronize(nullptr) == cudaErrorLaunchFailure);
  CHECK_THAT(kernel_failure(),
             Contains(fmt::format("cudnnConvolutionForward: workspace of {} bytes: ", program.needed)));
}

TEST_CASE("a workspace is overwritten, and shares no memory with what is computed") {
  const Convolving program;
  const DeviceVector<float> images(kImages), filter(kFilter), result(8);
  const DeviceVector<float> workspace(std::vector<float>(program.needed / sizeof(float), 1));
  CHECK(program.run(images.data(), filter.data(), result.data() + 3, program.needed, result.data()) ==
        CUDNN_STATUS_BAD_PARAM);
  CHECK(program.run(images.data(), filter.data(), workspace.data(), program.needed, result.data()) ==
        CUDNN_STATUS_SUCCESS);
  CHECK(std::isnan(workspace.to_host()[0]));
}

TEST_CASE("memory of the host, and memory that is too small, fail with the operand's name") {
  {
    const Convolving program;
    const DeviceVector<float> filter(kFilter), result(4);
    const DeviceVector<std::byte> workspace(program.needed);
    CHECK(program.run(kImages.data(), filter.data(), workspace.data(), program.needed, result.data()) ==
          CUDNN_STATUS_SUCCESS);
    CHECK(cudaStreamSynchronize(nullptr) == cudaErrorLaunchFailure);
    CHECK_THAT(kernel_failure(), Contains("cudnnConvolutionForward: x of 36 bytes: "));
  }
  const Convolving program;
  const DeviceVector<float> images(kImages), filter(kFilter), result(3);
  const DeviceVector<std::byte> workspace(program.needed);
  CHECK(program.run(images.data(), filter.data(), workspace.data(), program.needed, result.data()) ==
        CUDNN_STATUS_SUCCESS);
  CHECK(cudaStreamSynchronize(nullptr) == cudaErrorLaunchFailure);
  CHECK_THAT(kernel_failure(), Contains("cudnnConvolutionForward: y of 16 bytes: "));
}

TEST_CASE("shapes that do not fit are refused at once") {
  const Convolving program;
  REQUIRE(cudnnSetTensor4dDescriptor(program.y, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 1, 1, 3, 2) ==
          CUDNN_STATUS_SUCCESS);
  const DeviceVector<float> images(kImages), filter(kFilter), result(6);
  CHECK(program.run(images.data(), filter.data(), nullptr, 1000, result.data()) ==
        CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
  CHECK(cudnnAddTensor(program.handle, &kOne, program.x, images.data(), &kZero, program.y, result.data()) ==
        CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
  CHECK(cudnnSetTensor4dDescriptor(program.y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 1, 1, 2, 2) ==
        CUDNN_STATUS_NOT_SUPPORTED);
}

TEST_CASE("a product of matrices by columns, either of them transposed, as BLAS has it") {
  reset();
  cublasHandle_t handle = nullptr;
  REQUIRE(cublasCreate_v2(&handle) == CUBLAS_STATUS_SUCCESS);
  // By columns: A = [1 3 5; 2 4 6], B = [7 9; 8 10; 0 1], so A B = [31 44; 46 64].
  const DeviceVector<float> a(std::vector<float>{1, 2, 3, 4, 5, 6}), b(std::vector<float>{7, 8, 0, 9, 10, 1});
  const DeviceVector<float> a_by_rows(std::vector<float>{1, 3, 5, 2, 4, 6}),
      b_by_rows(std::vector<float>{7, 9, 8, 10, 0, 1});
  const std::vector<float> expected = {31, 46, 44, 64};
  for (const bool transposes_a : {false, true})
    for (const bool transposes_b : {false, true}) {
      const DeviceVector<float> c(std::vector<float>(4, NAN));
      CHECK(cublasSgemm_v2(handle, transposes_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                           transposes_b ? CUBLAS_OP_T : CUBLAS_OP_N, 2, 2, 3, &kOne,
                           transposes_a ? a_by_rows.data() : a.data(), transposes_a ? 3 : 2,
                           transposes_b ? b_by_rows.data() : b.data(), transposes_b ? 2 : 3, &kZero, c.data(),
                           2) == CUBLAS_STATUS_SUCCESS);
      CHECK(c.to_host() == expected);
    }
  const DeviceVector<float> c(std::vector<float>(4, 1));
  CHECK(cublasSgemm_v2(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 3, &kTwo, a.data(), 2, b.data(), 3, &kTwo,
                       c.data(), 2) == CUBLAS_STATUS_SUCCESS);
  CHECK(c.to_host() == std::vector<float>{64, 94, 90, 130});
  CHECK(cublasSgemm_v2(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 3, &kOne, a.data(), 1, b.data(), 3, &kZero,
                       c.data(), 2) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasDestroy_v2(handle) == CUBLAS_STATUS_SUCCESS);
}

TEST_CASE("what is written shares no memory with what is read, but where it may take its place") {
  const Convolving program;
  cudnnActivationDescriptor_t relu = nullptr;
  REQUIRE(cudnnCreateActivationDescriptor(&relu) == CUDNN_STATUS_SUCCESS);
  REQUIRE(cudnnSetActivationDescriptor(relu, CUDNN_ACTIVATION_RELU, CUDNN_PROPAGATE_NAN, 0) ==
          CUDNN_STATUS_SUCCESS);
  const DeviceVector<float> values(std::vector<float>{-1, 2, NAN, 4, 5, 6, 7, 8, 9, 10});
  const auto run = [&](float* to) {
    return cudnnActivationForward(program.handle, relu, &kOne, program.x, values.data(), &kZero, program.x,
                                  to);
  };
  CHECK(run(values.data() + 1) == CUDNN_STATUS_BAD_PARAM);
  CHECK(run(values.data()) == CUDNN_STATUS_SUCCESS);
  const std::vector<float> result = values.to_host();
  CHECK(result[0] == 0);
  CHECK(result[1] == 2);
  CHECK(std::isnan(result[2]));
  CHECK(cudnnAddTensor(program.handle, &kOne, program.x, values.data(), &kOne, program.x, values.data()) ==
        CUDNN_STATUS_BAD_PARAM);
  CHECK(cudnnDestroyActivationDescriptor(relu) == CUDNN_STATUS_SUCCESS);
}

TEST_CASE("products have the bits of TF32 where they may") {
  const Convolving program;
  const float odd = 1 + std::ldexp(1.0f, -12);  // 1 in TF32
  const DeviceVector<float> images(std::vector<float>(9, odd)), filter(std::vector<float>{1, 0, 0, 0}),
      result(4);
  const DeviceVector<std::byte> workspace(program.needed);
  for (const bool tf32 : {true, false}) {
    REQUIRE(cudnnSetConvolutionMathType(program.convolution, tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH) ==
            CUDNN_STATUS_SUCCESS);
    CHECK(program.run(images.data(), filter.data(), workspace.data(), program.needed, result.data()) ==
          CUDNN_STATUS_SUCCESS);
    CHECK(result.to_host()[0] == (tf32 ? 1.0f : odd));
  }
}

TEST_CASE("handles and descriptors that are left behind are named") {
  reset();
  cudnnHandle_t handle = nullptr;
  cublasHandle_t blas = nullptr;
  cudnnPoolingDescriptor_t pooling = nullptr;
  REQUIRE(cudnnCreate(&handle) == CUDNN_STATUS_SUCCESS);
  REQUIRE(cublasCreate_v2(&blas) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cudnnCreatePoolingDescriptor(&pooling) == CUDNN_STATUS_SUCCESS);
  CHECK(leaks() == std::vector<std::string>{"1 cuBLAS handles", "1 cuDNN handles", "1 cuDNN poolings"});
  CHECK(cudnnDestroyPoolingDescriptor(pooling) == CUDNN_STATUS_SUCCESS);
  CHECK(cublasDestroy_v2(blas) == CUBLAS_STATUS_SUCCESS);
  CHECK(cudnnDestroy(handle) == CUDNN_STATUS_SUCCESS);
  CHECK(leaks().empty());
}

TEST_CASE("a call of a library fails when it is told to") {
  reset();
  cudnnHandle_t handle = nullptr;
  fail_call("cudnnCreate", 1, cudaErrorMemoryAllocation);
  CHECK(cudnnCreate(&handle) == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED);
  CHECK(handle == nullptr);
  CHECK(leaks().empty());
}

}  // namespace nanduti::fakecuda
