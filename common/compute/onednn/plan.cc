#include "common/compute/onednn/plan.h"

#include <algorithm>
#include <optional>

#include "common/base/check.h"

namespace nanduti::onednn {
namespace {

std::unique_ptr<Operator> make_operator(const NetworkLayer& layer, bool relu_follows) {
  switch (layer.kind) {
    case LayerKind::kConv2d:
      return make_conv2d(layer, relu_follows);
    case LayerKind::kDense:
      return make_dense(layer, relu_follows);
    case LayerKind::kMaxPool:
    case LayerKind::kAveragePool:
      return make_pool(layer);
    case LayerKind::kRelu:
      return make_relu();
    case LayerKind::kFlatten:
      break;
  }
  return nullptr;
}

bool has_tensors(const NetworkLayer& layer) {
  return layer.kind == LayerKind::kConv2d || layer.kind == LayerKind::kDense;
}

std::span<float> values_of(const dnnl::memory& memory, std::size_t count) {
  return {static_cast<float*>(memory.get_data_handle()), count};
}

/// The features' row-major format.
dnnl::memory::desc plain(const dnnl::memory::desc& desc) {
  return float_desc(desc.dims(),
                    desc.dims().size() == 4 ? dnnl::memory::format_tag::nchw : dnnl::memory::format_tag::nc);
}

}  // namespace

Plan::Plan(const dnnl::engine& engine, const NetworkDescription& description, std::size_t batch)
    : engine_(engine),
      batch_(batch),
      parameters_(engine),
      gradient_(engine),
      forward_(engine),
      backward_(engine) {
  const Extent input = description.layers.front().input;
  images_ = dnnl::memory(
      float_desc(image_dims(static_cast<dnnl::memory::dim>(batch), input), dnnl::memory::format_tag::nchw),
      engine_);
  images_values_ = values_of(images_, batch * input.size());

  dnnl::memory features = images_;
  std::optional<std::size_t> first;
  for (std::size_t i = 0; i < description.layers.size(); ++i) {
    const NetworkLayer& layer = description.layers[i];
    if (layer.kind == LayerKind::kFlatten) continue;
    const bool fused = has_tensors(layer) && i + 1 < description.layers.size() &&
                       description.layers[i + 1].kind == LayerKind::kRelu;
    if (has_tensors(layer) && !first) first = operators_.size();
    operators_.push_back(make_operator(layer, fused));
    features = operators_.back()->forward(build_in(forward_), features);
    if (fused) ++i;
  }
  first_with_tensors_ = first.value_or(operators_.size());
  scores_ = forward_.reordered(features, plain(features.get_desc()));
  score_values_ = values_of(scores_, batch * description.layers.back().output.size());
  share_scratchpad();
}

void Plan::prepare_backward() {
  if (backward_ready_) return;
  score_gradient_ = dnnl::memory(scores_.get_desc(), engine_);
  score_gradient_values_ = values_of(score_gradient_, score_values_.size());
  dnnl::memory dy = score_gradient_;
  for (std::size_t i = operators_.size(); i-- > first_with_tensors_;) {
    dy = operators_[i]->backward(build_in(backward_), dy, i > first_with_tensors_);
  }
  share_scratchpad();
  backward_ready_ = true;
}

void Plan::forward(const dnnl::stream& stream, const float* parameters) {
  parameters_.bind(parameters);
  forward_.run(stream);
}

void Plan::backward(const dnnl::stream& stream, const float* parameters, float* gradient) {
  NANDUTI_CHECK(backward_ready_);
  parameters_.bind(parameters);
  gradient_.bind(gradient);
  backward_.run(stream);
}

Build Plan::build_in(Program& program) {
  return {engine_, static_cast<dnnl::memory::dim>(batch_), program, parameters_, gradient_};
}

void Plan::share_scratchpad() {
  const std::size_t bytes = std::max(forward_.scratchpad_bytes(), backward_.scratchpad_bytes());
  if (bytes == 0) return;
  scratchpad_ = dnnl::memory(
      {{static_cast<dnnl::memory::dim>(bytes)}, dnnl::memory::data_type::u8, dnnl::memory::format_tag::x},
      engine_);
  forward_.set_scratchpad(scratchpad_.get_data_handle());
  backward_.set_scratchpad(scratchpad_.get_data_handle());
}

}  // namespace nanduti::onednn
