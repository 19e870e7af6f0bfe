#include <string>
#include <utility>

#include "common/model/resolved_model.h"

namespace nanduti {
namespace {

std::string describe(const FeatureShape& shape) {
  if (shape.flat) return fmt::format("{} features", shape.channels);
  return fmt::format("{}x{}x{}", shape.channels, shape.height, shape.width);
}

FeatureShape flattened(const FeatureShape& shape) {
  return {static_cast<std::uint32_t>(shape.size()), 1, 1, true};
}

/// How many windows fit along one side.
std::uint32_t windows(std::uint32_t side, std::uint32_t kernel, std::uint32_t stride, std::uint32_t padding) {
  return static_cast<std::uint32_t>((std::uint64_t{side} + 2 * std::uint64_t{padding} - kernel) / stride + 1);
}

/// The output shape of one layer, or why it cannot stand here.
class OutputShape {
 public:
  OutputShape(const FeatureShape& input, std::uint32_t classes) : input_(input), classes_(classes) {}

  Result<FeatureShape> operator()(const Conv2dSpec& conv) const {
    if (conv.channels == 0) return invalid("channels must be at least 1");
    if (conv.padding >= conv.kernel && conv.kernel > 0) {
      return invalid("padding {} must be smaller than the kernel, {}", conv.padding, conv.kernel);
    }
    return slide(conv.channels, conv.kernel, conv.stride, conv.padding);
  }
  Result<FeatureShape> operator()(const DenseSpec& dense) const {
    return FeatureShape{dense.units == 0 ? classes_ : dense.units, 1, 1, true};
  }
  Result<FeatureShape> operator()(const ReluSpec&) const { return input_; }
  Result<FeatureShape> operator()(const MaxPoolSpec& pool) const {
    return slide(input_.channels, pool.kernel, pool.stride, 0);
  }
  Result<FeatureShape> operator()(const AveragePoolSpec& pool) const {
    return slide(input_.channels, pool.kernel, pool.stride, 0);
  }
  Result<FeatureShape> operator()(const FlattenSpec&) const { return flattened(input_); }

 private:
  template <class... Args>
  static Error invalid(fmt::format_string<Args...> format, Args&&... args) {
    return make_error(ErrorCode::kInvalidArgument, format, std::forward<Args>(args)...);
  }

  Result<FeatureShape> slide(std::uint32_t channels, std::uint32_t kernel, std::uint32_t stride,
                             std::uint32_t padding) const {
    if (kernel == 0) return invalid("kernel must be at least 1");
    if (stride == 0) return invalid("stride must be at least 1");
    if (input_.flat) return invalid("needs an image, but its input is flat: {}", describe(input_));
    const std::uint64_t added = 2 * std::uint64_t{padding};
    if (kernel > input_.height + added || kernel > input_.width + added) {
      return invalid("kernel {0}x{0} is larger than its input, {1} with padding {2}", kernel,
                     describe(input_), padding);
    }
    return FeatureShape{channels, windows(input_.height, kernel, stride, padding),
                        windows(input_.width, kernel, stride, padding), false};
  }

