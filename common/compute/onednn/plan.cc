#include "common/compute/onednn/plan.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace nanduti::onednn {
namespace {

bool has_tensors(LayerKind kind) {
  return kind == LayerKind::kConv2d || kind == LayerKind::kDense || kind == LayerKind::kBatchNorm;
}

std::unique_ptr<Operator> make_operator(const NetworkLayer& layer, bool relu_follows) {
  switch (layer.kind) {
    case LayerKind::kConv2d:
      return make_conv2d(layer, relu_follows);
    case LayerKind::kDense:
      return make_dense(layer, relu_follows);
    case LayerKind::kBatchNorm:
      return make_batch_norm(layer, relu_follows);
    case LayerKind::kAdd:
      return make_add(relu_follows);
    case LayerKind::kMaxPool:
    case LayerKind::kAveragePool:
    case LayerKind::kGlobalAveragePool:
      return make_pool(layer);
    case LayerKind::kRelu:
      return make_relu();
    case LayerKind::kFlatten:
      return make_flatten(layer);
  }
  return nullptr;
}

float* values_of(const dnnl::memory& memory) { return static_cast<float*>(memory.get_data_handle()); }

/// The features' row-major format.
dnnl::memory::desc plain(const dnnl::memory::desc& desc) {
  return float_desc(desc.dims(),
                    desc.dims().size() == 4 ? dnnl::memory::format_tag::nchw : dnnl::memory::format_tag::nc);
}

/// Appends a + b, which it returns.
Gradient sum(Build build, Gradient a, Gradient b) {
  if (a.is_shared && !b.is_shared) std::swap(a, b);
  const dnnl::memory::desc format = a.values.get_desc();
  const dnnl::binary::primitive_desc primitive(
      dnnl::binary::desc(dnnl::algorithm::binary_add, format, format, format), Program::attributes(),
      build.engine);
  const dnnl::memory result = a.is_shared ? dnnl::memory(format, build.engine) : a.values;
  build.program.add<dnnl::binary>(primitive, {{DNNL_ARG_SRC_0, a.values},
                                              {DNNL_ARG_SRC_1, build.program.reordered(b.values, format)},
                                              {DNNL_ARG_DST, result}});
  return {result, false};
}

}  // namespace

Plan::Plan(const dnnl::engine& engine, const NetworkDescription& description, std::size_t batch)
    : engine_(engine),
      description_(description),
      batch_(batch),
      readers_(description.layers.size() + 1),
      depends_(description.layers.size() + 1),
      parameters_(engine),
      gradient_(engine) {
  for (std::size_t i = 0; i < description.layers.size(); ++i) {
    const NetworkLayer& layer = description.layers[i];
    const bool is_add = layer.kind == LayerKind::kAdd;
    NANDUTI_CHECK(layer.source <= i && layer.addend <= i);
    ++readers_[layer.source];
    if (is_add) ++readers_[layer.addend];
    depends_[i + 1] = has_tensors(layer.kind) || depends_[layer.source] || (is_add && depends_[layer.addend]);
    modes_differ_ |= layer.kind == LayerKind::kBatchNorm;
  }
  const Extent input = description.layers.front().input;
  images_ = dnnl::memory(
      float_desc(image_dims(static_cast<dnnl::memory::dim>(batch), input), dnnl::memory::format_tag::nchw),
      engine_);
  images_values_ = {values_of(images_), batch * input.size()};
}

std::span<const float> Plan::forward(Mode mode, const dnnl::stream& stream, const float* parameters) {
  const bool training = mode == Mode::kTraining || !modes_differ_;
  std::optional<Forward>& forward = training ? training_ : inference_;
  if (!forward) {
    forward = build_forward(training);
    share_scratchpad();
  }
  parameters_.bind(parameters);
  forward->program.run(stream);
  return {values_of(forward->scores), batch_ * description_.layers.back().output.size()};
}

std::span<float> Plan::score_gradient() {
  if (!training_) training_ = build_forward(true);
  if (!backward_) {
    backward_ = build_backward();
    share_scratchpad();
  }
  return {values_of(score_gradient_), batch_ * description_.layers.back().output.size()};
}

