#pragma once

#include <cstddef>

namespace nanduti::bench {

/// How the workers of DESIGN section 2 train on curvature / 2 * x^2, x a scalar.
struct QuadraticArm {
  /// Whether a worker's replica holds its own pushes, at full weight, before the version it has merged does.
  bool sees_own_work = false;
  double momentum = 0;
};

/// The largest learning rate * curvature at which training settles at 0 when every version is `delay` rounds
/// old on arrival, to 1 in 10,000. Found by bisection between simulated runs of two workers whose first
/// rounds differ: workers that stay alike would hide what becomes of their differences.
double largest_stable_rate(const QuadraticArm& arm, std::size_t delay);

}  // namespace nanduti::bench
