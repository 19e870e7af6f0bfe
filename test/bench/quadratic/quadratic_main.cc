// quadratic_experiment: the largest stable learning rate * curvature under delay, by simulation, as JSON.
// scripts/experiment.sh quadratic makes a table and a plot of it.
#include <array>
#include <cstdio>

#include "test/bench/quadratic/delayed_quadratic.h"

using namespace nanduti::bench;

int main() {
  struct Named {
    const char* name;
    QuadraticArm arm;
  };
  constexpr std::array kArms = {Named{"plain", {}}, Named{"own-work", {.sees_own_work = true}},
                                Named{"own-work-momentum", {.sees_own_work = true, .momentum = 0.9}}};
  constexpr std::array<std::size_t, 6> kDelays = {0, 1, 2, 4, 8, 16};
  const char* separator = "[";
  for (const Named& named : kArms) {
    for (const std::size_t delay : kDelays) {
      std::printf("%s{\"arm\": \"%s\", \"delay\": %zu, \"cap\": %.4f}", separator, named.name, delay,
                  largest_stable_rate(named.arm, delay));
      separator = ",\n ";
    }
  }
  return std::puts("]") < 0 ? 1 : 0;
}
