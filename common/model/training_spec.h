#pragma once

#include <cstdint>

namespace nanduti {

enum class OptimizerType { kSgd, kMomentum, kAdamW };
enum class ScheduleType { kConstant, kCosine, kStep };

/// The local optimiser of a worker.
struct OptimizerSpec {
  OptimizerType type = OptimizerType::kMomentum;
  double learning_rate = 0.05;
  double momentum = 0.9;  ///< velocity = momentum * velocity + gradient; used by kMomentum
  /// Biases included. Added to the gradient as weight_decay * x (L2); kAdamW: x loses learning_rate *
  /// weight_decay of itself with each step.
  double weight_decay = 0.0;
  // Used by kAdamW.
  double beta1 = 0.9;     ///< of the mean gradient
  double beta2 = 0.999;   ///< of the mean squared gradient
  double epsilon = 1e-8;  ///< added to its root
  /// What of the velocity, or of AdamW's mean gradient, is kept where a round begins that others' work has
  /// been merged for: 0 to 1.
  double kept_at_merge = 1.0;
};

enum class ServerOptimizerType { kAdd, kNesterov, kAdagrad };

/// What a shard makes of workers' pushes (server/shard/server_optimizer.h).
struct ServerOptimizerSpec {
  ServerOptimizerType type = ServerOptimizerType::kAdd;
  double learning_rate = 1.0;
  double momentum = 0.9;  ///< used by kNesterov
  double epsilon = 1e-8;  ///< used by kAdagrad
};

/// Learning rate over the job's samples: a pure function of how far the job's data has got, in [0, 1].
struct ScheduleSpec {
  ScheduleType type = ScheduleType::kConstant;
  double warmup_epochs = 0;     ///< over which it rises from 0, in a straight line, times what the type says
  double final_fraction = 0.0;  ///< kCosine: ends at this fraction of the learning rate
  double step_factor = 0.1;     ///< kStep: multiplies the rate every step_epochs
  std::uint32_t step_epochs = 1;
};

/// What a training image goes through each time that it is seen.
struct AugmentSpec {
  /// So many black pixels are added on each side, and a random part as large as before is cut out.
  std::uint32_t crop = 0;
  bool flip = false;  ///< left and right change places, every second time
};

/// Everything about training that a worker's trainer needs.
struct TrainingSpec {
  std::uint32_t batch_size = 64;
  std::uint32_t epochs = 1;
  std::uint64_t seed = 1;
  OptimizerSpec optimizer;
  ServerOptimizerSpec server_optimizer;
  ScheduleSpec schedule;
  AugmentSpec augment;
};

}  // namespace nanduti
