// Goal: the bound and the steps that auto chooses hide what is measured, stay within their maxima, follow a
// link that changes and leave alone what only flickers. Method: statuses of workers over made-up links,
// second by second; the expected values from the rule in auto_tuner.h by hand.
#include "server/coordinator/auto_tuner.h"

#include <functional>
#include <vector>

#include "common/base/random.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

using std::chrono::seconds;

/// What one worker's link and rounds are like at a time.
struct Conditions {
  double round_trip = 0.18, deviation = 0.0;
  double step = 0.016;          // of a minibatch
  double beside = 0.0;          // that a round stalls for but others' rounds
  double codec = 0.0;           // CPU of a round
  double round_bytes = 10'000;  // up
  double rate = 0;              // as the worker knows it
  double gate = 0;              // part of the time that it waits at the gate
  double turnaround_p99 = 0;
  bool heard = true;
};

/// Workers that live by `conditions` under a tuner that is asked every second.
struct TunerBench {
  explicit TunerBench(StalenessPlan begin, std::size_t workers = 2) : plan(begin), statuses(workers) {
    for (std::size_t w = 0; w < workers; ++w) active.emplace_back(w + 1);
  }
  void live(int how_long, const std::function<Conditions(int second, std::size_t worker)>& conditions) {
    for (int second = 0; second < how_long; ++second) {
      now += seconds(1);
      // Where the slowest will be; nobody is further ahead of it than the bound lets it.
      std::uint64_t slowest = ~std::uint64_t{0};
      const auto rounds_of = [&](const Conditions& is) {
        return static_cast<std::uint64_t>((1 - is.gate) / (plan.local_steps * is.step + is.beside));
      };
      for (std::size_t w = 0; w < statuses.size(); ++w)
        slowest = std::min(slowest, statuses[w].clock.value() + rounds_of(conditions(second, w)));
      for (std::size_t w = 0; w < statuses.size(); ++w) {
        const Conditions is = conditions(second, w);
        WorkerStatus& status = statuses[w];
        const std::uint64_t end = std::max(slowest + plan.bound.value() + 1, status.clock.value());
        const std::uint64_t rounds = std::min(rounds_of(is), end - status.clock.value());
        status.stall.gate += static_cast<double>(rounds_of(is) - rounds) * (plan.local_steps * is.step);
        const auto count = static_cast<double>(rounds);
        status.clock = Round(status.clock.value() + rounds);
        status.samples += rounds * plan.local_steps * kBatch;
        status.compute_seconds += count * plan.local_steps * is.step;
        status.stall.merge += count * is.beside;
        status.stall.gate += is.gate;
        status.codec_cpu_seconds += count * is.codec;
        status.bytes_up += static_cast<std::uint64_t>(count * is.round_bytes);
        status.round_trip_seconds = is.round_trip;
        status.round_trip_deviation_seconds = is.deviation;
        status.path_bytes_per_second = is.rate;
        status.turnaround_p99_seconds = is.turnaround_p99;
        if (is.heard) tuner.on_status(now, active[w], status);
      }
      if (auto warning = tuner.warning(now, plan, active)) warnings.push_back(*warning);
      const auto choice = tuner.choose(now, plan, active);
      if (!choice) continue;
      plan.bound = choice->bound;
      plan.local_steps = choice->local_steps;
      tuner.on_changed();
      choices.push_back(*choice);
      CHECK(plan.bound.value() <= plan.bound_max);
      CHECK(plan.bound.value() >= 1);
      CHECK(plan.local_steps <= plan.local_steps_max);
      CHECK(plan.local_steps >= 1);
    }
  }
  void live(int how_long, const Conditions& conditions) {
    live(how_long, [&](int, std::size_t) { return conditions; });
  }

  static constexpr std::uint32_t kBatch = 64;
  ProtocolTime now{std::chrono::hours(1)};
  StalenessPlan plan;
  std::vector<WorkerStatus> statuses;
  std::vector<IncarnationOrder> active;
  AutoTuner tuner{kBatch};
  std::vector<AutoTuner::Choice> choices;
  std::vector<std::string> warnings;
};

