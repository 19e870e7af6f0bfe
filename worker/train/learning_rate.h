#pragma once

#include "common/model/training_spec.h"

namespace nanduti {

/// The learning rate of a minibatch: a pure function of how many epochs of the job's data come before its
/// first sample, epoch + position / samples, in [0, spec.epochs].
double learning_rate(const TrainingSpec& spec, double epochs_before);

}  // namespace nanduti
