// nanduti_sim: runs seeds of the deterministic simulator. scripts/sim.sh is its usual front.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include <unistd.h>

#include "test/sim/plan.h"
#include "test/sim/simulation.h"

using namespace nanduti;
using namespace nanduti::sim;

namespace {

constexpr const char* kUsage =
    "usage: nanduti_sim --from S --seeds N [--expect-failure]\n"
    "       nanduti_sim --seed N [--trace]\n"
    "Runs simulated jobs. --seed replays one and prints the hash of its trace, --trace also every event.\n"
    "--expect-failure turns the meaning round: it is a failure if all seeds keep all promises.\n";

volatile std::uint64_t running_seed = 0;  // for the handler

/// A failed check in the cores aborts: say which seed it was.
void on_abort(int) {
  char text[64];
  const int length =
      std::snprintf(text, sizeof text, "seed %llu aborts\n", static_cast<unsigned long long>(running_seed));
  if (write(STDOUT_FILENO, text, static_cast<std::size_t>(length)) < 0) _exit(4);
  _exit(3);
}

std::uint64_t number(const char* text) {
  char* end = nullptr;
  const std::uint64_t value = std::strtoull(text, &end, 10);
  if (*text == 0 || *end != 0) {
    std::fprintf(stderr, "nanduti_sim: '%s' is not a number\n", text);
    std::exit(64);
  }
  return value;
}

int replay(std::uint64_t seed, bool trace) {
  const Plan plan = make_plan(seed);
  std::printf("%s\n", describe(plan).c_str());
  std::fflush(stdout);
  running_seed = seed;
  const Outcome outcome = simulate(plan, trace);
  if (!outcome.failure.empty())
    std::printf("%sseed %llu FAILS: %s\n", trace ? "" : outcome.trace_tail.c_str(),
                static_cast<unsigned long long>(seed), outcome.failure.c_str());
  std::printf("seed %llu: trace %016llx, %llu events, %llu rounds, %.1f simulated seconds\n",
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(outcome.trace_hash),
              static_cast<unsigned long long>(outcome.events),
              static_cast<unsigned long long>(outcome.rounds),
              std::chrono::duration<double>(outcome.simulated).count());
  return outcome.failure.empty() ? 0 : 1;
}

int run(std::uint64_t from, std::uint64_t count, bool expect_failure) {
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  double reported = 0;
  Coverage coverage;
  Duration simulated{0};
  std::uint64_t events = 0, rounds = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t seed = from + i;
    running_seed = seed;
    const Outcome outcome = simulate(make_plan(seed));
    coverage.add(outcome.coverage);
    simulated += outcome.simulated;
    events += outcome.events;
    rounds += outcome.rounds;
    if (!outcome.failure.empty()) {
      if (expect_failure) {
        std::printf("caught by seed %llu, the %llu. tried: %s\n", static_cast<unsigned long long>(seed),
                    static_cast<unsigned long long>(i + 1), outcome.failure.c_str());
        return 0;
      }
      std::printf("%s%s\nseed %llu FAILS: %s\n", outcome.trace_tail.c_str(),
                  describe(make_plan(seed)).c_str(), static_cast<unsigned long long>(seed),
                  outcome.failure.c_str());
      return 1;
    }
    if (elapsed() - reported >= 5) {
      reported = elapsed();
      std::fprintf(stderr, "sim: %llu of %llu seeds, %.1f/s\n", static_cast<unsigned long long>(i + 1),
                   static_cast<unsigned long long>(count), static_cast<double>(i + 1) / reported);
    }
  }
  const auto u = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf("%s", coverage.table().c_str());
  for (const std::string& name : coverage.missing()) std::printf("NOT REACHED: %s\n", name.c_str());
  std::printf("%llu seeds from %llu kept every promise: %.2f simulated hours, %llu events, %llu rounds; %.1f seeds/s\n",
      u(count), u(from), std::chrono::duration<double>(simulated).count() / 3600, u(events), u(rounds),
      static_cast<double>(count) / elapsed());
  return expect_failure ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGABRT, on_abort);
  std::uint64_t from = 1, seeds = 0;
  std::optional<std::uint64_t> seed;
  bool trace = false, expect_failure = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const bool has_value = i + 1 < argc;
    if (argument == "--help" || argument == "-h") {
      std::fputs(kUsage, stdout);
      return 0;
    }
    if (argument == "--from" && has_value) {
      from = number(argv[++i]);
    } else if (argument == "--seeds" && has_value) {
      seeds = number(argv[++i]);
    } else if (argument == "--seed" && has_value) {
      seed = number(argv[++i]);
    } else if (argument == "--trace") {
      trace = true;
    } else if (argument == "--expect-failure") {
      expect_failure = true;
    } else {
      std::fprintf(stderr, "nanduti_sim: '%s' is not understood\n%s", argv[i], kUsage);
      return 64;
    }
  }
  if (seed) return replay(*seed, trace);
  if (seeds > 0) return run(from, seeds, expect_failure);
  std::fputs(kUsage, stderr);
  return 64;
}
