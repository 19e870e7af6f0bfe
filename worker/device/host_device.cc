#include "worker/device/host_device.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include "worker/client/host_memory.h"
#include "worker/train/host_learner.h"

namespace nanduti {
namespace {

constexpr std::size_t kCopiedBytes = std::size_t{64} << 20;
constexpr std::uint32_t kProductSide = 512;
constexpr int kRepeats = 7;

/// The median, in seconds, after one that does not count.
template <class Action>
double median_seconds(Action action) {
  std::vector<double> seconds;
  for (int i = 0; i <= kRepeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    action();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  seconds.erase(seconds.begin());
  std::ranges::nth_element(seconds, seconds.begin() + kRepeats / 2);
  return seconds[kRepeats / 2];
}

}  // namespace

Result<std::unique_ptr<Learner>> HostDevice::make_learner(const ResolvedModel& model,
                                                          const OptimizerSpec& optimizer) {
  return make_host_learner(*backend_, model, optimizer);
}

Result<std::shared_ptr<WorkingMemory>> HostDevice::make_memory() {
  return std::shared_ptr<WorkingMemory>(std::make_shared<HostMemory>());
}

/// A dense layer's scores are a product of matrices; the loss beside it is little of the work.
Result<DeviceRates> HostDevice::measure_rates() {
  std::vector<std::byte> from(kCopiedBytes), to(kCopiedBytes);
  const double copying = median_seconds([&] { std::memcpy(to.data(), from.data(), kCopiedBytes); });
  NetworkLayer flatten, dense;
  flatten.kind = LayerKind::kFlatten;
  dense.kind = LayerKind::kDense;
  dense.source = 1;
  for (NetworkLayer* layer : {&flatten, &dense}) layer->input = layer->output = {kProductSide};
  dense.bias_offset = std::uint64_t{kProductSide} * kProductSide;
  const NetworkDescription description{{flatten, dense}, dense.bias_offset + kProductSide};
  const auto network = backend_->compile(description);
  if (!network.ok()) return network.error();
  const std::vector<float> parameters(description.parameter_space_size, 0.01f);
  const std::vector<std::uint8_t> labels(kProductSide);
  Status status;
  const double product = median_seconds([&] {
    const auto input = (*network)->input(kProductSide);
    if (input.ok()) std::ranges::fill(*input, 0.5f);
    const auto loss = (*network)->loss(parameters, labels);
    if (!loss.ok()) status = loss.error();
  });
  NANDUTI_RETURN_IF_ERROR(status);
  DeviceRates rates;
  rates.copy_bytes_per_second = 2 * static_cast<double>(kCopiedBytes) / copying;
  rates.flops_per_second = 2 * std::pow(static_cast<double>(kProductSide), 3) / product;
  return rates;
}

}  // namespace nanduti
