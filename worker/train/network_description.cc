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
  void operator()(const FlattenSpec&) const { layer.kind = LayerKind::kFlatten; }

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
  for (const ResolvedLayer& resolved : model.layers) {
    NetworkLayer layer;
    layer.input = extent_of(resolved.input);
    layer.output = extent_of(resolved.output);
    std::visit(KindAndWindow{layer}, resolved.spec);
    if (resolved.weight) {
      layer.weight_offset = model.space.tensors()[*resolved.weight].offset;
      layer.bias_offset = model.space.tensors()[*resolved.weight + 1].offset;
    }
    description.layers.push_back(layer);
  }
  return description;
}

}  // namespace nanduti
