#include "cuda/compute/device_rates.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/compute/libraries.h"
#include "cuda/runtime/device_buffer.h"
#include "cuda/runtime/stream.h"

namespace nanduti {
namespace {

constexpr int kRepeats = 9;
constexpr double kSecondsWanted = 0.003;
constexpr std::size_t kCopiedBytesMax = std::size_t{512} << 20;
constexpr int kSideMax = 8192;

/// The median of what `work` takes on the stream, after one that does not count.
template <class Work>
Result<double> median_seconds(const DeviceStream& stream, Work work) {
  DeviceEvent begin, end;
  NANDUTI_RETURN_IF_ERROR(begin.make(true));
  NANDUTI_RETURN_IF_ERROR(end.make(true));
  std::vector<double> all;
  for (int i = 0; i <= kRepeats; ++i) {
    NANDUTI_RETURN_IF_ERROR(begin.record(stream));
    NANDUTI_RETURN_IF_ERROR(work());
    NANDUTI_RETURN_IF_ERROR(end.record(stream));
    NANDUTI_RETURN_IF_ERROR(end.wait());
    const Result<double> seconds = end.seconds_since(begin);
    if (!seconds.ok()) return seconds.error();
    if (i > 0) all.push_back(*seconds);
  }
  std::ranges::nth_element(all, all.begin() + kRepeats / 2);
  return std::max(all[kRepeats / 2], 1e-9);
}

Result<double> measure_copies(const DeviceStream& stream) {
  DeviceBuffer<std::byte> from, to;
  const StreamWait at_the_end(stream.get());
  for (std::size_t bytes = std::size_t{1} << 20;; bytes *= 2) {
    NANDUTI_RETURN_IF_ERROR(stream.wait());
    NANDUTI_RETURN_IF_ERROR(from.clear(bytes, stream.get()));
    NANDUTI_RETURN_IF_ERROR(to.clear(bytes, stream.get()));
    const Result<double> seconds = median_seconds(stream, [&] {
      return cuda_status(
          cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream.get()),
          "copying to measure it");
    });
    if (!seconds.ok()) return seconds;
    if (*seconds >= kSecondsWanted || bytes >= kCopiedBytesMax)
      return 2 * static_cast<double>(bytes) / *seconds;
  }
}

/// Of numbers as they come: zeros would cost less power, and so leave the clock higher.
std::vector<float> some_numbers(std::size_t count) {
  std::vector<float> numbers(count);
  std::uint32_t state = 1;
  for (float& number : numbers) {
    state = state * 1664525u + 1013904223u;
    number = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return numbers;
}

Result<double> measure_products(const DeviceStream& stream, bool tf32) {
  device::CublasHandle cublas;
  NANDUTI_RETURN_IF_ERROR(device::cublas_status(cublas.make(), "starting cuBLAS"));
  NANDUTI_RETURN_IF_ERROR(
      device::cublas_status(cublasSetStream_v2(cublas.get(), stream.get()), "giving cuBLAS its stream"));
  NANDUTI_RETURN_IF_ERROR(device::cublas_status(
      cublasSetMathMode(cublas.get(), tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH),
      "choosing cuBLAS's kind of products"));
  DeviceBuffer<float> a, b, c;
  const StreamWait at_the_end(stream.get());
  for (int side = 64;; side *= 2) {
    const std::size_t count = static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
    {
      const std::vector<float> numbers = some_numbers(count);
      const StreamWait wait(stream.get());
      for (auto* matrix : {&a, &b}) NANDUTI_RETURN_IF_ERROR(matrix->upload(numbers, stream.get()));
    }
    NANDUTI_RETURN_IF_ERROR(c.clear(count, stream.get()));
    const float one = 1, zero = 0;
    const Result<double> seconds = median_seconds(stream, [&] {
      return device::cublas_status(
          cublasSgemm_v2(cublas.get(), CUBLAS_OP_N, CUBLAS_OP_N, side, side, side, &one, a.data(), side,
                         b.data(), side, &zero, c.data(), side),
          "multiplying to measure it");
    });
    if (!seconds.ok()) return seconds;
    if (*seconds >= kSecondsWanted || side >= kSideMax)
      return 2 * std::pow(static_cast<double>(side), 3) / *seconds;
  }
}

/// Of this compute capability (CUDA C++ Programming Guide, "Arithmetic Instructions": float32 additions per
/// clock and multiprocessor); 0: not known.
int lanes_of(int major, int minor) {
  if (major == 8) return minor == 0 ? 64 : 128;
  return major >= 9 && major <= 12 ? 128 : 0;
}

/// What the driver says of the device; 0: nothing.
double attribute(int device, cudaDeviceAttr which) {
  int value = 0;
  if (!cuda_status(cudaDeviceGetAttribute(&value, which, device), "asking the device what it is").ok())
    return 0;
  return value;
}

}  // namespace

Result<MeasuredRates> measure_device(int device, bool tf32) {
  DeviceStream stream;
  NANDUTI_RETURN_IF_ERROR(stream.make());
  const Result<double> copies = measure_copies(stream);
  if (!copies.ok()) return copies.error();
  const Result<double> products = measure_products(stream, tf32);
  if (!products.ok()) return products.error();
  const double lanes = lanes_of(static_cast<int>(attribute(device, cudaDevAttrComputeCapabilityMajor)),
                                static_cast<int>(attribute(device, cudaDevAttrComputeCapabilityMinor)));
  MeasuredRates rates;
  rates.copy_bytes_per_second = *copies;
  rates.flops_per_second = *products;
  // Clocks are in kHz. Memory moves its width twice a clock; a lane multiplies and adds.
  rates.peak_bytes_per_second = attribute(device, cudaDevAttrMemoryClockRate) * 1e3 * 2 *
                                attribute(device, cudaDevAttrGlobalMemoryBusWidth) / 8;
  if (tf32) return rates;
  rates.peak_flops_per_second = attribute(device, cudaDevAttrClockRate) * 1e3 * 2 * lanes *
                                attribute(device, cudaDevAttrMultiProcessorCount);
  return rates;
}

}  // namespace nanduti
