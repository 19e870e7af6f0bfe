// Goal: promises P1, P2, P4, P5 and P6 (DESIGN section 3) hold whatever the network and the workers do.
// Method: seeded jobs of the real cores and hubs in virtual time (simulation.h), looked at from outside after
// every event (checker.h). A failure names its seed; `scripts/sim.sh --seed N --trace` shows it.
#include <cstdlib>
#include <cstring>

#include "common/tensor/parameter_space.h"
#include "test/sim/problem.h"
#include "test/sim/simulation.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace nanduti::sim;

namespace {

std::uint64_t seeds(std::uint64_t count) {
  const char* percent = std::getenv("NANDUTI_SEEDS_PERCENT");
  return percent == nullptr ? count
                            : std::max<std::uint64_t>(count * std::strtoull(percent, nullptr, 10) / 100, 3);
}

void require_kept(const Outcome& outcome) {
  INFO(outcome.trace_tail);
  REQUIRE(outcome.failure == "");
}

void run_seeds(std::uint64_t from, std::uint64_t count) {
  for (std::uint64_t seed = from; seed < from + seeds(count); ++seed) {
    INFO("scripts/sim.sh --seed " << seed);
    require_kept(simulate(make_plan(seed)));
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("every promise is kept on seeds 1 to 125") { run_seeds(1, 125); }
TEST_CASE("every promise is kept on seeds 126 to 250") { run_seeds(126, 125); }
TEST_CASE("every promise is kept on seeds 251 to 375") { run_seeds(251, 125); }
TEST_CASE("every promise is kept on seeds 376 to 500") { run_seeds(376, 125); }

TEST_CASE("seeds that found faults in the cores keep every promise") {
  // Each fails where the fix is taken out: 1 an assignment's verdicts, 7 the gate of fenced workers, 25
  // another order number, 29 cuts beyond four, 585 a flush before any version, 943 a record left by the job
  // before, 998 acks to a session that is gone, 4591 a drain in lockstep. The last three once failed for
  // other reasons.
  for (const std::uint64_t seed : {1, 7, 25, 29, 585, 943, 998, 4591, 1214, 2004479, 3027345, 488, 5159}) {
    INFO("scripts/sim.sh --seed " << seed);
    require_kept(simulate(make_plan(seed)));
  }
}

TEST_CASE("the same seed gives the same trace") {
  for (std::uint64_t seed = 1; seed <= seeds(20); ++seed) {
    const Outcome first = simulate(make_plan(seed)), second = simulate(make_plan(seed));
    INFO("seed " << seed);
    CHECK(first.trace_hash == second.trace_hash);
    CHECK(first.events == second.events);
    CHECK(same_bits(first.model, second.model));
  }
  CHECK(simulate(make_plan(1)).trace_hash != simulate(make_plan(2)).trace_hash);
}

TEST_CASE("a deterministic job ends with the same bytes over every network") {
  for (std::uint64_t seed = 1; seed <= seeds(20); ++seed) {
    std::vector<float> model;
    for (std::uint64_t network = 1; network <= 4; ++network) {
      INFO("seed " << seed << ", network " << network);
      const Outcome outcome = simulate(make_deterministic_plan(seed, network));
      require_kept(outcome);
      REQUIRE(outcome.warnings.empty());
      if (network == 1) model = outcome.model;
      REQUIRE(same_bits(outcome.model, model));
    }
  }
}

TEST_CASE("workers at bound 0 follow one process on the mean gradient of their batches, step by step") {
  for (std::uint64_t seed = 1; seed <= seeds(30); ++seed) {
    INFO("seed " << seed);
    Plan plan = make_deterministic_plan(seed, seed);
    plan.bound = 0;
    plan.sparse = false;
    const Outcome outcome = simulate(plan);
    require_kept(outcome);
    // One process: the batches of a step are the workers' next ones, each from its own section of the epoch.
    std::vector<float> x = initial_values(0, plan.parameters);
    const std::uint64_t n = plan.samples, ranks = plan.workers, size = plan.round_samples;
    const std::uint64_t steps = ((n + ranks - 1) / ranks + size - 1) / size;
    for (std::uint32_t epoch = 0; epoch < plan.epochs; ++epoch)
      for (std::uint64_t step = 0; step < steps; ++step) {
        std::vector<double> mean(x.size());
        for (std::uint64_t rank = 0; rank < ranks; ++rank) {
          const std::uint64_t section_end = n * (rank + 1) / ranks;
          const std::uint64_t begin = std::min(n * rank / ranks + step * size, section_end);
          const SampleRange batch{DataEpoch(epoch), begin, std::min(begin + size, section_end)};
          if (batch.size() == 0) continue;
          const std::vector<float> progress = progress_of(x, batch);
          for (std::size_t i = 0; i < x.size(); ++i) mean[i] += progress[i] / static_cast<double>(ranks);
        }
        for (std::size_t i = 0; i < x.size(); ++i) x[i] -= static_cast<float>(mean[i]);
      }
    REQUIRE(outcome.model.size() == x.size());
    // The grid of the progress makes a rounding grow to a step of 2^-10 here and there.
    for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(std::abs(outcome.model[i] - x[i]) < 0.004f);
  }
}
