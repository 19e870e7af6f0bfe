#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "worker/device/compute_device.h"

namespace nanduti {

/// What a device gave when it was asked whether it computes what it should, and how fast.
struct SelfTestReport {
  struct Check {
    std::string name;
    bool passed = false;
    std::string detail;  ///< for people
  };
  /// A median, with what was fastest and slowest of some runs.
  struct Timing {
    std::string name;
    std::string unit;  ///< per second
    double median = 0;
    double lowest = 0;
    double highest = 0;
    double flops_per_second = 0;   ///< of the network's layers, at the median; 0: no such
    double share_of_products = 0;  ///< of DeviceRates::flops_per_second
    double share_of_peak = 0;      ///< of DeviceRates::peak_flops_per_second; 0: not known
    double bytes_per_second = 0;  ///< that have to move in the device's memory, at the median; 0: not counted
    double share_of_copies = 0;   ///< of DeviceRates::copy_bytes_per_second
    double begin = 0, end = 0;    ///< when it was measured, in seconds since 1970
  };
  std::string device;
  std::string hardware;
  std::string version;
  bool tf32 = false;
  std::vector<Check> checks;
  DeviceRates rates;
  std::vector<Timing> timings;

  /// Every check has passed.
  [[nodiscard]] bool passed() const;
};

struct SelfTestOptions {
  bool tf32 = false;   ///< the device was opened so: gradients may differ by more
  double seconds = 2;  ///< each timing, more or less
};

/// Gradients and losses of every kind of layer beside the reference backend's; payloads beside the CPU's
/// codec and known fingerprints; the working copy's numbers beside the host's; short trainings that have to
/// learn; then rates, and times of whole rounds and of coding. Errors: the device's, where it fails.
Result<SelfTestReport> run_self_test(ComputeDevice& device, const SelfTestOptions& options);

/// One JSON object; worker/README.md says what stands in it.
std::string to_json(const SelfTestReport& report);
/// For people.
std::string to_text(const SelfTestReport& report);

}  // namespace nanduti
