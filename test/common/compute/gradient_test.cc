// Goal: the gradient of every layer is the derivative of its loss. Method: central differences of the
// reference backend's loss, which is computed in double, over odd shapes and batches from 1; batch norm's
// statistics by hand.
#include <algorithm>
#include <cmath>

#include "common/compute/onednn/onednn_backend.h"
#include "common/compute/reference/reference_backend.h"
#include "test/common/compute/stack.h"
#include "test/support/catch.h"

using namespace nanduti;

namespace {

void check_gradient(const Stack& stack, std::size_t batch, std::uint64_t seed) {
  const auto backend = make_reference_backend();
  Result<std::unique_ptr<Network>> network = backend->compile(stack.description);
  REQUIRE(network.ok());
  Sample sample(stack, batch, seed);
  std::vector<float>& parameters = sample.parameters;
  std::vector<float> gradient(parameters.size());
  sample.feed(**network);
  const BatchLoss whole = (*network)->gradient(parameters, sample.labels, gradient).value();
  sample.feed(**network);
  if (!sample.modes_differ)
    CHECK((*network)->loss(parameters, sample.labels)->loss_sum == Approx(whole.loss_sum));
  const auto is_buffer = [&](std::size_t i) {
    return std::any_of(stack.buffers.begin(), stack.buffers.end(),
                       [&](const ParameterRange& range) { return i >= range.begin && i < range.end; });
  };
  std::vector<float> unused(parameters.size());
  std::size_t kinks = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (is_buffer(i)) continue;
    const auto loss_at = [&](float value) {
      const float before = std::exchange(parameters[i], value);
      sample.feed(**network);
      const BatchLoss loss = (*network)->gradient(parameters, sample.labels, unused).value();
      parameters[i] = before;
      return loss.loss_sum / static_cast<double>(batch);
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

TEST_CASE("convolutions without bias, batch norm and global average pool have the right gradients") {
  for (const std::size_t batch : {2, 5}) {
    Stack stack({2, 4, 3});
    stack.window(LayerKind::kConv2d, 3, 3, 1, 1, false);
    stack.batch_norm();
    stack.relu();
    stack.window(LayerKind::kConv2d, 4, 2, 1, 0, false);
    stack.batch_norm();
    stack.global_average_pool();
    stack.dense(5);
    stack.batch_norm();  // of flat features
    stack.relu();
    stack.dense(3);
    check_gradient(stack, batch, batch);
  }
}

TEST_CASE("features that are read twice get both gradients") {
  Stack stack({2, 4, 4});
  stack.window(LayerKind::kConv2d, 3, 3, 1, 1);
  stack.relu();
  const std::size_t entry = stack.features;
  const Extent extent = stack.at;
  stack.window(LayerKind::kConv2d, 3, 3, 1, 1);
  stack.relu();
  stack.add_features(entry);  // the shortcut is the input itself
  stack.relu();
  const std::size_t second = stack.features;
  stack.window(LayerKind::kConv2d, 4, 1, 2, 0);
  const std::size_t shortcut = stack.features;
  stack.go_on_from(second, extent);
  stack.window(LayerKind::kConv2d, 4, 3, 2, 1);
  stack.add_features(shortcut);
  stack.add_features(stack.features);  // twice itself
  stack.dense(3);
  check_gradient(stack, 3, 1);
}

TEST_CASE("batch norm learns the mean and the unbiased variance of its batch, and evaluates by those") {
  Stack stack({2, 1, 2});
  stack.batch_norm(0.25);
  stack.dense(2);
  const NetworkLayer& norm = stack.description.layers[0];
  std::vector<float> parameters(stack.description.parameter_space_size, 0.0f), gradient(parameters.size());
  const auto set = [&](std::uint64_t offset, float first, float second) {
    parameters[offset] = first;
    parameters[offset + 1] = second;
  };
  set(norm.weight_offset, 2, 1);
  set(norm.bias_offset, 0.5f, 0);
  set(norm.mean_offset, 1, -1);
  set(norm.variance_offset, 4, -0.5f);
  const std::uint64_t weight = stack.description.layers.back().weight_offset;  // (2, 4)
  parameters[weight] = 1;      // score 0 is the first pixel of channel 0
  parameters[weight + 6] = 1;  // score 1 that of channel 1
  Result<std::unique_ptr<Network>> network = make_reference_backend()->compile(stack.description);
  const std::vector<float> images = {1, 2, 10, 10, 3, 6, 10, 14};  // (2, 2, 1, 2)
  const auto feed = [&] { std::copy(images.begin(), images.end(), (*network)->input(2).value().begin()); };
  const std::vector<std::uint8_t> labels = {0, 1};
  feed();
  (void)(*network)->gradient(parameters, labels, gradient).value();
  // Channel 0: mean 3, variance 3.5, unbiased 14 / 3; channel 1: mean 11, variance 3, unbiased 4.
  CHECK(gradient[norm.mean_offset] == Approx(0.25 * (1 - 3)));
  CHECK(gradient[norm.mean_offset + 1] == Approx(0.25 * (-1 - 11)));
  CHECK(gradient[norm.variance_offset] == Approx(0.25 * (4 - 14.0 / 3)));
  CHECK(gradient[norm.variance_offset + 1] == Approx(0.25 * (-0.5 - 4)));
  feed();
  const double loss = (*network)->loss(parameters, labels)->loss_sum;
  const auto score = [&](int image, int channel) {
    const double x = static_cast<double>(images[static_cast<std::size_t>(4 * image + 2 * channel)]);
    return channel == 0 ? 2 * (x - 1) / std::sqrt(4 + 1e-3) + 0.5 : (x + 1) / std::sqrt(1e-3);
  };
  const auto loss_of = [&](int image, int label) {
    return std::log(std::exp(score(image, 0) - score(image, label)) +
                    std::exp(score(image, 1) - score(image, label)));
  };
  CHECK(loss == Approx(loss_of(0, 0) + loss_of(1, 1)));
}

TEST_CASE("a channel with a single value leaves the running statistics as they are") {
  Stack stack({3, 1, 1});
  stack.batch_norm();
  stack.dense(2);
  for (const auto& backend : {make_reference_backend, make_onednn_backend}) {
    Result<std::unique_ptr<Network>> network = backend()->compile(stack.description);
    const Sample sample(stack, 1, 1);
    std::vector<float> gradient(sample.parameters.size(), 7.0f);
    sample.feed(**network);
    (void)(*network)->gradient(sample.parameters, sample.labels, gradient).value();
    for (const ParameterRange& range : stack.buffers)
      for (std::uint64_t i = range.begin; i < range.end; ++i) CHECK(gradient[i] == 0.0f);
  }
}
