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
  LossSums* sums;   ///< the batch's are added to what is there
};
/// softmax_cross_entropy() of common/compute, in the same order but for the sum over the batch.
cudaError_t softmax_cross_entropy(const LossArguments& arguments, cudaStream_t stream);

/// The local optimiser of a worker (worker/train/optimizer.h says what each computes).
enum class OptimizerKind : std::uint8_t { kSgd, kMomentum, kAdamW };

/// One step, of a range of parameters.
struct OptimizerStep {
  OptimizerKind kind;
  std::uint64_t count;
  const float* gradient;  ///< shape [count], as the next three
  float* x;
  float* velocity;      ///< kMomentum; kAdamW: the mean gradient
  float* square;        ///< kAdamW: the mean squared gradient
  float learning_rate;  ///< kAdamW: corrected for the mean
  float momentum;
  float weight_decay;  ///< kSgd and kMomentum
  // kAdamW.
  float root;  ///< of the square's root: its correction
  float beta1;
  float beta2;
  float epsilon;
  float keep;  ///< of x: what weight decay leaves
};
cudaError_t optimizer_step(const OptimizerStep& step, cudaStream_t stream);

/// values *= factor, shape [count].
cudaError_t scale(float* values, float factor, std::uint64_t count, cudaStream_t stream);

/// to -= what, shape [count].
cudaError_t subtract(const float* what, float* to, std::uint64_t count, cudaStream_t stream);

/// progress = before - after, shape [count]; bad += how many of these are infinite or not a number.
cudaError_t take_progress(const float* before, const float* after, float* progress, std::uint64_t count,
                          unsigned* bad, cudaStream_t stream);

/// change = momentum * (running - of_batch), 0 by momentum 0; each of shape (count).
cudaError_t statistics_change(const float* running, const float* of_batch, float momentum, float* change,
                              unsigned count, cudaStream_t stream);

/// to = max(from, 0), each of shape (count); what is no number stays so.
cudaError_t at_least_zero(const float* from, float* to, unsigned count, cudaStream_t stream);

}  // namespace nanduti::device
