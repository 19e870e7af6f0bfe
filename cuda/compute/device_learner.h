#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <cuda_runtime_api.h>

#include "common/base/result.h"
#include "common/tensor/parameter_range.h"
#include "cuda/compute/device_network.h"

namespace nanduti {

/// How a worker's optimiser is set, and what it is for: worker/train/optimizer.h.
struct DeviceOptimizerOptions {
  device::OptimizerKind kind = device::OptimizerKind::kMomentum;
  double momentum = 0.9;
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double kept_at_merge = 1;
  std::vector<ParameterRange> trained;  ///< none lies in another
  std::vector<ParameterRange> buffers;  ///< x -= gradient, whatever the kind
};

/// Of a round.
struct RoundResult {
  device::LossSums sums;
  bool is_finite = true;  ///< all of its progress; whether the loss is, `sums` says
};

/// A worker's rounds on a device: network, optimiser and the parameters between minibatches are the device's.
/// One thread; functions return once the work is handed to the stream, but for finish_round().
class DeviceLearner {
 public:
  /// `stream` outlives the learner.
  static Result<std::unique_ptr<DeviceLearner>> create(const NetworkDescription& description,
                                                       const DeviceOptimizerOptions& optimizer,
                                                       cudaStream_t stream,
                                                       const DeviceNetworkOptions& options = {});
  ~DeviceLearner();
  DeviceLearner(const DeviceLearner&) = delete;
  DeviceLearner& operator=(const DeviceLearner&) = delete;

  /// Begins from x, the device's, shape [parameter_space_size]; it stays as it is until the round is
  /// finished.
  Status begin_round(const float* x);
  /// Where to put the next minibatch: DeviceNetwork::images.
  Result<float*> images(std::size_t batch);
  /// One minibatch of the round. labels: the device's, shape (batch).
  Status step(const std::uint8_t* labels, double learning_rate);
  /// Writes x as it was - x as it is to `progress`, the device's, shape [parameter_space_size]; gaps are not
  /// touched. Waits for all of the round.
  Result<RoundResult> finish_round(float* progress);

  /// Loss of the images in images() by x, the device's: added to `sums`.
  Status evaluate(const float* x, const std::uint8_t* labels, device::LossSums* sums);

  /// Others' work has been merged into what the next round begins from.
  Status on_merge();
  /// Forgets the velocity, or the means.
  Status reset();

 private:
  class State;
  explicit DeviceLearner(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace nanduti