StalenessPlan both_auto(std::uint32_t bound_max = 64, std::uint32_t local_steps_max = 8) {
  return {bound_max, true, bound_max, 1, true, local_steps_max};
}
StalenessPlan bound_auto(std::uint32_t local_steps, std::uint32_t bound_max = 64) {
  return {bound_max, true, bound_max, local_steps, false, 8};
}

TEST_CASE("the bound is twice the rounds that the delay lasts") {
  TunerBench bench(bound_auto(2));
  bench.live(29, Conditions());
  CHECK(bench.plan.bound == 64u);  // what is rare may not have been seen
  bench.live(10, Conditions());
  REQUIRE(bench.choices.size() == 1);
  CHECK(bench.plan.bound == 12u);  // 180 ms in rounds of 32 ms: 6
  CHECK(bench.plan.local_steps == 2);
  CHECK(bench.choices[0].why.find("180 ms to hide (round trip 180") == 0);
}

TEST_CASE("a machine that has just been started measures as any other") {
  TunerBench bench(bound_auto(2));
  bench.now = ProtocolTime();
  bench.live(40, Conditions());
  CHECK(bench.plan.bound == 12u);
}

TEST_CASE("jitter, coding and bytes are part of the delay; a rate is, once it has been used up") {
  Conditions conditions;
  conditions.round_trip = 0.1;
  conditions.deviation = 0.01;  // 40 ms
  conditions.codec = 0.01;      // 20 ms
  TunerBench bench(bound_auto(2));
  bench.live(40, conditions);
  CHECK(bench.plan.bound == 10u);  // 160 ms
  conditions.rate = 100'000;       // 100 ms for 10 kB
  bench.live(10, conditions);
  CHECK(bench.plan.bound == 18u);
}

TEST_CASE("the worker with the longest way in its rounds decides") {
  TunerBench bench(bound_auto(2));
  bench.live(40, [](int, std::size_t worker) {
    Conditions conditions;
    conditions.round_trip = worker == 0 ? 0.18 : 0.03;
    conditions.step = worker == 0 ? 0.032 : 0.002;
    return conditions;
  });
  CHECK(bench.plan.bound == 16u);  // 30 ms in rounds of 4 ms: 8
}

TEST_CASE("how far workers have been apart without waiting keeps the bound from falling below that") {
  TunerBench bench(bound_auto(2));
  // One falls behind, as if it evaluated, then the other does.
  bench.live(60, [](int second, std::size_t worker) {
    Conditions conditions;
    conditions.step = 0.1;  // 5 rounds a second
    if (worker == 1 && second >= 20 && second < 24) conditions.step = 0.5;
    if (worker == 0 && second >= 30 && second < 34) conditions.step = 0.5;
    return conditions;
  });
  // 16 rounds apart, of which one is not sure, and one for the delay.
  CHECK(bench.plan.bound.value() >= 16u);
  CHECK(bench.plan.bound.value() <= 20u);
  // Six minutes later nobody knows of it any more.
  Conditions conditions;
  conditions.step = 0.1;
  bench.live(400, conditions);
  CHECK(bench.plan.bound == AutoTuner::kBoundFloor);
}

TEST_CASE("workers that are apart for good, and wait for that, do not keep the bound") {
  TunerBench bench(bound_auto(2));
  bench.live(90, [](int, std::size_t worker) {
    Conditions conditions;
    conditions.step = worker == 0 ? 0.1 : 0.05;
    return conditions;
  });
  CHECK(bench.plan.bound == 4u);  // 180 ms in rounds of 100 ms
}

