#pragma once

#include "common/base/result.h"

namespace nanduti {

/// What a device does at best: worker/device/compute_device.h says what each is.
struct MeasuredRates {
  double copy_bytes_per_second = 0;
  double flops_per_second = 0;
  double peak_bytes_per_second = 0;
  double peak_flops_per_second = 0;
};

/// Copies within the device's memory, and products of square matrices by cuBLAS, each as large as takes some
/// milliseconds: medians, by the device's clock. Precondition: the device is the calling thread's.
/// `tf32`: products of 19 bits, of whose peak nobody says anything.
Result<MeasuredRates> measure_device(int device, bool tf32);

}  // namespace nanduti