void Plan::backward(const dnnl::stream& stream, const float* parameters, float* gradient) {
  NANDUTI_CHECK(backward_.has_value());
  parameters_.bind(parameters);
  gradient_.bind(gradient);
  backward_->run(stream);
  for (const BatchStatistics& of_batch : statistics_) {
    const float* running = parameters + of_batch.offset;
    const float* values = values_of(of_batch.values);
    const auto channels = static_cast<std::size_t>(of_batch.values.get_desc().dims()[0]);
    for (std::size_t c = 0; c < channels; ++c)
      gradient[of_batch.offset + c] = of_batch.momentum * (running[c] - of_batch.scale * values[c]);
  }
}

Plan::Forward Plan::build_forward(bool training) {
  const auto& layers = description_.layers;
  Forward forward{Program(engine_), {}, {}};
  if (training) statistics_.clear();
  const Build build = build_in(forward.program, training);
  std::vector<dnnl::memory> features(layers.size() + 1);
  features[0] = images_;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const bool fused = relu_can_be_fused(i);
    Step step{make_operator(layers[i], fused), layers[i].source, {}, fused ? i + 2 : i + 1};
    Inputs inputs{features[step.source], {}};
    if (layers[i].kind == LayerKind::kAdd) {
      step.addend = layers[i].addend;
      inputs.addend = features[*step.addend];
    }
    features[step.output] = step.apply->forward(build, inputs);
    forward.steps.push_back(std::move(step));
    if (fused) ++i;
  }
  forward.scores = forward.program.reordered(features.back(), plain(features.back().get_desc()));
  return forward;
}

Program Plan::build_backward() {
  Program program(engine_);
  const Build build = build_in(program, true);
  score_gradient_ = dnnl::memory(training_->scores.get_desc(), engine_);
  std::vector<Gradient> gradients(readers_.size());
  gradients.back() = {score_gradient_, false};
  const auto give = [&](std::size_t features, const Gradient& gradient) {
    if (!depends_[features]) return;
    Gradient& place = gradients[features];
    place = place.values ? sum(build, place, gradient) : gradient;
  };
  for (auto step = training_->steps.rbegin(); step != training_->steps.rend(); ++step) {
    if (!depends_[step->output]) continue;
    const Gradient& dy = gradients[step->output];
    NANDUTI_CHECK(static_cast<bool>(dy.values), "nothing depends on features {}", step->output);
    const bool wants_dx = depends_[step->source] || (step->addend && depends_[*step->addend]);
    const dnnl::memory dx = step->apply->backward(build, dy, wants_dx);
    if (!wants_dx) continue;
    const bool is_dy = dx.get_data_handle() == dy.values.get_data_handle();
    const Gradient gradient{dx, step->addend.has_value() || (is_dy && dy.is_shared)};
    give(step->source, gradient);
    if (step->addend) give(*step->addend, gradient);
  }
  return program;
}

Build Plan::build_in(Program& program, bool training) {
  return {engine_,    static_cast<dnnl::memory::dim>(batch_), training, program, parameters_, gradient_,
          statistics_};
}

bool Plan::relu_can_be_fused(std::size_t layer) const {
  const auto& layers = description_.layers;
  const LayerKind kind = layers[layer].kind;
  if (!has_tensors(kind) && kind != LayerKind::kAdd) return false;
  return layer + 1 < layers.size() && layers[layer + 1].kind == LayerKind::kRelu &&
         layers[layer + 1].source == layer + 1 && readers_[layer + 1] == 1;
}

void Plan::share_scratchpad() {
  std::vector<Program*> programs;
  if (training_) programs.push_back(&training_->program);
  if (inference_) programs.push_back(&inference_->program);
  if (backward_) programs.push_back(&*backward_);
  std::size_t bytes = 0;
  for (const Program* program : programs) bytes = std::max(bytes, program->scratchpad_bytes());
  if (bytes == 0) return;
  scratchpad_ = dnnl::memory(
      {{static_cast<dnnl::memory::dim>(bytes)}, dnnl::memory::data_type::u8, dnnl::memory::format_tag::x},
      engine_);
  for (Program* program : programs) program->set_scratchpad(scratchpad_.get_data_handle());
}

}  // namespace nanduti::onednn
