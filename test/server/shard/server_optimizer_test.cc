// Goal: what servers make of pushes is what the papers say. Method: their algorithms written down again, for
// all workers' pushes of a round at a time and over whole rows; rows by hand.
#include "server/shard/server_optimizer.h"

#include <cmath>

#include "common/base/random.h"
#include "test/support/catch.h"

using namespace nanduti;

namespace {

constexpr std::size_t kValues = 12;

/// An update of the coordinates that are not 0, or of all.
Update update_of(const std::vector<float>& values, bool dense) {
  struct Owner {
    std::vector<std::uint32_t> indices;
    std::vector<float> values;
  };
  auto owner = std::make_shared<Owner>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!dense && values[i] == 0) continue;
    if (!dense) owner->indices.push_back(static_cast<std::uint32_t>(i));
    owner->values.push_back(values[i]);
  }
  return {values.size(), dense, owner->indices, owner->values, owner};
}

std::vector<float> some_values(RandomStream& random) {
  std::vector<float> values(kValues);
  for (float& value : values)
    if (random.below(3) != 0) value = static_cast<float>(random.uniform(-1.0, 1.0));
  return values;
}

void check_same(const std::vector<float>& w, const std::vector<double>& expected) {
  for (std::size_t i = 0; i < w.size(); ++i) CHECK(w[i] == Approx(expected[i]).margin(1e-4));
}

}  // namespace

TEST_CASE("added pushes move the parameters by their weight times the server's learning rate") {
  ServerOptimizerSpec spec;
  spec.learning_rate = 2;
  ServerOptimizer optimizer(spec, kValues, kValues, {});
  std::vector<float> w(kValues, 1.0f);
  std::vector<float> push(kValues);
  push[3] = 4;
  for (const bool dense : {true, false}) optimizer.apply(w, update_of(push, dense), {0.25f, 1.0f, 0.25});
  CHECK(w[3] == -3.0f);
  CHECK(w[4] == 1.0f);
}

TEST_CASE("delayed Nesterov is momentum on the mean of a round, whoever is first, and flushes end no round") {
  constexpr std::uint32_t kWorkers = 3;
  ServerOptimizerSpec spec;
  spec.type = ServerOptimizerType::kNesterov;
  spec.learning_rate = 0.5;
  spec.momentum = 0.75;
  ServerOptimizer optimizer(spec, kValues, kValues, {});
  RandomStream random(1);
  std::vector<float> w(kValues, 1.0f);
  std::vector<double> expected(kValues, 1.0), velocity(kValues);
  for (int round = 0; round < 50; ++round) {
    std::vector<double> mean(kValues);
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
      const std::vector<float> push = some_values(random);
      const bool flush = round % 7 == 3 && worker == 1;
      for (std::size_t i = 0; i < kValues; ++i) mean[i] += static_cast<double>(push[i]) / kWorkers;
      if (flush) {  // the same in two parts, of which one is no round
        std::vector<float> half(push);
        for (float& value : half) value *= 0.5f;
        optimizer.apply(w, update_of(half, true), {1.0f / kWorkers, 1.0f, 0});
        optimizer.apply(w, update_of(half, false), {1.0f / kWorkers, 1.0f, 1.0 / kWorkers});
      } else {
        optimizer.apply(w, update_of(push, random.below(2) == 0), {2.0f / kWorkers, 0.5f, 1.0 / kWorkers});
      }
    }
    for (std::size_t i = 0; i < kValues; ++i) {
      velocity[i] = spec.momentum * velocity[i] + mean[i];
      expected[i] -= spec.learning_rate * (mean[i] + spec.momentum * velocity[i]);
    }
    check_same(w, expected);
  }
}

