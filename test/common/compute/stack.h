#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/base/random.h"
#include "common/compute/network.h"

namespace nanduti {

/// Builds a stack layer by layer and lays its parameters out one after the other.
struct Stack {
  explicit Stack(Extent input) : at(input), images(input) {}

  void add(NetworkLayer layer, Extent output, std::uint64_t weights) {
    layer.input = at;
    layer.output = output;
    if (weights > 0) {
      layer.weight_offset = description.parameter_space_size;
      layer.bias_offset = layer.weight_offset + weights;
      description.parameter_space_size += weights + output.channels;
    }
    description.layers.push_back(layer);
    at = output;
  }
  void window(LayerKind kind, std::uint32_t channels, std::uint32_t kernel, std::uint32_t stride,
              std::uint32_t padding) {
    NetworkLayer layer = layer_of(kind);
    layer.kernel = kernel;
    layer.stride = stride;
    layer.padding = padding;
    const auto side = [&](std::uint32_t n) { return (n + 2 * padding - kernel) / stride + 1; };
    const bool conv = kind == LayerKind::kConv2d;
    add(layer, {channels, side(at.height), side(at.width)},
        conv ? std::uint64_t{channels} * at.channels * kernel * kernel : 0);
  }
  void relu() { add(layer_of(LayerKind::kRelu), at, 0); }
  void flatten() { add(layer_of(LayerKind::kFlatten), {static_cast<std::uint32_t>(at.size()), 1, 1}, 0); }
  void dense(std::uint32_t units) {
    if (at.height * at.width > 1) flatten();
    add(layer_of(LayerKind::kDense), {units, 1, 1}, std::uint64_t{units} * at.channels);
  }
  static NetworkLayer layer_of(LayerKind kind) {
    NetworkLayer layer;
    layer.kind = kind;
    return layer;
  }

  Extent at;
  Extent images;
  NetworkDescription description;
};

/// A minibatch and parameters for a stack, a pure function of the seed: parameters uniform in +-scale. Large
/// layers want a small scale: saturated scores magnify roundings.
struct Sample {
  Sample(const Stack& stack, std::size_t batch, std::uint64_t seed, double scale = 0.5) {
    RandomStream random(seed);
    parameters.resize(stack.description.parameter_space_size);
    for (float& p : parameters) p = static_cast<float>(random.uniform(-scale, scale));
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
};

}  // namespace nanduti
