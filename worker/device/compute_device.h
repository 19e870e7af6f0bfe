#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/model/resolved_model.h"
#include "common/model/training_spec.h"
#include "worker/client/working_memory.h"
#include "worker/train/learner.h"

namespace nanduti {

/// What a device does at best, measured with nothing but one kind of work.
struct DeviceRates {
  double copy_bytes_per_second = 0;  ///< in its own memory; each byte that is read or written counts
  double flops_per_second = 0;  ///< products of float32 matrices; a multiplication and an addition are two
  // As its driver says, by clock and width; 0: nobody says.
  double peak_bytes_per_second = 0;
  double peak_flops_per_second = 0;
};

/// What a worker computes a job's rounds with, and where their numbers lie. Any thread.
class ComputeDevice {
 public:
  virtual ~ComputeDevice() = default;
  /// For people and the coordinator: "cpu (oneDNN 2.6.3)".
  [[nodiscard]] virtual std::string description() const = 0;
  /// Its rounds begin and end in what make_memory() has made.
  virtual Result<std::unique_ptr<Learner>> make_learner(const ResolvedModel& model,
                                                        const OptimizerSpec& optimizer) = 0;
  virtual Result<std::shared_ptr<WorkingMemory>> make_memory() = 0;
  /// After something has failed: whether the device can still be used. If not, nothing of this process can.
  virtual Status check() { return {}; }
  /// Takes a second or so.
  virtual Result<DeviceRates> measure_rates() = 0;
};

}  // namespace nanduti