  FeatureShape input_;
  std::uint32_t classes_;
};

using TensorShapes = std::vector<ParameterSpace::NamedShape>;

/// Gives a conv2d or dense layer, the next in `model`, its fan-in and tensors. Inputs must be within the
/// limits.
void add_tensors(const ResolvedModel& model, ResolvedLayer& layer, TensorShapes& tensors) {
  std::vector<std::uint64_t> weight_shape;
  if (const auto* conv = std::get_if<Conv2dSpec>(&layer.spec)) {
    weight_shape = {conv->channels, layer.input.channels, conv->kernel, conv->kernel};
    layer.fan_in = std::uint64_t{layer.input.channels} * conv->kernel * conv->kernel;
  } else if (auto* dense = std::get_if<DenseSpec>(&layer.spec)) {
    dense->units = layer.output.channels;
    weight_shape = {dense->units, layer.input.size()};
    layer.fan_in = layer.input.size();
  } else {
    return;
  }
  layer.weight = tensors.size();
  const std::size_t index = model.layers.size();
  tensors.push_back({fmt::format("{}.weight", index), std::move(weight_shape)});
  tensors.push_back({fmt::format("{}.bias", index), {layer.output.channels}});
}

void append_flatten(ResolvedModel& model, FeatureShape& shape) {
  model.layers.push_back({FlattenSpec{}, shape, flattened(shape), std::nullopt, 0});
  shape = flattened(shape);
}

/// Appends the layer; `shape` goes from its input to its output, `parameters` counts what is laid out so far.
Status append_layer(ResolvedModel& model, const LayerSpec& spec, FeatureShape& shape, TensorShapes& tensors,
                    std::uint64_t& parameters) {
  if (std::holds_alternative<DenseSpec>(spec) && !shape.flat) append_flatten(model, shape);
  auto output = std::visit(OutputShape(shape, model.data.classes), spec);
  if (!output.ok()) return output.error();
  // Each factor is below 2^32, so products of two cannot overflow.
  if (std::uint64_t{output->height} * output->width > kLayerOutputsMax || output->size() > kLayerOutputsMax) {
    return make_error(ErrorCode::kExhausted, "gives {} per sample; the maximum is {} values",
                      describe(*output), kLayerOutputsMax);
  }
  ResolvedLayer layer{spec, shape, *output, std::nullopt, 0};
  add_tensors(model, layer, tensors);
  if (layer.weight) {
    const std::uint64_t units = output->channels;
    if (layer.fan_in >= kModelParametersMax ||
        parameters + units * (layer.fan_in + 1) > kModelParametersMax) {
      return make_error(ErrorCode::kExhausted, "brings the model above the maximum of {} parameters",
                        kModelParametersMax);
    }
    parameters += units * (layer.fan_in + 1);
  }
  model.layers.push_back(std::move(layer));
  shape = *output;
  return {};
}

}  // namespace

std::string_view layer_name(const LayerSpec& spec) {
  constexpr std::string_view kNames[] = {"conv2d", "dense", "relu", "max_pool", "average_pool", "flatten"};
  static_assert(std::size(kNames) == std::variant_size_v<LayerSpec>);
  return kNames[spec.index()];
}

Result<ResolvedModel> resolve_model(const ModelSpec& spec, const DataShape& data) {
  std::vector<LayerSpec> layers = spec.layers;
  if (!spec.preset.empty()) {
    auto preset = preset_layers(spec.preset);
    if (!preset.ok()) return preset.error();
    layers = std::move(preset).value();
  }
  if (layers.empty()) return make_error(ErrorCode::kInvalidArgument, "model.layers is empty");
  if (layers.size() > kModelLayersMax) {
    return make_error(ErrorCode::kExhausted, "model.layers has {} layers; the maximum is {}", layers.size(),
                      kModelLayersMax);
  }
  FeatureShape shape{data.channels, data.height, data.width, false};
  if (data.channels == 0 || data.height == 0 || data.width == 0 || data.classes == 0) {
    return make_error(ErrorCode::kInvalidArgument, "the data has images of {} and {} classes",
                      describe(shape), data.classes);
  }
  if (std::uint64_t{data.height} * data.width > kLayerOutputsMax || shape.size() > kLayerOutputsMax) {
    return make_error(ErrorCode::kExhausted, "the data has images of {}; the maximum is {} values",
                      describe(shape), kLayerOutputsMax);
  }

  ResolvedModel model{data, {}, {}};
  TensorShapes tensors;
  std::uint64_t parameters = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Status appended = append_layer(model, layers[i], shape, tensors, parameters);
    if (!appended.ok()) {
      return appended.error().within(fmt::format("model.layers[{}] ({})", i, layer_name(layers[i])));
    }
  }
  if (shape.size() != data.classes) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "model.layers[{}] ({}): the last layer must give {} scores, one per class, but gives {}",
        layers.size() - 1, layer_name(layers.back()), data.classes, describe(shape));
  }
  if (!shape.flat) append_flatten(model, shape);
  if (tensors.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "model.layers has nothing to train: no conv2d, no dense");
  }
  model.space = ParameterSpace(tensors);
  return model;
}

}  // namespace nanduti
