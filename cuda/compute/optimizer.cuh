#pragma once

#include <cmath>

#include "cuda/compute/kernels.h"
#include "cuda/runtime/value_of_thread.cuh"

/// A thread for each value: what they do is bound by memory, and neighbours read neighbours.
namespace nanduti::device {

__global__ void sgd_step_of_values(OptimizerStep step) {
  const std::uint64_t i = value_of_thread();
  if (i >= step.count) return;
  const float x = load(&step.x[i]);
  float change = load(&step.gradient[i]) + step.weight_decay * x;
  if (step.kind == OptimizerKind::kMomentum) {
    change = step.momentum * load(&step.velocity[i]) + change;
    store(&step.velocity[i], change);
  }
  store(&step.x[i], x - step.learning_rate * change);
}

__global__ void adamw_step_of_values(OptimizerStep step) {
  const std::uint64_t i = value_of_thread();
  if (i >= step.count) return;
  const float gradient = load(&step.gradient[i]);
  const float mean = step.beta1 * load(&step.velocity[i]) + (1 - step.beta1) * gradient;
  const float square = step.beta2 * load(&step.square[i]) + (1 - step.beta2) * (gradient * gradient);
  store(&step.velocity[i], mean);
  store(&step.square[i], square);
  const float x = load(&step.x[i]);
  store(&step.x[i], step.keep * x - step.learning_rate * mean / (sqrtf(square) * step.root + step.epsilon));
}

__global__ void scale_values(float* values, float factor, std::uint64_t count) {
  const std::uint64_t i = value_of_thread();
  if (i < count) store(&values[i], load(&values[i]) * factor);
}

__global__ void subtract_values(const float* what, float* to, std::uint64_t count) {
  const std::uint64_t i = value_of_thread();
  if (i < count) store(&to[i], load(&to[i]) - load(&what[i]));
}

__global__ void take_progress_of_values(const float* before, const float* after, float* progress,
                                        std::uint64_t count, unsigned* bad) {
  const std::uint64_t i = value_of_thread();
  if (i >= count) return;
  const float difference = load(&before[i]) - load(&after[i]);
  store(&progress[i], difference);
  // A difference from itself is 0, unless it is infinite or not a number.
  if (!(difference - difference == 0.0f)) atomicAdd(bad, 1u);
}

}  // namespace nanduti::device
