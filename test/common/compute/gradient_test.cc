// Goal: the gradient of every layer is the derivative of its loss. Method: central differences of the
// reference backend's loss, which is computed in double, over odd shapes and batches from 1.
#include <cmath>

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
  CHECK((*network)->loss(parameters, sample.labels)->loss_sum == Approx(whole.loss_sum));
  std::size_t kinks = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto loss_at = [&](float value) {
      const float before = std::exchange(parameters[i], value);
      sample.feed(**network);
      const double loss = (*network)->loss(parameters, sample.labels)->loss_sum / static_cast<double>(batch);
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
