#include <algorithm>
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

template <class... Args>
Error invalid(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorCode::kInvalidArgument, format, std::forward<Args>(args)...);
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
  Result<FeatureShape> operator()(const GlobalAveragePoolSpec&) const {
    if (input_.flat) return needs_an_image();
    return FeatureShape{input_.channels, 1, 1, false};
  }
  Result<FeatureShape> operator()(const FlattenSpec&) const { return flattened(input_); }
  Result<FeatureShape> operator()(const BatchNormSpec& norm) const {
    if (!(norm.epsilon > 0)) return invalid("epsilon must be above 0");
    if (!(norm.momentum > 0 && norm.momentum <= 1)) return invalid("momentum must be above 0, at most 1");
    return input_;
  }
  /// Of its body and its shortcut, which are there already.
  Result<FeatureShape> operator()(const ResidualSpec&) const { return input_; }

 private:
  Error needs_an_image() const {
    return invalid("needs an image, but its input is flat: {}", describe(input_));
  }

  Result<FeatureShape> slide(std::uint32_t channels, std::uint32_t kernel, std::uint32_t stride,
                             std::uint32_t padding) const {
    if (kernel == 0) return invalid("kernel must be at least 1");
    if (stride == 0) return invalid("stride must be at least 1");
    if (input_.flat) return needs_an_image();
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

/// How far a stack has got.
struct Place {
  FeatureIndex features = 0;
  FeatureShape shape;
};

/// Appends layers to a model, with what they take from each other and their tensors.
class Resolver {
 public:
  explicit Resolver(const DataShape& data) { model_.data = data; }

  /// `path`: of the list in the job, "model.layers"; `names`: what stands before an index in the names of its
  /// tensors; `place`: goes from the stack's input to its output.
  Status append_stack(const std::vector<LayerSpec>& stack, const std::string& path, const std::string& names,
                      Place& place, std::size_t depth = 0) {
    std::size_t index = 0;
    for (std::size_t i = 0; i < stack.size(); ++i, ++index) {
      const std::string here = fmt::format("{}[{}]", path, i);
      if (std::holds_alternative<DenseSpec>(stack[i]) && !place.shape.flat) {
        append_flatten(place);
        ++index;
      }
      const std::string name = fmt::format("{}{}", names, index);
      const auto* residual = std::get_if<ResidualSpec>(&stack[i]);
      Status appended = residual != nullptr ? append_residual(*residual, here, name, place, depth)
                                            : append_layer(stack[i], name, place);
      if (appended.ok()) continue;
      if (residual != nullptr) return appended;
      return appended.error().within(fmt::format("{} ({})", here, layer_name(stack[i])));
    }
    return {};
  }

  void append_flatten(Place& place) {
    ResolvedLayer layer = layer_at(FlattenSpec{}, place);
    layer.output = flattened(place.shape);
    push(std::move(layer), place);
  }

  [[nodiscard]] bool has_tensors() const { return !tensors_.empty(); }

  ResolvedModel finish() {
    model_.space = ParameterSpace(tensors_);
    return std::move(model_);
  }

 private:
  static ResolvedLayer layer_at(LayerSpec spec, const Place& place) {
    ResolvedLayer layer;
    layer.spec = std::move(spec);
    layer.source = place.features;
    layer.input = place.shape;
    return layer;
  }

  void push(ResolvedLayer layer, Place& place) {
    place.shape = layer.output;
    model_.layers.push_back(std::move(layer));
    place.features = model_.layers.size();
  }

  Status append_layer(const LayerSpec& spec, const std::string& name, Place& place) {
    auto output = std::visit(OutputShape(place.shape, model_.data.classes), spec);
    if (!output.ok()) return output.error();
    // Each factor is below 2^32, so products of two cannot overflow.
    if (std::uint64_t{output->height} * output->width > kLayerOutputsMax ||
        output->size() > kLayerOutputsMax) {
      return make_error(ErrorCode::kExhausted, "gives {} per sample; the maximum is {} values",
                        describe(*output), kLayerOutputsMax);
    }
    ResolvedLayer layer = layer_at(spec, place);
    layer.output = *output;
    NANDUTI_RETURN_IF_ERROR(add_tensors(layer, name));
    push(std::move(layer), place);
    return {};
  }

  Status append_residual(const ResidualSpec& residual, const std::string& here, const std::string& name,
                         Place& place, std::size_t depth) {
    const std::string its_name = here + " (residual)";
    if (residual.body.empty()) return invalid("{}: body has no layers", its_name);
    if (depth == kResidualDepthMax) {
      return make_error(ErrorCode::kExhausted, "{}: lies within {} others; the maximum is {}", its_name,
                        depth, kResidualDepthMax - 1);
    }
    Place body = place;
    Place shortcut = place;
    NANDUTI_RETURN_IF_ERROR(
        append_stack(residual.body, here + ".residual.body", name + ".body.", body, depth + 1));
    NANDUTI_RETURN_IF_ERROR(append_stack(residual.shortcut, here + ".residual.shortcut", name + ".shortcut.",
                                         shortcut, depth + 1));
    if (body.shape != shortcut.shape) {
      return invalid("{}: body gives {}, but shortcut {}", its_name, describe(body.shape),
                     describe(shortcut.shape));
    }
    ResolvedLayer layer = layer_at(ResidualSpec{}, body);
    layer.shortcut = shortcut.features;
    layer.output = body.shape;
    push(std::move(layer), place);
    return {};
  }

  /// Gives a layer that has parameters its tensors.
  Status add_tensors(ResolvedLayer& layer, const std::string& name) {
    const std::uint64_t units = layer.output.channels;
    if (const auto* conv = std::get_if<Conv2dSpec>(&layer.spec)) {
      layer.fan_in = std::uint64_t{layer.input.channels} * conv->kernel * conv->kernel;
      NANDUTI_RETURN_IF_ERROR(count_parameters(units, layer.fan_in + (conv->bias ? 1 : 0)));
      layer.weight = add(name, "weight", {units, layer.input.channels, conv->kernel, conv->kernel});
      if (conv->bias) layer.bias = add(name, "bias", {units});
    } else if (auto* dense = std::get_if<DenseSpec>(&layer.spec)) {
      dense->units = layer.output.channels;
      layer.fan_in = layer.input.size();
      NANDUTI_RETURN_IF_ERROR(count_parameters(units, layer.fan_in + 1));
      layer.weight = add(name, "weight", {units, layer.fan_in});
      layer.bias = add(name, "bias", {units});
    } else if (std::holds_alternative<BatchNormSpec>(layer.spec)) {
      NANDUTI_RETURN_IF_ERROR(count_parameters(units, 4));
      layer.weight = add(name, "weight", {units});
      layer.bias = add(name, "bias", {units});
      layer.running_mean = add(name, "running_mean", {units}, true);
      layer.running_var = add(name, "running_var", {units}, true);
    }
    return {};
  }

  std::size_t add(const std::string& name, std::string_view what, std::vector<std::uint64_t> shape,
                  bool is_buffer = false) {
    tensors_.push_back({fmt::format("{}.{}", name, what), std::move(shape), is_buffer});
    return tensors_.size() - 1;
  }

  Status count_parameters(std::uint64_t units, std::uint64_t of_each) {
    // Below 2^32 times 2^28.
    if (of_each > kModelParametersMax || parameters_ + units * of_each > kModelParametersMax) {
      return make_error(ErrorCode::kExhausted, "brings the model above the maximum of {} parameters",
                        kModelParametersMax);
    }
    parameters_ += units * of_each;
    return {};
  }

  ResolvedModel model_;
  std::vector<ParameterSpace::NamedShape> tensors_;
  std::uint64_t parameters_ = 0;  // buffers included
};

std::size_t count_layers(const std::vector<LayerSpec>& stack) {
  std::size_t layers = stack.size();
  for (const LayerSpec& layer : stack) {
    const auto* residual = std::get_if<ResidualSpec>(&layer);
    if (residual != nullptr) layers += count_layers(residual->body) + count_layers(residual->shortcut);
  }
  return layers;
}

Status check_data(const DataShape& data, const FeatureShape& image) {
  if (data.channels == 0 || data.height == 0 || data.width == 0 || data.classes == 0)
    return invalid("the data has images of {} and {} classes", describe(image), data.classes);
  if (std::uint64_t{data.height} * data.width <= kLayerOutputsMax && image.size() <= kLayerOutputsMax)
    return {};
  return make_error(ErrorCode::kExhausted, "the data has images of {}; the maximum is {} values",
                    describe(image), kLayerOutputsMax);
}

}  // namespace

