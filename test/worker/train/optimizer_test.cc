// Goal: AdamW moves parameters as its paper says. Method: a reference in double precision, written from the
// paper, over random gradients; the first step and its limits by hand. (SGD: trainer_test.cc.)
#include "worker/train/optimizer.h"

#include <cmath>

#include "common/base/random.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

ParameterSpace space() { return ParameterSpace({{"a", {5000}}, {"b", {7}}}); }

OptimizerSpec adamw(double weight_decay = 0) {
  OptimizerSpec spec;
  spec.type = OptimizerType::kAdamW;
  spec.learning_rate = 0.01;
  spec.weight_decay = weight_decay;
  return spec;
}

TEST_CASE("the first step of AdamW is the learning rate long, whatever the gradient") {
  const ParameterSpace places = space();
  Optimizer optimizer(adamw(), places);
  std::vector<float> gradient(places.size(), 0.0f), x(places.size(), 1.0f);
  gradient[0] = 1e-3f;
  gradient[1] = -50.0f;
  optimizer.step(0.01, gradient, x);
  CHECK(x[0] == Approx(0.99).epsilon(1e-4));
  CHECK(x[1] == Approx(1.01));
  CHECK(x[2] == 1.0f);
}

TEST_CASE("buffers move by their gradient, whatever the optimizer, its rate and what came before") {
  const ParameterSpace places({{"a", {5000}}, {"b", {7}}, {"running", {9}, true}});
  const std::uint64_t at = places.tensors()[2].offset;
  REQUIRE(at == places.buffers_begin());
  for (const OptimizerType type : {OptimizerType::kSgd, OptimizerType::kMomentum, OptimizerType::kAdamW}) {
    OptimizerSpec spec;
    spec.type = type;
    spec.weight_decay = 0.5;
    Optimizer optimizer(spec, places);
    std::vector<float> gradient(places.size(), 0.25f), x(places.size(), 8.0f);
    for (int step = 0; step < 4; ++step) optimizer.step(0.01, gradient, x);
    CHECK(x[at] == 7.0f);
    CHECK(x[at + 8] == 7.0f);
    CHECK(x[at + 9] == 8.0f);  // a gap
    CHECK(x[0] != 7.0f);
  }
}

TEST_CASE("AdamW's weight decay does not depend on the gradient") {
  const ParameterSpace places = space();
  Optimizer optimizer(adamw(0.1), places);
  std::vector<float> gradient(places.size(), 0.0f), x(places.size(), 2.0f);
  optimizer.step(0.5, gradient, x);
  CHECK(x[0] == Approx(1.9));
}

TEST_CASE("where others' work is merged, momentum keeps the part that it is told to") {
  const ParameterSpace places = space();
  for (const double kept : {1.0, 0.5, 0.0}) {
    OptimizerSpec spec;
    spec.momentum = 0.5;
    spec.kept_at_merge = kept;
    Optimizer optimizer(spec, places);
    std::vector<float> gradient(places.size(), 1.0f), x(places.size(), 0.0f);
    optimizer.step(1, gradient, x);
    optimizer.on_merge();
    optimizer.step(1, gradient, x);
    CHECK(x[0] == Approx(-(1 + (1 + 0.5 * kept))));
  }
}

TEST_CASE("AdamW follows the reference, and begins anew when it is reset") {
  const ParameterSpace places = space();
  const OptimizerSpec spec = adamw(0.02);
  Optimizer optimizer(spec, places);
  for (int life = 0; life < 2; ++life) {
    RandomStream random(static_cast<std::uint64_t>(life) + 1);
    std::vector<float> x(places.size(), 0.5f), gradient(places.size());
    std::vector<double> mean(places.size()), square(places.size()), expected(places.size(), 0.5);
    for (int step = 1; step <= 200; ++step) {
      const double rate = 0.01 / step;
      for (const TensorPlace& place : places.tensors()) {
        for (std::uint64_t i = place.offset; i < place.offset + place.size(); ++i) {
          gradient[i] = static_cast<float>(random.uniform(-1, 1) * std::pow(10, random.uniform(-4, 2)));
          mean[i] = 0.9 * mean[i] + 0.1 * gradient[i];
          square[i] = 0.999 * square[i] + 0.001 * static_cast<double>(gradient[i]) * gradient[i];
          expected[i] -= rate * 0.02 * expected[i];
          expected[i] -= rate * (mean[i] / (1 - std::pow(0.9, step))) /
                         (std::sqrt(square[i] / (1 - std::pow(0.999, step))) + 1e-8);
        }
      }
      optimizer.step(rate, gradient, x);
    }
    for (const TensorPlace& place : places.tensors())
      for (std::uint64_t i = place.offset; i < place.offset + place.size(); ++i)
        REQUIRE(x[i] == Approx(expected[i]).margin(2e-5));
    optimizer.reset();
  }
}

}  // namespace
}  // namespace nanduti
