#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/config/config_text.h"
#include "test/sim/plan.h"

namespace nanduti::sim {

/// A plan as people read and write it, and what has to be seen when it is played. The format is described in
/// README.md beside this file.
struct Scenario {
  Plan plan;
  /// Each is part of a line of the story (Outcome::story), in this order.
  std::vector<std::string> expected;
};

/// Keys that are absent keep what Plan{} says. Errors: kInvalidArgument, with file, line, key, what was found
/// and what is allowed.
Result<Scenario> parse_scenario(const ConfigText& source);

/// Reads back as the same plan, to the nanosecond. Keys that are as in Plan{} are left out.
std::string to_text(const Plan& plan);

/// The first of `expected` that no line of `story` after the one before it contains; empty if all are there.
std::string first_missing(const std::vector<std::string>& expected, const std::vector<std::string>& story);

}  // namespace nanduti::sim
