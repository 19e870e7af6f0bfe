#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace nanduti {

/// What the hardware gives for LeNet on 28 x 28 images: forward and backward written directly on oneDNN
/// primitives, every format oneDNN's choice, weights put into it once, relu fused, nothing allocated, no
/// optimiser, no data. Weight gradients stay in oneDNN's formats. Throws dnnl::error.
class BareLenet {
 public:
  explicit BareLenet(std::size_t batch);
  ~BareLenet();
  BareLenet(const BareLenet&) = delete;
  BareLenet& operator=(const BareLenet&) = delete;

  /// One forward and backward over the same images. Returns the loss's sum.
  double step(std::span<const std::uint8_t> labels);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nanduti
