// Goal: oneDNN computes what the definition says. Method: loss and gradient are compared with the reference
// backend's, which works in double and whose gradients are checked against differences (gradient_test.cc);
// for a few stacks the differences of oneDNN's own loss are taken too.
#include <cmath>
#include <thread>

#include "common/compute/onednn/onednn_backend.h"
#include "common/compute/reference/reference_backend.h"
#include "test/common/compute/agreement.h"

using namespace nanduti;

namespace {

std::unique_ptr<Network> compile(const std::unique_ptr<Backend>& backend, const Stack& stack) {
  return std::move(backend->compile(stack.description)).value();
}

void require_agreement(const Stack& stack, std::size_t batch, std::uint64_t seed, double scale = 0.5) {
  const auto fast = compile(make_onednn_backend(), stack);
  const auto reference = compile(make_reference_backend(), stack);
  require_agreement(*fast, *reference, Sample(stack, batch, seed, scale));
}

Stack lenet(Extent images, std::uint32_t classes) {
  Stack stack(images);
  stack.window(LayerKind::kConv2d, 20, 5, 1, 0);
  stack.window(LayerKind::kMaxPool, 20, 2, 2, 0);
  stack.window(LayerKind::kConv2d, 50, 5, 1, 0);
  stack.window(LayerKind::kMaxPool, 50, 2, 2, 0);
  stack.dense(500);
  stack.relu();
  stack.dense(classes);
  return stack;
}

Stack mlp(Extent images, std::uint32_t classes) {
  Stack stack(images);
  stack.dense(256);
  stack.relu();
  stack.dense(128);
  stack.relu();
  stack.dense(classes);
  return stack;
}

}  // namespace

TEST_CASE("oneDNN: convolutions agree with the reference at every kernel, stride and padding") {
  for (std::uint32_t kernel = 1; kernel <= 5; ++kernel)
    for (std::uint32_t stride = 1; stride <= 3; ++stride)
      for (std::uint32_t padding = 0; padding < kernel; ++padding)
        for (const std::uint32_t channels : {1u, 3u, 17u}) {
          INFO("kernel " << kernel << " stride " << stride << " padding " << padding << " in " << channels);
          Stack stack({channels, 7, 9});
          stack.window(LayerKind::kConv2d, 5, kernel, stride, padding);
          stack.window(LayerKind::kConv2d, 19, std::min({3u, stack.at.height, stack.at.width}), 1, 0);
          stack.relu();
          stack.dense(3);
          require_agreement(stack, 2, kernel);
        }
}

TEST_CASE("oneDNN: pools agree with the reference, overlapping and with a rest that does not fit") {
  for (const LayerKind kind : {LayerKind::kMaxPool, LayerKind::kAveragePool})
    for (std::uint32_t kernel = 1; kernel <= 4; ++kernel)
      for (std::uint32_t stride = 1; stride <= 4; ++stride)
        for (const std::uint32_t channels : {1u, 16u, 21u}) {
          INFO("kind " << static_cast<int>(kind) << " kernel " << kernel << " stride " << stride);
          Stack stack({2, 9, 7});
          stack.window(LayerKind::kConv2d, channels, 2, 1, 1);
          stack.window(kind, channels, kernel, stride, 0);
          stack.dense(4);
          require_agreement(stack, 3, kernel * 10 + stride);
        }
}

TEST_CASE(
    "oneDNN: batch norm agrees with the reference, of images and of flat features, with relu and without") {
  for (const std::uint32_t channels : {1u, 3u, 8u, 16u, 21u, 32u})
    for (const bool relu : {false, true})
      for (const std::size_t batch : {4, 7}) {  // of two flat samples it is badly conditioned
        INFO("channels " << channels << " relu " << relu << " batch " << batch);
        Stack stack({3, 7, 6});
        stack.window(LayerKind::kConv2d, channels, 3, 1, 1, false);
        stack.batch_norm();
        if (relu) stack.relu();
        stack.window(LayerKind::kConv2d, 16, 2, 1, 0);
        stack.relu();
        stack.batch_norm(0.5);
        stack.flatten();
        stack.batch_norm();
        if (relu) stack.relu();
        stack.dense(channels);
        stack.batch_norm();
        if (relu) stack.relu();
        stack.dense(4);
        require_agreement(stack, batch, channels);
      }
}

TEST_CASE("oneDNN: residuals agree with the reference, one in the other, with any shortcut") {
  for (const std::uint32_t channels : {3u, 16u}) {
    for (const bool norm : {false, true}) {
      INFO("channels " << channels << " norm " << norm);
      Stack stack({channels, 8, 9});
      const auto convolution = [&](std::uint32_t kernel, std::uint32_t stride) {
        stack.window(LayerKind::kConv2d, channels, kernel, stride, kernel / 2, !norm);
        if (norm) stack.batch_norm();
      };
      const std::size_t images = stack.features;
      convolution(3, 1);
      stack.add_features(images);  // whose gradient nobody wants
      stack.relu();
      const std::size_t outer = stack.features;
      convolution(3, 1);
      stack.relu();
      const std::size_t inner = stack.features;
      convolution(3, 1);
      stack.relu();  // whose gradient is also the shortcut's
      stack.add_features(inner);
      stack.add_features(outer);
      stack.relu();
      const std::size_t narrow = stack.features;
      const Extent extent = stack.at;
      convolution(1, 2);
      const std::size_t shortcut = stack.features;
      stack.go_on_from(narrow, extent);
      convolution(3, 2);
      stack.relu();
      stack.add_features(shortcut);
      stack.relu();
      stack.global_average_pool();
      stack.flatten();
      stack.add_features(stack.features);
      stack.relu();
      stack.dense(5);
      require_agreement(stack, 3, channels, 0.3);
    }
  }
}

