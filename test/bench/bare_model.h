#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace nanduti {

/// What the hardware gives for a model: forward and backward written directly on oneDNN primitives, every
/// format oneDNN's choice, weights put into it once, relu fused, nothing allocated, no optimiser, no data.
/// Weight gradients stay in oneDNN's formats. Throws dnnl::error.
class BareModel {
 public:
  static constexpr std::size_t kClasses = 10;

  /// "lenet" on images of 1 x 28 x 28, or "resnet20" on 3 x 32 x 32.
  BareModel(std::string_view name, std::size_t batch);
  ~BareModel();
  BareModel(const BareModel&) = delete;
  BareModel& operator=(const BareModel&) = delete;

  /// One forward and backward over the same images. Returns the loss's sum.
  double step(std::span<const std::uint8_t> labels);

 private:
  class Builder;
  std::unique_ptr<Builder> builder_;
};

}  // namespace nanduti
