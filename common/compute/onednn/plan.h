#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/compute/network.h"
#include "common/compute/onednn/operators.h"

namespace nanduti::onednn {

/// A network compiled for one batch size, with its working memory. Each of its programs is built when it is
/// first used. Throws dnnl::error; one thread at a time.
class Plan {
 public:
  /// kInference: each image by itself. kTraining: as a minibatch, which backward() needs.
  enum class Mode { kTraining, kInference };

  /// `description` outlives the plan.
  Plan(const dnnl::engine& engine, const NetworkDescription& description, std::size_t batch);

  /// Shape (batch, channels, height, width).
  [[nodiscard]] std::span<float> images() const { return images_values_; }
  [[nodiscard]] std::size_t batch() const { return batch_; }

  /// Computes the scores of images(), shape (batch, classes); they are there until the next call.
  std::span<const float> forward(Mode mode, const dnnl::stream& stream, const float* parameters);
  /// Where the loss's gradient is to be put for backward(), shape (batch, classes).
  std::span<float> score_gradient();
  /// After score_gradient() and forward() in training with the same parameters: writes all tensors'
  /// gradients.
  void backward(const dnnl::stream& stream, const float* parameters, float* gradient);

 private:
  /// An operator, and the features that it takes and gives.
  struct Step {
    std::unique_ptr<Operator> apply;
    std::size_t source = 0;
    std::optional<std::size_t> addend;
    std::size_t output = 0;
  };
  struct Forward {
    Program program;
    std::vector<Step> steps;
    dnnl::memory scores;
  };

  [[nodiscard]] Forward build_forward(bool training);
  [[nodiscard]] Program build_backward();
  [[nodiscard]] Build build_in(Program& program, bool training);
  [[nodiscard]] bool relu_can_be_fused(std::size_t layer) const;
  void share_scratchpad();

  dnnl::engine engine_;
  const NetworkDescription& description_;
  std::size_t batch_;
  bool modes_differ_ = false;
  std::vector<std::size_t> readers_;  // of each features: how many layers take them
  std::vector<bool> depends_;         // on parameters, each features; no gradient flows to others
  FlatViews parameters_, gradient_;
  std::optional<Forward> training_, inference_;
  std::optional<Program> backward_;
  std::vector<BatchStatistics> statistics_;
  dnnl::memory images_, score_gradient_, scratchpad_;
  std::span<float> images_values_;
};

}  // namespace nanduti::onednn
