// Goal: the simulation of delayed training finds the limits that theory gives. Method: the closed form of
// plain delayed SGD, the product of the roots for differences between workers, and the figures of DESIGN
// section 2 for momentum.
#include "test/bench/quadratic/delayed_quadratic.h"

#include <cmath>
#include <numbers>

#include "test/support/catch.h"

using namespace nanduti::bench;

TEST_CASE("plain delayed SGD is stable up to 2 sin(pi / (2 (2 tau + 1)))") {
  for (const std::size_t delay : {0, 1, 2, 4, 8, 16}) {
    INFO("tau " << delay);
    const double cap = 2 * std::sin(std::numbers::pi / (2.0 * (2.0 * static_cast<double>(delay) + 1)));
    CHECK(largest_stable_rate({}, delay) == Approx(cap).epsilon(0.01));
  }
}

TEST_CASE("with own work visible at full weight the limit is 1 at any delay, and 2 without one") {
  CHECK(largest_stable_rate({.sees_own_work = true}, 0) == Approx(2).epsilon(0.01));
  for (const std::size_t delay : {1, 2, 4, 8, 16}) {
    INFO("tau " << delay);
    CHECK(largest_stable_rate({.sees_own_work = true}, delay) == Approx(1).epsilon(0.01));
  }
}

TEST_CASE("momentum raises the limit without delay and lowers it under delay") {
  const QuadraticArm arm{.sees_own_work = true, .momentum = 0.9};
  CHECK(largest_stable_rate(arm, 0) == Approx(3.8).epsilon(0.01));
  CHECK(largest_stable_rate(arm, 4) == Approx(0.32).epsilon(0.02));
  CHECK(largest_stable_rate(arm, 8) == Approx(0.099).epsilon(0.02));
  CHECK(largest_stable_rate(arm, 16) == Approx(0.034).epsilon(0.02));
}
