// nanduti_sim: plays seeds and scenario files of the deterministic simulator. scripts/sim.sh is its usual
// front.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/sim/plan.h"
#include "test/sim/scenario_file.h"
#include "test/sim/shrink.h"
#include "test/sim/simulation.h"

using namespace nanduti;
using namespace nanduti::sim;

namespace {

constexpr const char* kUsage =
    "usage: nanduti_sim --from S --seeds N [--keep-going] [--coverage] [--expect-failure]\n"
    "       nanduti_sim --seed N [--trace | --story | --plan | --shrink]\n"
    "       nanduti_sim --scenario FILE [--trace | --story | --shrink]\n"
    "Plays simulated jobs. --seed and --scenario play one and print the hash of its trace; --story also "
    "what\n"
    "people would tell of it, --trace every event; --plan only prints the plan as a scenario, --shrink the\n"
    "smallest scenario found that fails in the same way. --keep-going does not stop at the first seed that\n"
    "fails. --coverage prints how often each fault struck and each state was reached.\n"
    "--expect-failure turns the meaning round: it is a failure if all seeds keep all promises.\n";

/// Plans that are played to shrink one.
constexpr std::uint32_t kPlaysMax = 1500;

struct Arguments {
  std::uint64_t from = 1;
  std::uint64_t seeds = 0;
  std::optional<std::uint64_t> seed;
  std::string scenario;
  bool trace = false, story = false, plan = false, shrink = false;
  bool keep_going = false, coverage = false, expect_failure = false;
};

volatile std::uint64_t running_seed = 0;  // for the handler
volatile std::sig_atomic_t abort_is_catch = 0;

/// A failed check in the cores aborts: say which seed it was.
void on_abort(int) {
  char text[96];
  const int length = std::snprintf(text, sizeof text,
                                   abort_is_catch ? "caught by seed %llu: it aborts\n" : "seed %llu aborts\n",
                                   static_cast<unsigned long long>(running_seed));
  if (write(STDOUT_FILENO, text, static_cast<std::size_t>(length)) < 0) _exit(4);
  _exit(abort_is_catch ? 0 : 3);
}

template <class... Args>
void print(fmt::format_string<Args...> format, Args&&... args) {
  std::fputs(fmt::format(format, std::forward<Args>(args)...).c_str(), stdout);
  std::fflush(stdout);
}

/// Plays a plan in a process of its own, which may abort.
std::string play_apart(const Plan& plan) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(4);
    const std::string failure = simulate(plan).failure;
    if (write(ends[1], failure.data(), failure.size()) < 0) _exit(4);
    _exit(0);
  }
  close(ends[1]);
  std::string failure;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
    failure.append(buffer, static_cast<std::size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? "it aborts" : failure;
}

int shrink_and_print(const Plan& plan) {
  const std::string failure = play_apart(plan);
  if (failure.empty()) {
    print("it keeps every promise: there is nothing to shrink\n");
    return 0;
  }
  const Plan smallest = shrink(plan, play_apart, kPlaysMax, [](const std::string& step) {
    std::fprintf(stderr, "sim: %s\n", step.c_str());
  });
  print("# {}\n{}", play_apart(smallest), to_text(smallest));
  return 1;
}

int play(const Plan& plan, const std::vector<std::string>& expected, const std::string& name,
         const Arguments& arguments) {
  if (arguments.plan) {
    print("{}", to_text(plan));
    return 0;
  }
  if (arguments.shrink) return shrink_and_print(plan);
  print("{}\n", describe(plan));
  running_seed = plan.seed;
  const Outcome outcome = simulate(plan, arguments.trace);
  if (arguments.story)
    for (const std::string& line : outcome.story) print("{}\n", line);
  bool good = outcome.failure.empty();
  if (!good) print("{}{} FAILS: {}\n", arguments.trace ? "" : outcome.trace_tail, name, outcome.failure);
  if (const std::string missing = first_missing(expected, outcome.story); good && !missing.empty()) {
    good = false;
    print("{} FAILS: its story lacks '{}'\n", name, missing);
  }
  if (arguments.coverage) print("{}", outcome.coverage.table());
  print("{}: trace {:016x}, {} events, {} rounds, {:.1f} simulated seconds\n", name, outcome.trace_hash,
        outcome.events, outcome.rounds, std::chrono::duration<double>(outcome.simulated).count());
  return good ? 0 : 1;
}