TEST_CASE(
    "steps grow where the link, a round's cost or the largest bound wants it, and not beyond their maximum") {
  Conditions conditions;
  SECTION("the link") {
    conditions.rate = 250'000;  // 40 ms for 10 kB: 3.6 steps of 16 ms for 0.7 of it
    TunerBench bench(both_auto());
    bench.live(4, conditions);
    CHECK(bench.plan.local_steps == 4);  // at once
    bench.live(40, conditions);
    CHECK(bench.plan.local_steps == 4);
    CHECK(bench.plan.bound == 8u);  // 220 ms in 64
    CHECK(bench.choices.back().why.find("a round's 10 kB take 40 ms") != std::string::npos);
  }
  SECTION("its cost") {
    conditions.beside = 0.0008;  // a hundredth of five steps
    TunerBench bench(both_auto());
    bench.live(10, conditions);
    CHECK(bench.plan.local_steps == 5);
  }
  SECTION("the largest bound") {
    TunerBench bench(both_auto(4));
    bench.live(10, conditions);
    CHECK(bench.plan.local_steps == 6);  // 2 * 180 / (4 * 16) = 5.6
    CHECK(bench.plan.bound == 4u);
  }
  SECTION("all of it") {
    conditions.rate = 1'000;
    conditions.beside = 0.1;
    TunerBench bench(both_auto(4, 8));
    bench.live(60, conditions);
    CHECK(bench.plan.local_steps == 8);
    CHECK(bench.plan.bound == 4u);
  }
}

/// Everybody waits for a tenth of the time where the bound does not cover the way.
Conditions waits_where_short(double round_trip, std::uint32_t bound) {
  Conditions conditions;
  conditions.round_trip = conditions.turnaround_p99 = round_trip;
  conditions.gate = bound * 2 * conditions.step < round_trip ? 0.1 : 0;
  return conditions;
}

TEST_CASE(
    "a way that becomes longer is followed where all wait for that, one that becomes shorter once it has") {
  TunerBench bench(bound_auto(2));
  const auto live = [&](int how_long, double round_trip) {
    bench.live(how_long, [&](int, std::size_t) { return waits_where_short(round_trip, *bench.plan.bound); });
  };
  live(40, 0.05);
  CHECK(bench.plan.bound == 4u);
  live(40, 0.1);  // covered: it may be a queue
  CHECK(bench.plan.bound == 4u);
  live(30, 0.3);
  CHECK(*bench.plan.bound * 0.032 >= 0.3);
  CHECK(bench.plan.bound.value() <= 14u);
  live(300, 0.3);  // and this is the unloaded one by now
  CHECK(bench.plan.bound == 20u);
  live(25, 0.05);
  CHECK(bench.plan.bound == 20u);
  live(15, 0.05);
  CHECK(bench.plan.bound == 4u);
}

TEST_CASE("a way that creeps longer by half is followed by a few changes, one that flickers by one or two") {
  TunerBench bench(bound_auto(2));
  bench.live(300, [&](int second, std::size_t) {
    return waits_where_short(0.1 + 0.3 * std::min(second, 200) / 200, *bench.plan.bound);
  });
  CHECK(*bench.plan.bound * 0.032 >= 0.4);
  CHECK(bench.choices.size() <= 5);
  const std::size_t before = bench.choices.size();
  RandomStream random(1);
  bench.live(
      600, [&](int, std::size_t) { return waits_where_short(random.uniform(0.19, 0.3), *bench.plan.bound); });
  CHECK(bench.choices.size() <= before + 2);
}

TEST_CASE("what rounds have been seen to take counts, and half as much again, where no queue can be why") {
  TunerBench bench(bound_auto(2));
  Conditions conditions;
  conditions.turnaround_p99 = 0.45;
  bench.live(40, conditions);
  CHECK(bench.plan.bound == 23u);  // 675 ms in rounds of 32 ms: 22, and the one that is computed
  REQUIRE(!bench.choices.empty());
  CHECK(bench.choices.back().why.find("; some rounds took 450 ms") != std::string::npos);
  conditions.turnaround_p99 = 0.35;
  bench.live(60, conditions);
  CHECK(bench.plan.bound == 23u);  // 18 is not much less
  conditions.turnaround_p99 = 0.2;
  bench.live(60, conditions);
  CHECK(bench.plan.bound == 12u);  // what the round trip wants
  conditions.turnaround_p99 = 0.45;
  bench.live(4, conditions);
  CHECK(bench.plan.bound == 23u);
}

