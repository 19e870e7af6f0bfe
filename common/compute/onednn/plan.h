#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/compute/network.h"
#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {

/// A network compiled for one batch size, with its working memory. The backward half is built when it is
/// first used. Throws dnnl::error; one thread at a time.
class Plan {
 public:
  Plan(const dnnl::engine& engine, const NetworkDescription& description, std::size_t batch);

  /// Shape (batch, channels, height, width).
  [[nodiscard]] std::span<float> images() const { return images_values_; }
  [[nodiscard]] std::size_t batch() const { return batch_; }

  /// Computes scores() from images().
  void forward(const dnnl::stream& stream, const float* parameters);
  /// Shape (batch, classes).
  [[nodiscard]] std::span<const float> scores() const { return score_values_; }
  /// Where the loss's gradient is to be put for backward(), shape (batch, classes).
  [[nodiscard]] std::span<float> score_gradient() const { return score_gradient_values_; }
  /// After forward() with the same parameters: writes all tensors' gradients. The first call needs
  /// prepare_backward().
  void backward(const dnnl::stream& stream, const float* parameters, float* gradient);
  void prepare_backward();

 private:
  [[nodiscard]] Build build_in(Program& program);
  void share_scratchpad();

  dnnl::engine engine_;
  std::size_t batch_;
  std::vector<std::unique_ptr<Operator>> operators_;
  std::size_t first_with_tensors_ = 0;  // in operators_; no gradient flows below it
  FlatViews parameters_, gradient_;
  Program forward_, backward_;
  bool backward_ready_ = false;
  dnnl::memory images_, scores_, score_gradient_, scratchpad_;
  std::span<float> images_values_, score_values_, score_gradient_values_;
};

}  // namespace nanduti::onednn
