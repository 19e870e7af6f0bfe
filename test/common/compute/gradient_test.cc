// Goal: the gradient of every layer is the derivative of its loss. Method: central differences of the
// reference backend's loss, which is computed in double, over odd shapes and batches from 1.
#include <cmath>

#include "common/base/random.h"
#include "common/compute/reference/reference_backend.h"
#include "test/support/catch.h"

using namespace nanduti;

namespace {

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
  static NetworkLayer layer_of(LayerKind kind) {
    NetworkLayer layer;
    layer.kind = kind;
    return layer;
  }
  void dense(std::uint32_t units) {
    if (at.height * at.width > 1)
      add(layer_of(LayerKind::kFlatten), {static_cast<std::uint32_t>(at.size()), 1, 1}, 0);
    add(layer_of(LayerKind::kDense), {units, 1, 1}, std::uint64_t{units} * at.channels);
  }

  Extent at;
  Extent images;
  NetworkDescription description;
};

void check_gradient(const Stack& stack, std::size_t batch, std::uint64_t seed) {
  const auto backend = make_reference_backend();
  Result<std::unique_ptr<Network>> network = backend->compile(stack.description);
  REQUIRE(network.ok());
  RandomStream random(seed);
  std::vector<float> parameters(stack.description.parameter_space_size);
  for (float& p : parameters) p = static_cast<float>(random.uniform(-0.5, 0.5));
  std::vector<float> images(batch * stack.images.size());
  for (float& x : images) x = static_cast<float>(random.uniform(-1, 1));
  std::vector<std::uint8_t> labels(batch);
  for (auto& label : labels) label = static_cast<std::uint8_t>(random.below(stack.at.channels));
  const auto fill = [&] {
    const std::span<float> input = (*network)->input(batch).value();
    REQUIRE(input.size() == images.size());
    std::copy(images.begin(), images.end(), input.begin());
  };
  std::vector<float> gradient(parameters.size());
  fill();
  const BatchLoss whole = (*network)->gradient(parameters, labels, gradient).value();
  fill();
  CHECK((*network)->loss(parameters, labels)->loss_sum == Approx(whole.loss_sum));
  std::size_t kinks = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto loss_at = [&](float value) {
      const float before = std::exchange(parameters[i], value);
      fill();
      const double loss = (*network)->loss(parameters, labels)->loss_sum / static_cast<double>(batch);
      parameters[i] = before;
      return loss;
    };
    const float step = 1.0f / 1024;
    const double here = whole.loss_sum / static_cast<double>(batch);
    const double up = loss_at(parameters[i] + step), down = loss_at(parameters[i] - step);
    const double right = (up - here) / step, left = (here - down) / step;
    const double slack = 2e-3 + 2e-2 * std::abs(gradient[i]);
    // relu and max have corners: there the gradient lies between the slopes of the two sides.
    if (std::abs(right - left) > slack) ++kinks;
    INFO("parameter " << i << " of " << parameters.size());
    REQUIRE(static_cast<double>(gradient[i]) >= std::min(left, right) - slack);
    REQUIRE(static_cast<double>(gradient[i]) <= std::max(left, right) + slack);
  }
  CHECK(kinks * 4 < parameters.size());
}

}  // namespace

TEST_CASE("dense and relu have the right gradients") {
  for (const std::size_t batch : {1, 2, 5}) {
    Stack stack({3, 2, 3});
    stack.dense(7);
    stack.relu();
    stack.dense(4);
    check_gradient(stack, batch, batch);
  }
}

TEST_CASE("convolutions of any kernel, stride and padding have the right gradients") {
  for (std::uint32_t kernel = 1; kernel <= 3; ++kernel)
    for (std::uint32_t stride = 1; stride <= 2; ++stride)
      for (std::uint32_t padding = 0; padding < kernel; ++padding) {
        INFO("kernel " << kernel << " stride " << stride << " padding " << padding);
        Stack stack({2, 5, 7});
        stack.window(LayerKind::kConv2d, 3, kernel, stride, padding);
        stack.relu();
        stack.dense(3);
        check_gradient(stack, 2, kernel * 10 + stride);
      }
}

TEST_CASE("pools have the right gradients, overlapping and with a rest that does not fit") {
  for (const LayerKind kind : {LayerKind::kMaxPool, LayerKind::kAveragePool})
    for (std::uint32_t kernel = 2; kernel <= 3; ++kernel)
      for (std::uint32_t stride = 1; stride <= 3; ++stride) {
        INFO("kind " << static_cast<int>(kind) << " kernel " << kernel << " stride " << stride);
        Stack stack({1, 7, 6});
        stack.window(LayerKind::kConv2d, 2, 3, 1, 1);
        stack.window(kind, 2, kernel, stride, 0);
        stack.dense(3);
        check_gradient(stack, 3, kernel * 10 + stride);
      }
}
