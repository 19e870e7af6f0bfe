#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "test/common/compute/stack.h"
#include "test/support/catch.h"

/// A backend beside the reference's, over the same stacks.
namespace nanduti {

struct Answer {
  BatchLoss loss;        // as a minibatch
  BatchLoss evaluation;  // of each image by itself
  std::vector<float> gradient;
};

inline constexpr float kUntouched = -77.0f;

inline Answer ask(Network& network, const Sample& sample) {
  Answer answer;
  answer.gradient.assign(sample.parameters.size(), kUntouched);
  sample.feed(network);
  answer.loss = network.gradient(sample.parameters, sample.labels, answer.gradient).value();
  sample.feed(network);
  answer.evaluation = network.loss(sample.parameters, sample.labels).value();
  if (!sample.modes_differ) {
    CHECK(answer.evaluation.loss_sum == answer.loss.loss_sum);
    CHECK(answer.evaluation.correct == answer.loss.correct);
  }
  return answer;
}

/// The two gradients are equal to rounding, measured against the largest entry.
inline void require_close(const std::vector<float>& got, const std::vector<float>& expected) {
  REQUIRE(got.size() == expected.size());
  float largest = 0;
  for (const float g : expected) largest = std::max(largest, std::abs(g));
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::abs(got[i] - expected[i]) <= 2e-5f * largest + 1e-7f) continue;
    FAIL("parameter " << i << " of " << got.size() << ": " << got[i] << " instead of " << expected[i]);
  }
}

inline void require_agreement(Network& fast, Network& reference, const Sample& sample) {
  const Answer got = ask(fast, sample), expected = ask(reference, sample);
  CHECK(got.loss.loss_sum == Approx(expected.loss.loss_sum).epsilon(1e-5));
  CHECK(got.loss.correct == expected.loss.correct);
  CHECK(got.evaluation.loss_sum == Approx(expected.evaluation.loss_sum).epsilon(1e-5));
  CHECK(got.evaluation.correct == expected.evaluation.correct);
  require_close(got.gradient, expected.gradient);
}

/// A network of 1 to 6 layers of any kind that fits, or adds of features of the same shape, then a dense one.
inline Stack random_stack(RandomStream& random) {
  const auto between = [&](std::uint64_t low, std::uint64_t high) {
    return static_cast<std::uint32_t>(low + random.below(high - low + 1));
  };
  Stack stack({between(1, 5), between(4, 13), between(4, 13)});
  std::vector<std::pair<Extent, bool>> shapes{{stack.at, false}};  // of each features; whether they are flat
  const auto add_some_features = [&] {
    const std::size_t first = random.below(shapes.size());
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const std::size_t addend = (first + i) % shapes.size();
      if (shapes[addend] == std::pair(stack.at, stack.is_flat)) return stack.add_features(addend);
    }
  };
  for (std::uint32_t layers = between(1, 6); layers > 0; --layers) {
    const bool image = stack.at.height > 1 && stack.at.width > 1;
    const std::uint32_t kernel = between(1, std::min({stack.at.height, stack.at.width, 5u}));
    switch (random.below(10)) {
      case 0:
      case 1:
        if (image)
          stack.window(LayerKind::kConv2d, between(1, 40), kernel, between(1, 3), between(0, kernel - 1),
                       random.below(2) == 0);
        break;
      case 2:
        if (image) stack.window(LayerKind::kMaxPool, stack.at.channels, kernel, between(1, 3), 0);
        break;
      case 3:
        if (image) stack.window(LayerKind::kAveragePool, stack.at.channels, kernel, between(1, 3), 0);
        break;
      case 4:
        stack.relu();
        break;
      case 5:
        if (!image) stack.dense(between(1, 70));
        break;
      case 6:
      case 7:
        stack.batch_norm();
        break;
      case 8:
        add_some_features();
        break;
      case 9:
        if (image && random.below(2) == 0) stack.global_average_pool();
        break;
    }
    while (shapes.size() <= stack.description.layers.size()) {
      const NetworkLayer& layer = stack.description.layers[shapes.size() - 1];
      const bool is_flat =
          layer.kind == LayerKind::kFlatten || layer.kind == LayerKind::kDense || shapes[layer.source].second;
      shapes.emplace_back(layer.output, is_flat);
    }
  }
  stack.dense(between(2, 20));
  return stack;
}

}  // namespace nanduti
