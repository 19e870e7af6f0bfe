#pragma once

#include <cstdint>
#include <vector>

#include "common/base/random.h"
#include "common/compute/reference/reference_backend.h"
#include "common/model/resolved_model.h"
#include "cuda/compute/device_learner.h"
#include "worker/train/network_description.h"
#include "worker/train/optimizer.h"

/// A small network with every kind of thing that a step can meet, and minibatches for it.
namespace nanduti {

inline constexpr DataShape kShape{2, 6, 5, 4};

inline ResolvedModel small_model() {
  const ModelSpec spec{"",
                       {Conv2dSpec{5, 3, 1, 1, false}, BatchNormSpec{}, ReluSpec{},
                        ResidualSpec{{Conv2dSpec{5, 3, 1, 1, false}, BatchNormSpec{}}, {}}, ReluSpec{},
                        GlobalAveragePoolSpec{}, DenseSpec{}}};
  return resolve_model(spec, kShape).value();
}

struct Minibatch {
  std::vector<float> images;
  std::vector<std::uint8_t> labels;
};

inline Minibatch some_minibatch(RandomStream& random, std::size_t batch) {
  Minibatch minibatch;
  for (std::size_t i = 0; i < batch * kShape.channels * kShape.height * kShape.width; ++i)
    minibatch.images.push_back(static_cast<float>(random.uniform(-1, 1)));
  for (std::size_t i = 0; i < batch; ++i)
    minibatch.labels.push_back(static_cast<std::uint8_t>(random.below(kShape.classes)));
  return minibatch;
}

inline OptimizerSpec optimizer_of(OptimizerType type) {
  OptimizerSpec spec;
  spec.type = type;
  spec.weight_decay = 0.01;
  spec.kept_at_merge = 0.5;
  return spec;
}

inline DeviceOptimizerOptions options_of(const OptimizerSpec& spec, const ParameterSpace& space) {
  DeviceOptimizerOptions options;
  options.kind = spec.type == OptimizerType::kSgd        ? device::OptimizerKind::kSgd
                 : spec.type == OptimizerType::kMomentum ? device::OptimizerKind::kMomentum
                                                         : device::OptimizerKind::kAdamW;
  options.momentum = spec.momentum;
  options.weight_decay = spec.weight_decay;
  options.beta1 = spec.beta1;
  options.beta2 = spec.beta2;
  options.epsilon = spec.epsilon;
  options.kept_at_merge = spec.kept_at_merge;
  for (const ParameterRange& range : tensor_ranges(space))
    (range.begin < space.buffers_begin() ? options.trained : options.buffers).push_back(range);
  return options;
}

}  // namespace nanduti