TEST_CASE("oneDNN: large kernels and strides with many channels agree with the reference") {
  Stack stack({3, 35, 31});
  stack.window(LayerKind::kConv2d, 33, 11, 4, 2);
  stack.relu();
  stack.window(LayerKind::kMaxPool, 33, 3, 2, 0);
  stack.window(LayerKind::kConv2d, 48, 3, 1, 2);
  stack.relu();
  stack.window(LayerKind::kConv2d, 16, 1, 1, 0);
  stack.window(LayerKind::kAveragePool, 16, 3, 1, 0);
  stack.dense(10);
  require_agreement(stack, 2, 1, 0.1);
  Stack wide({2, 9, 64});
  wide.window(LayerKind::kConv2d, 4, 7, 5, 6);
  wide.dense(3);
  require_agreement(wide, 3, 2, 0.1);
}

TEST_CASE("oneDNN: of equal pixels a max pool takes the first, as the reference does") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    Stack stack({1, 8, 9});
    stack.window(LayerKind::kConv2d, 18, 2, 1, 0);
    stack.window(LayerKind::kMaxPool, 18, 3, 2, 0);
    stack.dense(3);
    Sample sample(stack, 4, seed);
    // Whole numbers: different patches often give the same value, exactly.
    const std::size_t conv = 18 * 4 + 18;
    for (std::size_t i = 0; i < conv; ++i) sample.parameters[i] = std::round(sample.parameters[i] * 3);
    for (float& pixel : sample.images) pixel = std::round(pixel * 1.4f);
    const auto fast = compile(make_onednn_backend(), stack);
    const auto reference = compile(make_reference_backend(), stack);
    require_agreement(*fast, *reference, sample);
  }
}

TEST_CASE("oneDNN: dense and relu agree with the reference for every size around a vector's length") {
  for (const std::uint32_t units : {1u, 2u, 7u, 8u, 15u, 16u, 17u, 33u, 64u, 129u})
    for (const std::size_t batch : {1, 2, 5, 64}) {
      INFO("units " << units << " batch " << batch);
      Stack stack({1, 3, units});
      stack.dense(units);
      stack.relu();
      stack.dense(units + 1);
      stack.relu();
      stack.dense(5);
      require_agreement(stack, batch, units);
    }
}

TEST_CASE("oneDNN: relu and pool in front of all parameters, twice, and at the end agree") {
  Stack stack({3, 8, 8});
  stack.relu();
  stack.window(LayerKind::kMaxPool, 3, 2, 1, 0);
  stack.window(LayerKind::kConv2d, 6, 3, 1, 1);
  stack.relu();
  stack.relu();
  stack.window(LayerKind::kAveragePool, 6, 3, 2, 0);
  stack.relu();
  stack.flatten();
  stack.relu();
  stack.dense(4);
  stack.relu();
  require_agreement(stack, 3, 1);
}

TEST_CASE("oneDNN: an image at the end, flattened, gives the scores in row-major order") {
  for (const bool relu : {false, true}) {
    Stack stack({2, 6, 6});
    stack.window(LayerKind::kConv2d, 3, 3, 2, 0);
    if (relu) stack.relu();
    stack.flatten();
    require_agreement(stack, 5, 2);
  }
}

TEST_CASE("oneDNN: two to 256 classes agree with the reference") {
  for (const std::uint32_t classes : {2u, 3u, 10u, 100u, 255u, 256u}) {
    INFO("classes " << classes);
    Stack stack({1, 5, 5});
    stack.dense(classes);
    require_agreement(stack, 9, classes);
  }
}

TEST_CASE("oneDNN: random stacks agree with the reference") {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    INFO("seed " << seed);
    RandomStream random(seed);
    const Stack stack = random_stack(random);
    require_agreement(stack, 1 + random.below(9), seed);
  }
}

TEST_CASE("oneDNN: lenet and mlp agree with the reference on usual and odd images") {
  require_agreement(lenet({1, 28, 28}, 10), 4, 1, 0.05);
  require_agreement(lenet({3, 33, 30}, 7), 1, 2, 0.05);
  require_agreement(mlp({1, 28, 28}, 10), 64, 3, 0.05);
  require_agreement(mlp({3, 7, 5}, 26), 1, 4, 0.05);
}

