#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/result.h"
#include "common/compute/network.h"

namespace nanduti {

/// What a trainer's rounds are computed by: a network, an optimiser, and the parameters between minibatches,
/// on a CPU or on a device. The same calls give the same bits on the same machine. One thread; steps allocate
/// nothing once their batch size was seen. Errors are the device's: kUnavailable, kExhausted; after one, the
/// round means nothing.
class Learner {
 public:
  virtual ~Learner() = default;

  /// Where to write the next minibatch, in the host's memory, shape (batch, channels, height, width); valid
  /// until it is used. Precondition: batch > 0.
  virtual Result<std::span<float>> input(std::size_t batch) = 0;

  /// A round begins from x, shape [parameter_space_size]: of the worker's working memory, as progress is. x
  /// stays as it is until the round is finished.
  virtual Status begin_round(std::span<const float> x) = 0;
  /// A minibatch of the round: the images in input(labels.size()), which was called last; labels[i] <
  /// classes.
  virtual Status step(std::span<const std::uint8_t> labels, double learning_rate) = 0;
  struct Round {
    BatchLoss sum;           ///< over the samples, each seen before its own step
    bool is_finite = false;  ///< all of the progress; whether the loss is, `sum` says
  };
  /// Writes progress = x before - x after to every tensor's place; gaps are not touched.
  virtual Result<Round> finish_round(std::span<float> progress) = 0;

  /// What follows is evaluated by x, which is the host's memory, until it is finished. Not within a round.
  virtual Status begin_evaluation(std::span<const float> x) = 0;
  /// The images in input(labels.size()), each by itself.
  virtual Status evaluate(std::span<const std::uint8_t> labels) = 0;
  /// The sum over all of them.
  virtual Result<BatchLoss> finish_evaluation() = 0;

  /// Others' work has been merged into what the next round begins from.
  virtual Status on_merge() = 0;
  /// Forgets the optimiser's velocity.
  virtual Status reset() = 0;
};

}  // namespace nanduti