TEST_CASE("a link of which rounds need a third has no queue of theirs") {
  TunerBench bench(bound_auto(2));
  Conditions conditions;
  conditions.rate = 1'000'000;  // 10 ms of 32 for 10 kB
  conditions.turnaround_p99 = 0.45;
  bench.live(40, conditions);
  CHECK(bench.plan.bound == 23u);
}

TEST_CASE("where rounds need much of the link, what they have taken only keeps the bound from falling") {
  TunerBench bench(bound_auto(2, 32));
  Conditions conditions;
  conditions.rate = 800'000;  // 12.5 ms of 32 for 10 kB
  conditions.turnaround_p99 = 0.45;
  bench.live(60, conditions);
  CHECK(bench.plan.bound == 15u);  // 450 ms in rounds of 32 ms
  conditions.turnaround_p99 = 0.05;
  conditions.round_trip = 0.05;
  bench.live(60, conditions);
  CHECK(bench.plan.bound == 4u);
  conditions.turnaround_p99 = 5;
  bench.live(60, conditions);
  CHECK(bench.plan.bound == 4u);
}

TEST_CASE(
    "an outage changes nothing: whoever is not heard of measures nothing, and its time does not count") {
  TunerBench bench(bound_auto(2));
  const auto heard = [](bool is) {
    Conditions conditions;
    conditions.heard = is;
    return conditions;
  };
  bench.live(20, heard(true));
  bench.live(60, heard(false));
  CHECK(bench.choices.empty());
  bench.live(20, heard(true));
  CHECK(bench.choices.empty());  // 20 and 20 seconds are not 30
  bench.live(20, heard(true));
  CHECK(bench.choices.size() == 1);
  CHECK(bench.plan.bound == 12u);
}

TEST_CASE("a queue that the bound has made itself does not raise it") {
  // Several workers share a link that none of them fills alone: nobody knows its rate, and what all have in
  // flight queues there.
  TunerBench bench(bound_auto(2, 32));
  bench.live(40, Conditions());
  REQUIRE(bench.plan.bound == 12u);
  bench.live(200, [&](int, std::size_t) {
    Conditions conditions;
    const double queue = 0.02 * *bench.plan.bound;
    conditions.round_trip = 0.18 + queue;
    conditions.turnaround_p99 = 0.2 + 2 * queue;
    return conditions;
  });
  CHECK(bench.plan.bound.value() < 32u);
  CHECK(bench.choices.size() <= 3);
}

TEST_CASE(
    "where everybody waits for others' rounds, the delay is longer than it looks; where one does, that one "
    "is fast") {
  TunerBench all_wait(bound_auto(2));
  Conditions conditions;
  conditions.gate = 0.2;
  all_wait.live(10, conditions);
  CHECK(all_wait.plan.bound == 64u);  // it began there, and is not lowered
  TunerBench one_waits(bound_auto(2));
  one_waits.live(40, [](int, std::size_t worker) {
    Conditions is;
    is.gate = worker == 0 ? 0.5 : 0;
    is.step = worker == 0 ? 0.008 : 0.016;
    return is;
  });
  CHECK(one_waits.plan.bound == 24u);  // 180 ms in rounds of 16 ms: 12
  all_wait.plan.bound = 12;
  all_wait.live(4, conditions);
  CHECK(all_wait.plan.bound == 18u);
}

TEST_CASE("what is not auto stays; without figures of everybody nothing is chosen") {
  TunerBench fixed({8u, false, 16, 2, false, 8});
  fixed.live(30, Conditions());
  CHECK(fixed.choices.empty());
  TunerBench steps({8u, false, 16, 1, true, 8});
  Conditions conditions;
  conditions.round_trip = 0.5;
  steps.live(30, conditions);
  CHECK(steps.plan.bound == 8u);
  CHECK(steps.plan.local_steps == 8);
  TunerBench one_is_new(both_auto());
  one_is_new.live(30, [](int, std::size_t worker) {
    Conditions is;
    is.heard = worker == 0;
    return is;
  });
  CHECK(one_is_new.choices.empty());
}

