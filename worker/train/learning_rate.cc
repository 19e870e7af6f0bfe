#include "worker/train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nanduti {

double learning_rate(const TrainingSpec& spec, double epochs_before) {
  const ScheduleSpec& schedule = spec.schedule;
  const bool warms_up = epochs_before < schedule.warmup_epochs;
  const double base =
      spec.optimizer.learning_rate * (warms_up ? epochs_before / schedule.warmup_epochs : 1.0);
  switch (schedule.type) {
    case ScheduleType::kConstant:
      return base;
    case ScheduleType::kCosine: {
      const double progress = std::clamp(epochs_before / std::max(spec.epochs, 1u), 0.0, 1.0);
      const double wave = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
      return base * (schedule.final_fraction + (1.0 - schedule.final_fraction) * wave);
    }
    case ScheduleType::kStep:
      return base *
             std::pow(schedule.step_factor, std::floor(epochs_before / std::max(schedule.step_epochs, 1u)));
  }
  return base;
}

}  // namespace nanduti
