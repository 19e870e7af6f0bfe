// Goal: promises P1 to P7 (DESIGN section 3) hold whatever the network and the workers do.
// Method: seeded jobs of the real cores and hubs in virtual time (simulation.h), looked at from outside after
// every event (checker.h). A failure names its seed; `scripts/sim.sh --seed N --trace` shows it.
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "common/config/config_text.h"
#include "common/tensor/parameter_space.h"
#include "test/sim/problem.h"
#include "test/sim/scenario_file.h"
#include "test/sim/shrink.h"
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

TEST_CASE("every promise is kept on seeds 1 to 250") { run_seeds(1, 250); }
TEST_CASE("every promise is kept on seeds 251 to 500") { run_seeds(251, 250); }
TEST_CASE("every promise is kept on seeds 501 to 750") { run_seeds(501, 250); }
TEST_CASE("every promise is kept on seeds 751 to 1000") { run_seeds(751, 250); }
TEST_CASE("every promise is kept on seeds 1001 to 1250") { run_seeds(1001, 250); }
TEST_CASE("every promise is kept on seeds 1251 to 1500") { run_seeds(1251, 250); }
TEST_CASE("every promise is kept on seeds 1501 to 1750") { run_seeds(1501, 250); }
TEST_CASE("every promise is kept on seeds 1751 to 2000") { run_seeds(1751, 250); }

TEST_CASE("four hundred seeds reach every fault and state that is worth reaching") {
  Coverage coverage;
  for (std::uint64_t seed = 3001; seed <= 3400; ++seed) {
    const Outcome outcome = simulate(make_plan(seed));
    INFO("scripts/sim.sh --seed " << seed);
    require_kept(outcome);
    coverage.add(outcome.coverage);
    if (coverage.missing().empty()) return;
  }
  CHECK(coverage.missing() == std::vector<std::string>());
}

TEST_CASE("scenarios keep every promise and go as they say") {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(NANDUTI_SCENARIOS)) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    INFO("scripts/sim.sh --story --scenario " << entry.path().string());
    const auto text = read_config_file(entry.path());
    REQUIRE(text.ok());
    const auto scenario = parse_scenario(*text);
    if (!scenario.ok()) FAIL(scenario.error().message);
    const Outcome outcome = simulate(scenario->plan);
    require_kept(outcome);
    CHECK(first_missing(scenario->expected, outcome.story) == "");
  }
  CHECK(count >= 7);
}

TEST_CASE("a plan that is written down is played as the seed's own") {
  for (std::uint64_t seed = 1; seed <= seeds(40); ++seed) {
    const Plan plan = make_plan(seed);
    const auto scenario = parse_scenario({"plan", to_text(plan)});
    INFO(to_text(plan));
    if (!scenario.ok()) FAIL(scenario.error().message);
    CHECK(to_text(scenario->plan) == to_text(plan));
    CHECK(simulate(scenario->plan).trace_hash == simulate(plan).trace_hash);
  }
}

TEST_CASE("what is wrong in a scenario file is named by its line") {
  const auto error_of = [](const std::string& text) {
    const auto scenario = parse_scenario({"file.yaml", text});
    return scenario.ok() ? std::string() : scenario.error().message;
  };
  const std::string good = "workers: [{delay: 1 ms}]\n";
  CHECK(error_of(good) == "");
  CHECK(error_of("job: {shards: 1}\n") == "file.yaml: workers: at least one is needed");
  CHECK(error_of(good + "job: {shards: none}\n").starts_with("file.yaml:2: job.shards: found"));
  CHECK(error_of(good + "job: {shard: 2}\n").starts_with("file.yaml:2: job.shard: found"));
  CHECK(error_of(good + "pauses: [{from: 1 s, to: 2 s, of: worker 1}]\n") ==
        "file.yaml: pauses: there is no worker 1");
  CHECK(error_of(good + "pauses: [{from: 1 s, to: 2 s, of: nobody}]\n")
            .starts_with("file.yaml:2: pauses[0].of"));
  CHECK(error_of(good + "events: [{at: 1 s, what: start, worker: 3}]\n") ==
        "file.yaml: events: there is no worker 3");
  CHECK(error_of(good + "events: [{at: 1 s, what: begin}]\n").starts_with("file.yaml:2: events[0].what"));
}

TEST_CASE("a story must have the expected lines in order") {
  const std::vector<std::string> story = {"1.0 w0 starts", "2.0 w1 starts", "3.0 w0 crashes"};
  CHECK(first_missing({"w0 starts", "w0 crashes"}, story) == "");
  CHECK(first_missing({"w0 crashes", "w0 starts"}, story) == "w0 starts");
  CHECK(first_missing({"w0 starts", "w0 starts"}, story) == "w0 starts");
}

TEST_CASE("a failing plan is shrunk to what its failure needs") {
  // What fails here is any job with a partition of worker 1 and at least 2 shards.
  const auto play_it = [](const Plan& plan) {
    bool cut = false;
    for (const Partition& partition : plan.partitions)
      cut |= partition.target.kind == Target::Kind::kWorker && partition.target.index == 1;
    return cut && plan.shards >= 2 ? fmt::format("it fails with {} workers", plan.workers) : std::string();
  };
  std::size_t shrunk = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const Plan plan = make_plan(seed);
    if (play_it(plan).empty()) continue;
    ++shrunk;
    const Plan smallest = shrink(plan, play_it, 3000, [](const std::string&) {});
    INFO(to_text(smallest));
    CHECK(!play_it(smallest).empty());
    CHECK(smallest.workers == 2);
    CHECK(smallest.shards == 2);
    CHECK(smallest.partitions.size() == 1);
    CHECK(smallest.pauses.empty());
    CHECK(smallest.happenings.empty());
    CHECK(smallest.samples == 1);
    CHECK(smallest.hangs == 0);
  }
  CHECK(shrunk > 5);
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
    plan.codec = PlanCodec::kDense;
    plan.server_optimizer = ServerOptimizerType::kAdd;
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
