#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "test/sim/coverage.h"
#include "test/sim/plan.h"

namespace nanduti::sim {

/// What became of one plan.
struct Outcome {
  std::string failure;     ///< empty: every promise was kept
  std::string trace_tail;  ///< the last events before a failure
  std::uint64_t trace_hash = 0;
  std::uint64_t events = 0;
  std::uint64_t rounds = 0;
  Duration simulated{0};
  Coverage coverage;
  std::vector<std::string>
      story;  ///< what people would tell, in order: "12.345 membership 3: w0 active from round 2"
  std::vector<float> model;           ///< at rest, shape [parameters]
  std::vector<std::string> warnings;  ///< of the job's view
};

/// Runs the real cores, each under a real session hub, through a plan: virtual time, one thread, the same
/// outcome for the same plan. `print_trace` writes every event to stdout.
Outcome simulate(const Plan& plan, bool print_trace = false);

}  // namespace nanduti::sim
