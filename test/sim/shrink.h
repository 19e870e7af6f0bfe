#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "test/sim/plan.h"

namespace nanduti::sim {

/// Plays a plan; empty if every promise was kept, otherwise what was broken.
using Play = std::function<std::string(const Plan& plan)>;

/// What kind of failure a text describes: the text without its numbers.
std::string kind_of_failure(const std::string& failure);

/// The smallest plan found that fails in the way `plan` does, by taking away one thing after the other:
/// faults, workers, shards, samples. Plays at most `plays_max` plans. Precondition: `plan` fails.
/// `progress` hears of each step.
Plan shrink(const Plan& plan, const Play& play, std::uint32_t plays_max,
            const std::function<void(const std::string&)>& progress);

}  // namespace nanduti::sim