TEST_CASE("a bound that cannot hide the delay is warned of once, and the warning names one that would") {
  TunerBench bench({2u, false, 16, 2, false, 8});
  bench.live(30, Conditions());
  REQUIRE(bench.warnings.size() == 1);
  CHECK(bench.warnings[0].find(
            "staleness.bound 2 cannot hide the delay: workers will compute for about 45 % of "
            "the time. A bound of 12 would hide it") == 0);
  bench.plan.bound = 12;
  bench.live(30, Conditions());
  CHECK(bench.warnings.size() == 1);
  TunerBench near({0u, false, 16, 2, false, 8});
  Conditions lan;
  lan.round_trip = 0.001;
  near.live(30, lan);
  CHECK(near.warnings.empty());
  TunerBench alone({0u, false, 16, 2, false, 8}, 1);
  alone.live(30, Conditions());
  CHECK(alone.warnings.empty());
}

TEST_CASE("rounds of minutes are measured too, and a flood of statuses is no harm") {
  TunerBench bench(both_auto(16, 8));
  WorkerStatus status;
  const std::vector<IncarnationOrder> active = {IncarnationOrder(1)};
  for (int second = 1; second <= 600; ++second) {
    bench.now += seconds(1);
    if (second % 60 == 0) {
      status.clock = status.clock.next();
      status.samples += 64;
      status.compute_seconds += 60;
    }
    status.round_trip_seconds = 0.2;
    for (int k = 0; k < 100; ++k) bench.tuner.on_status(bench.now, active[0], status);
    if (const auto choice = bench.tuner.choose(bench.now, bench.plan, active)) {
      bench.plan.bound = choice->bound;
      bench.plan.local_steps = choice->local_steps;
      bench.tuner.on_changed();
    }
  }
  CHECK(bench.plan.bound == AutoTuner::kBoundFloor);
  CHECK(bench.plan.local_steps == 1);
}

TEST_CASE("statuses that say anything at all never lead beyond the maxima") {
  RandomStream random(7);
  const auto any = [&] {
    constexpr double kOdd[] = {0, 1e-300, 1e300, 1, 1e9};
    return random.chance(0.5) ? kOdd[random.below(5)] : random.uniform(0, 2);
  };
  for (int round = 0; round < 200; ++round) {
    const auto most = 1 + static_cast<std::uint32_t>(random.below(20));
    StalenessPlan plan = both_auto(most, most);
    AutoTuner tuner(64);
    const std::vector<IncarnationOrder> active = {IncarnationOrder(1), IncarnationOrder(2)};
    ProtocolTime now{std::chrono::hours(1)};
    for (int second = 0; second < 40; ++second) {
      now += seconds(1);
      for (const IncarnationOrder order : active) {
        WorkerStatus status;
        status.clock = Round(random.chance(0.5) ? random.next_u64() : random.below(1000));
        status.samples = random.chance(0.5) ? random.next_u64() : random.below(100000);
        status.compute_seconds = any();
        status.codec_cpu_seconds = any();
        status.stall = {any(), any(), any(), any(), any()};
        status.round_trip_seconds = any();
        status.round_trip_deviation_seconds = any();
        status.path_bytes_per_second = any();
        status.turnaround_p99_seconds = any();
        status.bytes_up = random.next_u64();
        status.exact_bytes_up = random.next_u64();
        tuner.on_status(now, order, status);
      }
      const auto choice = tuner.choose(now, plan, active);
      if (!choice) continue;
      REQUIRE(choice->bound.value() >= 1);
      REQUIRE(choice->bound.value() <= most);
      REQUIRE(choice->local_steps >= 1);
      REQUIRE(choice->local_steps <= most);
      plan.bound = choice->bound;
      plan.local_steps = choice->local_steps;
    }
  }
}

}  // namespace
}  // namespace nanduti