int play_scenario(const Arguments& arguments) {
  const auto text = read_config_file(arguments.scenario);
  const auto scenario = text.ok() ? parse_scenario(*text) : Result<Scenario>(text.error());
  if (!scenario.ok()) {
    std::fprintf(stderr, "nanduti_sim: %s\n", scenario.error().message.c_str());
    return 64;
  }
  return play(scenario->plan, scenario->expected, arguments.scenario, arguments);
}

int run(const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  abort_is_catch = arguments.expect_failure ? 1 : 0;
  double reported = 0;
  Coverage coverage;
  Duration simulated{0};
  std::uint64_t events = 0, rounds = 0, failures = 0;
  for (std::uint64_t i = 0; i < arguments.seeds; ++i) {
    const std::uint64_t seed = arguments.from + i;
    running_seed = seed;
    const Outcome outcome = simulate(make_plan(seed));
    coverage.add(outcome.coverage);
    simulated += outcome.simulated;
    events += outcome.events;
    rounds += outcome.rounds;
    if (!outcome.failure.empty()) {
      if (arguments.expect_failure) {
        print("caught by seed {}, the {}. tried: {}\n", seed, i + 1, outcome.failure);
        return 0;
      }
      ++failures;
      if (!arguments.keep_going) print("{}{}\n", outcome.trace_tail, describe(make_plan(seed)));
      print("seed {} FAILS: {}\n", seed, outcome.failure);
      if (!arguments.keep_going) return 1;
    }
    if (elapsed() - reported >= 5) {
      reported = elapsed();
      std::fprintf(stderr, "sim: %llu of %llu seeds, %.1f/s\n", static_cast<unsigned long long>(i + 1),
                   static_cast<unsigned long long>(arguments.seeds), static_cast<double>(i + 1) / reported);
    }
  }
  if (arguments.coverage) {
    print("{}", coverage.table());
    for (const std::string& name : coverage.missing()) print("not reached: {}\n", name);
  }
  if (failures > 0)
    print("{} of {} seeds from {} FAIL\n", failures, arguments.seeds, arguments.from);
  else
    print(
        "{} seeds from {} kept every promise: {:.2f} simulated hours, {} faults of {} kinds, {} events, {} "
        "rounds; {:.1f} seeds/s\n",
        arguments.seeds, arguments.from, std::chrono::duration<double>(simulated).count() / 3600,
        coverage.faults().second, coverage.faults().first, events, rounds,
        static_cast<double>(arguments.seeds) / elapsed());
  return arguments.expect_failure || failures > 0 ? 1 : 0;
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

Arguments read_arguments(int argc, char** argv) {
  Arguments arguments;
  const std::pair<std::string_view, bool Arguments::*> switches[] = {
      {"--trace", &Arguments::trace},
      {"--story", &Arguments::story},
      {"--plan", &Arguments::plan},
      {"--shrink", &Arguments::shrink},
      {"--keep-going", &Arguments::keep_going},
      {"--coverage", &Arguments::coverage},
      {"--expect-failure", &Arguments::expect_failure}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const bool has_value = i + 1 < argc;
    bool known = false;
    for (const auto& [name, member] : switches)
      if (argument == name) known = arguments.*member = true;
    if (known) continue;
    if (argument == "--help" || argument == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (argument == "--from" && has_value) {
      arguments.from = number(argv[++i]);
    } else if (argument == "--seeds" && has_value) {
      arguments.seeds = number(argv[++i]);
    } else if (argument == "--seed" && has_value) {
      arguments.seed = number(argv[++i]);
    } else if (argument == "--scenario" && has_value) {
      arguments.scenario = argv[++i];
    } else {
      std::fprintf(stderr, "nanduti_sim: '%s' is not understood\n%s", argv[i], kUsage);
      std::exit(64);
    }
  }
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGABRT, on_abort);
  const Arguments arguments = read_arguments(argc, argv);
  if (!arguments.scenario.empty()) return play_scenario(arguments);
  if (arguments.seed)
    return play(make_plan(*arguments.seed), {}, fmt::format("seed {}", *arguments.seed), arguments);
  if (arguments.seeds > 0) return run(arguments);
  std::fputs(kUsage, stderr);
  return 64;
}
