#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "common/base/result.h"
#include "common/compute/network.h"
#include "cuda/compute/kernels.h"

namespace nanduti {

struct DeviceNetworkOptions {
  /// Products of 19 bits, where the device has them: faster, and not what other backends compute.
  bool tf32 = false;
};

/// A network on a device: what Network is on a CPU, with everything that it takes and gives in the device's
/// memory. Convolutions, pools, batch norm and the like are cuDNN's, products of matrices cuBLAS's, by
/// algorithms that give the same bits every time on one device, with one version of both. One thread;
/// functions return once the work is handed to the stream. Errors are the device's: kUnavailable, kExhausted.
class DeviceNetwork {
 public:
  /// `stream` outlives the network.
  static Result<std::unique_ptr<DeviceNetwork>> create(const NetworkDescription& description,
                                                       cudaStream_t stream,
                                                       const DeviceNetworkOptions& options = {});
  ~DeviceNetwork();
  DeviceNetwork(const DeviceNetwork&) = delete;
  DeviceNetwork& operator=(const DeviceNetwork&) = delete;

  /// Where to put the next minibatch, shape (batch, channels, height, width), behind what the stream has to
  /// do already; valid until the next call with another batch size. May wait for the device. Precondition:
  /// batch > 0.
  Result<float*> images(std::size_t batch);

  /// As Network::loss, of the images in images(), which was called last: added to `sums`.
  /// parameters: shape [parameter_space_size]; labels: shape (batch).
  Status loss(const float* parameters, const std::uint8_t* labels, device::LossSums* sums);
  /// As Network::gradient. gradient: shape [parameter_space_size].
  Status gradient(const float* parameters, const std::uint8_t* labels, float* gradient,
                  device::LossSums* sums);

 private:
  class Plan;
  explicit DeviceNetwork(std::unique_ptr<Plan> plan);
  std::unique_ptr<Plan> plan_;
};

}  // namespace nanduti
