#include "worker/train/network_description.h"

namespace nanduti {
namespace {

/// Fills in what only this kind of layer has.
struct KindAndWindow {
  NetworkLayer& layer;

  void operator()(const Conv2dSpec& conv) const {
    layer.kind = LayerKind::kConv2d;
    layer.kernel = conv.kernel;
    layer.stride = conv.stride;
    layer.padding = conv.padding;
  }
  void operator()(const DenseSpec&) const { layer.kind = LayerKind::kDense; }
  void operator()(const ReluSpec&) const { layer.kind = LayerKind::kRelu; }
  void operator()(const MaxPoolSpec& pool) const { window(LayerKind::kMaxPool, pool.kernel, pool.stride); }
  void operator()(const AveragePoolSpec& pool) const {
    window(LayerKind::kAveragePool, pool.kernel, pool.stride);
  }
  void operator()(const GlobalAveragePoolSpec&) const { layer.kind = LayerKind::kGlobalAveragePool; }
  void operator()(const FlattenSpec&) const { layer.kind = LayerKind::kFlatten; }
  void operator()(const BatchNormSpec& norm) const {
    layer.kind = LayerKind::kBatchNorm;
    layer.epsilon = norm.epsilon;
    layer.momentum = norm.momentum;
  }
  void operator()(const ResidualSpec&) const { layer.kind = LayerKind::kAdd; }

  void window(LayerKind kind, std::uint32_t kernel, std::uint32_t stride) const {
    layer.kind = kind;
    layer.kernel = kernel;
    layer.stride = stride;
  }
};

Extent extent_of(const FeatureShape& shape) { return {shape.channels, shape.height, shape.width}; }

}  // namespace

NetworkDescription describe_network(const ResolvedModel& model) {
  NetworkDescription description;
  description.parameter_space_size = model.space.size();
  const auto place = [&](const std::optional<std::size_t>& tensor, std::uint64_t& offset) {
    if (tensor) offset = model.space.tensors()[*tensor].offset;
  };
  for (const ResolvedLayer& resolved : model.layers) {
    NetworkLayer layer;
    layer.source = resolved.source;
    layer.addend = resolved.shortcut;
    layer.input = extent_of(resolved.input);
    layer.output = extent_of(resolved.output);
    std::visit(KindAndWindow{layer}, resolved.spec);
    place(resolved.weight, layer.weight_offset);
    layer.has_bias = resolved.bias.has_value();
    place(resolved.bias, layer.bias_offset);
    place(resolved.running_mean, layer.mean_offset);
    place(resolved.running_var, layer.variance_offset);
    description.layers.push_back(layer);
  }
  return description;
}

}  // namespace nanduti