TEST_CASE("Adagrad divides by the root of its row's mean squares, the values that were not sent included") {
  ServerOptimizerSpec spec;
  spec.type = ServerOptimizerType::kAdagrad;
  spec.learning_rate = 0.5;
  const std::vector<std::uint64_t> row_ends = {1, 4, 5, kValues};
  ServerOptimizer optimizer(spec, kValues, kValues, row_ends);
  RandomStream random(2);
  std::vector<float> w(kValues, 1.0f);
  std::vector<double> expected(kValues, 1.0), squares(row_ends.size());
  for (int step = 0; step < 60; ++step) {
    std::vector<float> push = some_values(random);
    if (step < 20) std::fill(push.begin() + 1, push.begin() + 4, 0.0f);  // a row that begins late
    const float kept = step % 3 == 0 ? 0.25f : 1.0f;
    optimizer.apply(w, update_of(push, random.below(2) == 0), {0.5f, kept, 0.5});
    std::uint64_t begin = 0;
    for (std::size_t row = 0; row < row_ends.size(); begin = row_ends[row++]) {
      const auto size = static_cast<double>(row_ends[row] - begin);
      for (std::size_t i = begin; i < row_ends[row]; ++i)
        squares[row] += 0.25 * static_cast<double>(push[i]) * push[i] / size;
      for (std::size_t i = begin; i < row_ends[row]; ++i)
        expected[i] -= kept * 0.5 * 0.5 * push[i] / (std::sqrt(squares[row]) + spec.epsilon);
    }
    check_same(w, expected);
  }
}

TEST_CASE("buffers move by the mean of what workers send, whatever the optimizer") {
  constexpr std::size_t kBuffersBegin = 7;
  for (const auto type :
       {ServerOptimizerType::kAdd, ServerOptimizerType::kNesterov, ServerOptimizerType::kAdagrad}) {
    for (const bool dense : {true, false}) {
      INFO("type " << static_cast<int>(type) << " dense " << dense);
      ServerOptimizerSpec spec;
      spec.type = type;
      spec.learning_rate = 0.5;
      const std::vector<std::uint64_t> rows = {5, kBuffersBegin, 10, kValues};
      ServerOptimizer with(spec, kValues, kBuffersBegin, rows), without(spec, kValues, kValues, rows);
      RandomStream random(3);
      std::vector<float> w(kValues, 1.0f), all_trained(kValues, 1.0f);
      std::vector<double> expected(kValues, 1.0);
      for (int step = 0; step < 10; ++step) {
        const std::vector<float> push = some_values(random);
        with.apply(w, update_of(push, dense), {0.5f, 0.25f, 0.5});
        without.apply(all_trained, update_of(push, dense), {0.5f, 0.25f, 0.5});
        for (std::size_t i = 0; i < kValues; ++i) expected[i] -= 0.125 * push[i];
        for (std::size_t i = 0; i < kBuffersBegin; ++i) CHECK(w[i] == all_trained[i]);
        for (std::size_t i = kBuffersBegin; i < kValues; ++i) CHECK(w[i] == Approx(expected[i]).margin(1e-5));
      }
    }
  }
}

TEST_CASE("each shard knows which of its values are buffers") {
  const ParameterSpace space({{"0.weight", {5000}}, {"0.bias", {3}}, {"1.running_mean", {9000}, true}});
  REQUIRE(space.buffers_begin() == 12288);
  REQUIRE(space.size() == 24576);
  CHECK(shard_buffers_begin(space, {0, 24576}) == 12288);
  CHECK(shard_buffers_begin(space, {0, 8192}) == 8192);
  CHECK(shard_buffers_begin(space, {8192, 16384}) == 4096);
  CHECK(shard_buffers_begin(space, {16384, 24576}) == 0);
  CHECK(shard_buffers_begin(space, {24576, 24576}) == 0);
}

TEST_CASE("the rows of a shard are those of its tensors' first dimension, cut where the shard is") {
  const ParameterSpace space({{"0.weight", {3, 2, 1000}}, {"0.bias", {3}}, {"1.weight", {2, 3000}}});
  REQUIRE(space.tensors()[2].offset == 8192);
  REQUIRE(space.tensors()[1].offset == 16384);
  using Rows = std::vector<std::uint64_t>;
  CHECK(shard_rows(space, {0, 4096}) == Rows{2000, 4000, 4096});
  CHECK(shard_rows(space, {4096, 12288}) == Rows{1904, 4096, 7096, 8192});
  CHECK(shard_rows(space, {12288, space.size()}) == Rows{1904, 4096, 4097, 4098, 4099, 8192});
  CHECK(shard_rows(space, {4096, 4096}).empty());
}