std::string_view layer_name(const LayerSpec& spec) {
  constexpr std::string_view kNames[] = {"conv2d",   "dense",        "relu",
                                         "max_pool", "average_pool", "global_average_pool",
                                         "flatten",  "batch_norm",   "residual"};
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
  if (layers.empty()) return invalid("model.layers is empty");
  const std::size_t count = count_layers(layers);
  if (count > kModelLayersMax) {
    return make_error(ErrorCode::kExhausted, "model.layers has {} layers; the maximum is {}", count,
                      kModelLayersMax);
  }
  Place place{0, {data.channels, data.height, data.width, false}};
  NANDUTI_RETURN_IF_ERROR(check_data(data, place.shape));
  Resolver resolver(data);
  NANDUTI_RETURN_IF_ERROR(resolver.append_stack(layers, "model.layers", "", place));
  if (place.shape.size() != data.classes) {
    return invalid("model.layers[{}] ({}): the last layer must give {} scores, one per class, but gives {}",
                   layers.size() - 1, layer_name(layers.back()), data.classes, describe(place.shape));
  }
  if (!place.shape.flat) resolver.append_flatten(place);
  if (!resolver.has_tensors())
    return invalid("model.layers has nothing to train: no conv2d, no dense, no batch_norm");
  return resolver.finish();
}

}  // namespace nanduti
