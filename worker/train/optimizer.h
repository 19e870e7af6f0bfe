#pragma once

#include <span>
#include <vector>

#include "common/model/training_spec.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

/// The parts of the space that hold tensors, ascending; adjacent tensors are one part.
std::vector<ParameterRange> tensor_ranges(const ParameterSpace& space);

/// Plain and momentum SGD with weight decay, as torch.optim.SGD does them. Its velocity persists from step to
/// step. One thread at a time.
class Optimizer {
 public:
  Optimizer(const OptimizerSpec& spec, const ParameterSpace& space);

  /// One minibatch: g = gradient + weight_decay x; velocity = momentum velocity + g; x -= learning_rate
  /// velocity. Both shape [space.size()]; only tensors are read and written, not the gaps.
  /// On x86 denormal numbers count as zero.
  void step(double learning_rate, std::span<const float> gradient, std::span<float> x);
  /// Forgets the velocity.
  void reset();

 private:
  OptimizerSpec spec_;
  std::vector<ParameterRange> ranges_;
  std::vector<float> velocity_;  // empty without momentum
};

}  // namespace nanduti
