#pragma once

#include <memory>
#include <utility>

#include "common/compute/network.h"
#include "worker/device/compute_device.h"

namespace nanduti {

/// The CPU, by one of its backends.
class HostDevice final : public ComputeDevice {
 public:
  explicit HostDevice(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  [[nodiscard]] std::string description() const override { return backend_->name(); }
  Result<std::unique_ptr<Learner>> make_learner(const ResolvedModel& model,
                                                const OptimizerSpec& optimizer) override;
  Result<std::shared_ptr<WorkingMemory>> make_memory() override;
  Result<DeviceRates> measure_rates() override;

 private:
  std::unique_ptr<Backend> backend_;
};

}  // namespace nanduti
