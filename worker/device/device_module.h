#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "common/base/result.h"
#include "worker/device/compute_device.h"

struct NandutiCudaDevice;
struct NandutiCudaFunctions;

namespace nanduti {

/// The kinds of device that have a module.
enum class DeviceModuleKind {
  kCuda,      ///< libnanduti_cuda.so
  kEmulated,  ///< libnanduti_cuda_emulated.so: the same, on the CPU, for tests
};

struct DeviceModuleOptions {
  std::uint32_t index = 0;
  bool tf32 = false;  ///< products of 19 bits, where the device has them: faster, and not what a CPU computes
};

/// A device, in a module that is opened at run time (cuda/module/abi.h). Parameters, gradients, residual and
/// the optimiser's state stay there; what comes back are payloads, sums and one number in a while.
class DeviceModule final : public ComputeDevice, public std::enable_shared_from_this<DeviceModule> {
 public:
  /// The module lies beside this program or in ../lib/nanduti. Errors, in words for whoever wrote `device:`:
  /// kNotFound if there is no module or no driver, kUnavailable.
  static Result<std::shared_ptr<DeviceModule>> open(DeviceModuleKind kind,
                                                    const DeviceModuleOptions& options = {});
  ~DeviceModule() override;
  DeviceModule(const DeviceModule&) = delete;
  DeviceModule& operator=(const DeviceModule&) = delete;

  [[nodiscard]] std::string description() const override;
  Result<std::unique_ptr<Learner>> make_learner(const ResolvedModel& model,
                                                const OptimizerSpec& optimizer) override;
  Result<std::shared_ptr<WorkingMemory>> make_memory() override;
  Status check() override;
  Result<DeviceRates> measure_rates() override;

 private:
  class Object;
  class DeviceLearner;
  class DeviceMemory;
  class DeviceWorkingShard;
  DeviceModule(DeviceModuleKind kind, const DeviceModuleOptions& options) : kind_(kind), options_(options) {}

  const DeviceModuleKind kind_;
  const DeviceModuleOptions options_;
  std::mutex mutex_;  // the emulated device is used by one thread at a time
  void* library_ = nullptr;
  const NandutiCudaFunctions* functions_ = nullptr;
  NandutiCudaDevice* device_ = nullptr;
};

}  // namespace nanduti