TEST_CASE("oneDNN: one network takes batches of changing size, more of them than it keeps") {
  const Stack stack = lenet({1, 16, 16}, 10);
  const auto fast = compile(make_onednn_backend(), stack);
  const auto reference = compile(make_reference_backend(), stack);
  for (const std::size_t batch : {4, 1, 4, 3, 2, 5, 6, 7, 8, 9, 10, 4, 1}) {
    INFO("batch " << batch);
    require_agreement(*fast, *reference, Sample(stack, batch, batch, 0.05));
  }
}

TEST_CASE("oneDNN: the same inputs give the same bits, also from another network and buffer") {
  const Stack stack = lenet({1, 28, 28}, 10);
  const Sample sample(stack, 8, 1, 0.05);
  const auto one = compile(make_onednn_backend(), stack), two = compile(make_onednn_backend(), stack);
  const Answer first = ask(*one, sample);
  ask(*two, Sample(stack, 3, 2));
  Sample moved = sample;  // other addresses
  moved.parameters.insert(moved.parameters.begin(), 0.0f);
  std::vector<float> gradient(first.gradient.size() + 1);
  sample.feed(*two);
  const auto parameters = std::span<const float>(moved.parameters).subspan(1);
  const BatchLoss loss =
      two->gradient(parameters, sample.labels, std::span<float>(gradient).subspan(1)).value();
  CHECK(loss.loss_sum == first.loss.loss_sum);
  CHECK(std::equal(first.gradient.begin(), first.gradient.end(), gradient.begin() + 1));
  CHECK(ask(*one, sample).gradient == first.gradient);
}

TEST_CASE("oneDNN: networks in several threads do not disturb each other") {
  const Stack stack = lenet({1, 20, 20}, 10);
  const Sample sample(stack, 8, 1, 0.05);
  const Answer expected = ask(*compile(make_onednn_backend(), stack), sample);
  const auto backend = make_onednn_backend();
  std::vector<std::vector<float>> gradients(3, std::vector<float>(sample.parameters.size(), kUntouched));
  {
    std::vector<std::jthread> threads;
    for (auto& gradient : gradients) {
      threads.emplace_back([&] {
        const auto network = compile(backend, stack);
        for (int repeat = 0; repeat < 5; ++repeat) {
          sample.feed(*network);
          (void)network->gradient(sample.parameters, sample.labels, gradient).value();
        }
      });
    }
  }
  for (const auto& gradient : gradients) CHECK(gradient == expected.gradient);
}

TEST_CASE("oneDNN: gaps between tensors are not touched") {
  Stack stack({1, 4, 4});
  stack.description.parameter_space_size = 5;
  stack.dense(6);
  stack.description.parameter_space_size += 7;
  stack.dense(3);
  stack.description.parameter_space_size += 2;
  const auto network = compile(make_onednn_backend(), stack);
  const Answer answer = ask(*network, Sample(stack, 3, 1));
  const std::size_t gap = 5 + 6 * 16 + 6;
  for (std::size_t i = 0; i < answer.gradient.size(); ++i) {
    const bool in_gap = i < 5 || (i >= gap && i < gap + 7) || i >= answer.gradient.size() - 2;
    INFO("parameter " << i);
    CHECK((answer.gradient[i] == kUntouched) == in_gap);
  }
}

TEST_CASE("oneDNN: the gradient is the difference of its own loss, for a stack with every layer") {
  Stack stack({2, 9, 8});
  stack.window(LayerKind::kConv2d, 4, 3, 1, 1);
  stack.relu();
  stack.window(LayerKind::kMaxPool, 4, 2, 2, 0);
  stack.window(LayerKind::kConv2d, 3, 2, 1, 1);
  stack.window(LayerKind::kAveragePool, 3, 2, 2, 0);
  stack.dense(5);
  stack.relu();
  stack.dense(3);
  Sample sample(stack, 4, 3);
  const auto network = compile(make_onednn_backend(), stack);
  const Answer answer = ask(*network, sample);
  const auto loss_at = [&](std::size_t i, float value) {
    const float before = std::exchange(sample.parameters[i], value);
    sample.feed(*network);
    const double loss = network->loss(sample.parameters, sample.labels)->loss_sum / 4;
    sample.parameters[i] = before;
    return loss;
  };
  const double here = answer.loss.loss_sum / 4;
  for (std::size_t i = 0; i < sample.parameters.size(); ++i) {
    // A step that float32's rounding of the loss leaves visible.
    const float step = 1.0f / 256, p = sample.parameters[i];
    const double right = (loss_at(i, p + step) - here) / step, left = (here - loss_at(i, p - step)) / step;
    const double slack = 2e-3 + 2e-2 * std::abs(answer.gradient[i]);
    INFO("parameter " << i << ": " << answer.gradient[i] << ", slopes " << left << " and " << right);
    REQUIRE(answer.gradient[i] >= std::min(left, right) - slack);
    REQUIRE(answer.gradient[i] <= std::max(left, right) + slack);
  }
}

TEST_CASE("oneDNN: says its version") { CHECK(make_onednn_backend()->name().find("cpu (oneDNN 2.") == 0); }
