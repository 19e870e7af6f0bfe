// Goal: the order of samples and the learning rate are pure functions with known values. Method: exact values
// worked out by hand, permutations, a frozen order, and how often each place is taken.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <set>

#include "test/support/catch.h"
#include "worker/train/learning_rate.h"
#include "worker/train/sample_order.h"

using namespace nanduti;

TEST_CASE("an epoch's order is a permutation") {
  for (const std::uint64_t count : {0, 1, 2, 3, 10, 1000, 60000}) {
    std::vector<std::uint32_t> order = sample_order(7, 3, count), sorted(count);
    std::sort(order.begin(), order.end());
    std::iota(sorted.begin(), sorted.end(), 0u);
    CHECK(order == sorted);
  }
}

TEST_CASE("the order is a pure function of seed, epoch and count") {
  std::set<std::vector<std::uint32_t>> seen;
  for (const std::uint64_t seed : {1ull, 2ull, 1ull << 40})
    for (const std::uint32_t epoch : {0u, 1u, 4000000000u}) {
      const auto order = sample_order(seed, epoch, 100);
      CHECK(order == sample_order(seed, epoch, 100));
      seen.insert(order);
    }
  CHECK(seen.size() == 9);
  // Frozen: workers of different builds must agree.
  CHECK(sample_order(1, 0, 8) == std::vector<std::uint32_t>{4, 2, 1, 6, 0, 7, 3, 5});
}

TEST_CASE("every sample is as likely at every place") {
  constexpr std::uint32_t kEpochs = 6000, kCount = 5;
  std::uint32_t hits[kCount][kCount] = {};
  for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order = sample_order(1, epoch, kCount);
    for (std::uint32_t place = 0; place < kCount; ++place) ++hits[order[place]][place];
  }
  // Expected 1200 with a deviation of 31; the outcome is fixed, as the seed is.
  for (const auto& row : hits)
    for (const std::uint32_t hit : row) CHECK(std::abs(static_cast<int>(hit) - 1200) < 140);
}

TEST_CASE("a rate that warms up rises from nothing to what its schedule says, and stays that") {
  TrainingSpec spec;
  spec.epochs = 8;
  spec.optimizer.learning_rate = 0.5;
  TrainingSpec warm = spec;
  warm.schedule.warmup_epochs = 2;
  CHECK(learning_rate(warm, 0) == 0);
  CHECK(learning_rate(warm, 0.5) == Approx(0.125).epsilon(1e-12));
  CHECK(learning_rate(warm, 2) == 0.5);
  CHECK(learning_rate(warm, 7) == 0.5);
  spec.schedule.type = warm.schedule.type = ScheduleType::kCosine;
  CHECK(learning_rate(warm, 1) == Approx(learning_rate(spec, 1) / 2).epsilon(1e-12));
  CHECK(learning_rate(warm, 3) == learning_rate(spec, 3));
}

TEST_CASE("a constant rate is constant, a cosine falls to its end, a step falls at epochs") {
  TrainingSpec spec;
  spec.epochs = 8;
  spec.optimizer.learning_rate = 0.5;
  CHECK(learning_rate(spec, 0) == 0.5);
  CHECK(learning_rate(spec, 7.9) == 0.5);

  spec.schedule.type = ScheduleType::kCosine;
  CHECK(learning_rate(spec, 0) == 0.5);
  CHECK(learning_rate(spec, 2) == Approx(0.5 * (1 + std::sqrt(0.5)) / 2).epsilon(1e-12));
  CHECK(learning_rate(spec, 4) == Approx(0.25).epsilon(1e-12));
  CHECK(learning_rate(spec, 8) == Approx(0).margin(1e-12));
  CHECK(learning_rate(spec, 9) == Approx(0).margin(1e-12));
  spec.schedule.final_fraction = 0.2;
  CHECK(learning_rate(spec, 0) == Approx(0.5).epsilon(1e-12));
  CHECK(learning_rate(spec, 4) == Approx(0.5 * 0.6).epsilon(1e-12));
  CHECK(learning_rate(spec, 8) == Approx(0.1).epsilon(1e-12));

  spec.schedule = {.type = ScheduleType::kStep, .final_fraction = 0, .step_factor = 0.5, .step_epochs = 3};
  CHECK(learning_rate(spec, 0) == 0.5);
  CHECK(learning_rate(spec, 2.999) == 0.5);
  CHECK(learning_rate(spec, 3) == 0.25);
  CHECK(learning_rate(spec, 5.999) == 0.25);
  CHECK(learning_rate(spec, 6) == 0.125);
}
