#pragma once

#include <span>
#include <vector>

#include "common/model/training_spec.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

/// The parts of the space that hold tensors, ascending; adjacent tensors are one part. None lies on both
/// sides of buffers_begin().
std::vector<ParameterRange> tensor_ranges(const ParameterSpace& space);

/// Plain and momentum SGD with weight decay, as torch.optim.SGD does them, and AdamW (Loshchilov and Hutter,
/// "Decoupled weight decay regularization", ICLR 2019) as torch.optim.AdamW. Its means persist from step to
/// step. One thread at a time.
class Optimizer {
 public:
  Optimizer(const OptimizerSpec& spec, const ParameterSpace& space);

  /// One minibatch. SGD: g = gradient + weight_decay x; velocity = momentum velocity + g; x -= learning_rate
  /// velocity. AdamW: x -= learning_rate weight_decay x; mean = beta1 mean + (1 - beta1) gradient; square =
  /// beta2 square + (1 - beta2) gradient^2; x -= learning_rate mean' / (sqrt(square') + epsilon), of means
  /// that are corrected for having begun at 0. Buffers are not trained: x -= gradient. Both shape
  /// [space.size()]; only tensors are read and written, not the gaps. On x86 denormal numbers count as zero.
  void step(double learning_rate, std::span<const float> gradient, std::span<float> x);
  /// Others' work has been merged into x: OptimizerSpec::kept_at_merge.
  void on_merge();
  /// Forgets the velocity, or the means.
  void reset();

 private:
  void sgd_step(double learning_rate, std::span<const float> gradient, std::span<float> x);
  void adamw_step(double learning_rate, std::span<const float> gradient, std::span<float> x);

  OptimizerSpec spec_;
  std::vector<ParameterRange> ranges_;  // what is trained
  std::vector<ParameterRange> buffers_;
  std::vector<float> velocity_;  // or the mean gradient; empty for plain SGD
  std::vector<float> square_;    // AdamW: the mean squared gradient
  std::uint64_t steps_ = 0;      // AdamW
};

}  // namespace nanduti
