#include "test/bench/quadratic/delayed_quadratic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace nanduti::bench {
namespace {

constexpr std::size_t kWorkers = 2;
constexpr std::size_t kRounds = 20000;
constexpr double kDiverged = 1e100, kSettled = 1e-100;

struct Worker {
  double velocity = 0;
  std::vector<double> pushes = {};  // one per round
};

/// Whether the replicas' largest distance from 0 does not grow from a run's second quarter to its last.
bool is_stable(const QuadraticArm& arm, std::size_t delay, double rate) {
  std::vector<double> versions = {1};  // w before each round
  std::array<Worker, kWorkers> workers;
  double early = 0, late = 0;
  for (std::size_t round = 0; round < kRounds; ++round) {
    const std::size_t merged = round - std::min(round, delay);
    double progress = 0, largest = 0;
    for (std::size_t i = 0; i < kWorkers; ++i) {
      Worker& worker = workers[i];
      double x = versions[merged];
      for (std::size_t own = merged; arm.sees_own_work && own < round; ++own) x -= worker.pushes[own];
      largest = std::max(largest, std::abs(x));
      const double gradient = round == 0 ? x + static_cast<double>(i) : x;
      worker.velocity = arm.momentum * worker.velocity + gradient;
      worker.pushes.push_back(rate * worker.velocity);
      progress += worker.pushes.back();
    }
    versions.push_back(versions.back() - progress / kWorkers);
    if (largest > kDiverged) return false;
    if (round >= kRounds / 4 && round < kRounds / 2) early = std::max(early, largest);
    if (round >= kRounds / 4 * 3) late = std::max(late, largest);
  }
  return late < kSettled || late <= early;
}

}  // namespace

double largest_stable_rate(const QuadraticArm& arm, std::size_t delay) {
  // Without delay the limit is 2 (1 + momentum); delay does not raise it.
  double stable = 0, unstable = 2.1 * (1 + arm.momentum);
  while (unstable - stable > 1e-4 * unstable) {
    const double middle = (stable + unstable) / 2;
    (is_stable(arm, delay, middle) ? stable : unstable) = middle;
  }
  return stable;
}

}  // namespace nanduti::bench
