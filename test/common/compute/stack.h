#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/base/random.h"
#include "common/compute/network.h"
#include "common/tensor/parameter_range.h"

namespace nanduti {

/// Builds a network layer by layer and lays its parameters out one after the other.
struct Stack {
  explicit Stack(Extent input) : at(input), images(input) {}

  void add(NetworkLayer layer, Extent output, std::uint64_t weights) {
    layer.source = features;
    layer.input = at;
    layer.output = output;
    if (weights > 0) {
      layer.weight_offset = take(weights);
      if (layer.has_bias) layer.bias_offset = take(output.channels);
    }
    description.layers.push_back(layer);
    at = output;
    features = description.layers.size();
  }
  void window(LayerKind kind, std::uint32_t channels, std::uint32_t kernel, std::uint32_t stride,
              std::uint32_t padding, bool has_bias = true) {
    NetworkLayer layer = layer_of(kind);
    layer.has_bias = has_bias;
    layer.kernel = kernel;
    layer.stride = stride;
    layer.padding = padding;
    const auto side = [&](std::uint32_t n) { return (n + 2 * padding - kernel) / stride + 1; };
    const bool conv = kind == LayerKind::kConv2d;
    add(layer, {channels, side(at.height), side(at.width)},
        conv ? std::uint64_t{channels} * at.channels * kernel * kernel : 0);
  }
  void relu() { add(layer_of(LayerKind::kRelu), at, 0); }
  void flatten() {
    add(layer_of(LayerKind::kFlatten), {static_cast<std::uint32_t>(at.size()), 1, 1}, 0);
    is_flat = true;
  }
  void dense(std::uint32_t units) {
    if (!is_flat) flatten();
    add(layer_of(LayerKind::kDense), {units, 1, 1}, std::uint64_t{units} * at.channels);
  }
  void batch_norm(double momentum = 0.1) {
    NetworkLayer layer = layer_of(LayerKind::kBatchNorm);
    layer.epsilon = 1e-3;
    layer.momentum = momentum;
    layer.mean_offset = take(at.channels);
    layer.variance_offset = take(at.channels);
    buffers.push_back({layer.mean_offset, layer.variance_offset + at.channels});
    variances.push_back({layer.variance_offset, layer.variance_offset + at.channels});
    add(layer, at, at.channels);
  }
  void global_average_pool() { add(layer_of(LayerKind::kGlobalAveragePool), {at.channels, 1, 1}, 0); }
  /// What was built last and features of the same shape.
  void add_features(std::size_t addend) {
    NetworkLayer layer = layer_of(LayerKind::kAdd);
    layer.addend = addend;
    add(layer, at, 0);
  }
  /// The next layer takes these features, which are images.
  void go_on_from(std::size_t source, Extent extent) {
    features = source;
    at = extent;
    is_flat = false;
  }
  std::uint64_t take(std::uint64_t parameters) {
    description.parameter_space_size += parameters;
    return description.parameter_space_size - parameters;
  }
  static NetworkLayer layer_of(LayerKind kind) {
    NetworkLayer layer;
    layer.kind = kind;
    return layer;
  }

  Extent at;
  Extent images;
  std::size_t features = 0;  // those at `at`
  bool is_flat = false;
  NetworkDescription description;
  std::vector<ParameterRange> buffers;    // of batch norm
  std::vector<ParameterRange> variances;  // among them
};

/// A minibatch and parameters for a stack, a pure function of the seed: parameters uniform in +-scale,
/// variances in [0.25, 1.25], but one a little below 0. Large layers want a small scale: saturated scores
/// magnify roundings.
struct Sample {
  Sample(const Stack& stack, std::size_t batch, std::uint64_t seed, double scale = 0.5) {
    RandomStream random(seed);
    parameters.resize(stack.description.parameter_space_size);
    for (float& p : parameters) p = static_cast<float>(random.uniform(-scale, scale));
    for (const ParameterRange& range : stack.variances)
      for (std::uint64_t i = range.begin; i < range.end; ++i)
        parameters[i] = i == range.begin + 1 ? -1e-3f : static_cast<float>(random.uniform(0.25, 1.25));
    modes_differ = !stack.buffers.empty();
    images.resize(batch * stack.images.size());
    for (float& x : images) x = static_cast<float>(random.uniform(-1, 1));
    labels.resize(batch);
    for (auto& label : labels) label = static_cast<std::uint8_t>(random.below(stack.at.size()));
  }
  /// Puts the images into the network.
  void feed(Network& network) const {
    const std::span<float> input = network.input(labels.size()).value();
    NANDUTI_CHECK(input.size() == images.size());
    std::copy(images.begin(), images.end(), input.begin());
  }

  std::vector<float> parameters;
  std::vector<float> images;
  std::vector<std::uint8_t> labels;
  bool modes_differ = false;  // the loss as a minibatch is not that of each image by itself
};

}  // namespace nanduti
