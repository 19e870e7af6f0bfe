#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "common/base/result.h"
#include "common/compute/network.h"
#include "cuda/compute/device_learner.h"
#include "cuda/runtime/device_buffer.h"
#include "cuda/runtime/pinned_buffer.h"
#include "cuda/runtime/stream.h"

namespace nanduti {

/// A DeviceLearner whose minibatches and evaluated parameters come from the host. While one minibatch is
/// computed, the next is written to pinned memory and copied. What it gives but progress are sums. One
/// thread; errors are the device's, and the round means nothing then.
class StagedLearner {
 public:
  static Result<std::unique_ptr<StagedLearner>> create(const NetworkDescription& description,
                                                       const DeviceOptimizerOptions& optimizer,
                                                       const DeviceNetworkOptions& options);
  ~StagedLearner();
  StagedLearner(const StagedLearner&) = delete;
  StagedLearner& operator=(const StagedLearner&) = delete;

  /// Where to write the next minibatch, in the host's memory, shape (batch, channels, height, width); valid
  /// until it is used. May wait for a copy. Precondition: batch > 0.
  Result<std::span<float>> input(std::size_t batch);

  /// From x, the device's, which is there already and stays as it is until the round is finished.
  Status begin_round(const float* x) { return learner_->begin_round(x); }
  /// The images in input(labels.size()), which was called last.
  Status step(std::span<const std::uint8_t> labels, double learning_rate);
  /// DeviceLearner::finish_round().
  Result<RoundResult> finish_round(float* progress) { return learner_->finish_round(progress); }

  /// x: in the host's memory, shape [parameter_space_size].
  Status begin_evaluation(std::span<const float> x);
  Status evaluate(std::span<const std::uint8_t> labels);
  Result<device::LossSums> finish_evaluation();

  Status on_merge() { return learner_->on_merge(); }
  Status reset() { return learner_->reset(); }

 private:
  /// A minibatch on its way to the device.
  struct Slot {
    PinnedBuffer<float> images;
    PinnedBuffer<std::uint8_t> labels;
    DeviceBuffer<float> device_images;
    DeviceBuffer<std::uint8_t> device_labels;
    DeviceEvent copied;  // pinned memory may be written again
    DeviceEvent used;    // the device's may
  };

  explicit StagedLearner(std::size_t image_size) : image_size_(image_size) {}
  Status prepare(const NetworkDescription& description, const DeviceOptimizerOptions& optimizer,
                 const DeviceNetworkOptions& options);
  /// The minibatch in the current slot is where the learner takes it.
  Status feed(std::span<const std::uint8_t> labels);
  /// It is not needed any more: the other slot is next.
  Status leave_slot();

  const std::size_t image_size_;
  std::size_t batch_ = 0;  // of the minibatch in the current slot
  DeviceStream compute_, copies_;
  std::array<Slot, 2> slots_;
  std::size_t slot_ = 0;
  DeviceBuffer<float> evaluated_;
  DeviceBuffer<device::LossSums> evaluation_;
  std::unique_ptr<DeviceLearner> learner_;  // its work is for compute_
};

}  // namespace nanduti
