#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

/// What cuDNN and cuBLAS leave to be computed, as the host launches it. Pointers are the device's.
namespace nanduti::device {

/// Over a batch; as BatchLoss.
struct LossSums {
  double loss = 0;
  std::uint64_t correct = 0;
};

struct LossArguments {
  const float* scores;         ///< shape (batch, classes)
  const std::uint8_t* labels;  ///< shape (batch), each below classes
  unsigned batch;
  unsigned classes;
  float* gradient;  ///< of the batch's mean loss, shape (batch, classes); null: not wanted
  LossSums* sums;
};
/// softmax_cross_entropy() of common/compute, in the same order but for the sum over the batch.
cudaError_t softmax_cross_entropy(const LossArguments& arguments, cudaStream_t stream);

/// change = momentum * (running - of_batch), each of shape (count).
cudaError_t statistics_change(const float* running, const float* of_batch, float momentum, float* change,
                              unsigned count, cudaStream_t stream);

/// to = max(from, 0), each of shape (count).
cudaError_t at_least_zero(const float* from, float* to, unsigned count, cudaStream_t stream);

}  // namespace nanduti::device
