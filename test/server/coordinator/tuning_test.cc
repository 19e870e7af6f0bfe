// Goal: a job that trains is tuned from one named round on, which every active worker has confirmed before it
// counts as in force; joiners and returning shards are told; what cannot be tuned is refused. Method: the
// test plays shards and workers.
#include "test/server/coordinator/coordinator_bench.h"

namespace nanduti {
namespace {

void tune(CoordinatorBench& bench, std::optional<std::uint32_t> bound, std::uint32_t local_steps,
          const std::string& settings = "staleness: {}") {
  StalenessPlan staleness;
  staleness.bound = bound;
  staleness.local_steps = local_steps;
  bench.core.on_event(bench.now, CoordinatorCore::TuneJob{JobId(1), staleness, settings, "tuned"});
  bench.collect();
}

TEST_CASE("a tuning is told to all who take part, and is in force once every active worker has taken it") {
  CoordinatorBench bench;
  bench.start(2, 2);
  for (std::uint64_t round = 0; round < 3; ++round) bench.train(1, 1, round);
  tune(bench, 7, 2);
  const auto to_1 = bench.to<Tune>(PeerId(1)), to_shard = bench.to<Tune>(CoordinatorBench::shard(1));
  REQUIRE(to_1.size() == 1);
  REQUIRE(bench.to<Tune>(PeerId(2)).size() == 1);
  REQUIRE(to_shard.size() == 1);
  CHECK(to_1[0].number == 1);
  CHECK(to_1[0].bound == 7u);
  CHECK(to_1[0].round_samples == 20);
  CHECK(to_1[0].settings == "staleness: {}");
  CHECK(to_shard[0].settings == "staleness: {}");
  CHECK_FALSE(bench.view().tunings.back().in_force);
  bench.say(PeerId(1), Tuned{JobId(1), 1, Round(9)});
  CHECK_FALSE(bench.view().tunings.back().in_force);
  bench.say(PeerId(2), Tuned{JobId(1), 1, Round(4)});
  CHECK(bench.view().tunings.back().in_force);
  CHECK(bench.view().tunings.back().in_force_from == Round(9));
  const auto report = bench.core.job_report(bench.now, JobId(1)).value();
  REQUIRE(report.tunings.size() == 2);
  CHECK(report.tunings[0].why == "as submitted");
  CHECK(report.tunings[1].bound == 7u);
  CHECK(report.tunings[1].from_round == 9);
}

TEST_CASE("it holds from a round on that no active worker has begun, as far as is known") {
  CoordinatorBench bench;
  bench.start(1, 2);
  for (std::uint64_t round = 0; round < 2; ++round) bench.train(1, 1, round);
  WorkerStatus ahead = CoordinatorBench::status();
  ahead.clock = Round(11);
  bench.say(PeerId(2), ahead);
  tune(bench, 3, 1);
  CHECK(bench.to<Tune>(PeerId(1)).back().from_round == Round(12));
}

TEST_CASE(
    "a clock that cannot be true does not put a tuning off for ever, and a number that cannot be is death") {
  CoordinatorBench bench;
  bench.start(1, 2);
  WorkerStatus liar = CoordinatorBench::status();
  liar.clock = Round(~std::uint64_t{0});
  bench.say(PeerId(2), liar);
  tune(bench, 3, 1);
  CHECK(bench.to<Tune>(PeerId(1)).back().from_round == Round(kLeaseRoundsMax + 1));
  bench.say(PeerId(2), Tuned{JobId(1), 9, Round(1)});
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
}

TEST_CASE("who is suspended is not waited for, who joins is told with the job") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.live(std::chrono::seconds(7), {1});  // 2 is silent
  CHECK(bench.state(2) == MemberState::kSuspended);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  tune(bench, 3, 1);
  bench.say(PeerId(1), Tuned{JobId(1), 1, Round(2)});
  CHECK(bench.view().tunings.back().in_force);
  bench.add_worker(3);
  bench.prepare(3);
  REQUIRE(bench.to<Tune>(PeerId(3)).size() == 1);
  CHECK(bench.to<Tune>(PeerId(3))[0].bound == 3u);
  CHECK(bench.to<Tune>(PeerId(3))[0].from_round == Round());
  // A session keeps what was said: who returns has had it.
  CHECK(bench.to<Tune>(PeerId(2)).size() == 1);
}

TEST_CASE("leases have rounds of the new length") {
  CoordinatorBench bench;
  bench.start(1, 1);
  tune(bench, 0, 2);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  CHECK(bench.to<LeaseGrant>(PeerId(1)).back().range.size() % 20 == 0);
}

TEST_CASE("a shard that comes back with the job is told again") {
  CoordinatorBench bench;
  bench.start(1, 1);
  tune(bench, 2, 1);
  bench.add_shard(0, JobId(1), PeerId(900));
  REQUIRE(bench.to<Tune>(PeerId(900)).size() == 1);
  CHECK(bench.to<Tune>(PeerId(900))[0].number == 1);
}

TEST_CASE("what changes nothing is no tuning") {
  CoordinatorBench bench;
  bench.start(1, 1);
  tune(bench, 2, 1);
  tune(bench, 2, 1);
  CHECK(bench.to<Tune>(PeerId(1)).size() == 1);
}

TEST_CASE("jobs that are deterministic, wait, are over or unknown are not tuned, and it is said why") {
  CoordinatorBench bench;
  bench.start(1, 2, true);
  tune(bench, 2, 1);
  CHECK(bench.to<Tune>(PeerId(1)).empty());
  CHECK(bench.core.check_tunable(JobId(1)).error().message.find("deterministic") != std::string::npos);
  bench.submit(2);
  CHECK(bench.core.check_tunable(JobId(2)).error().message ==
        "job 2 does not train yet: try again when it does");
  CHECK(bench.core.check_tunable(JobId(9)).error().code == ErrorCode::kNotFound);
  bench.core.on_event(bench.now, CoordinatorCore::CancelJob{JobId(1)});
  CHECK(bench.core.check_tunable(JobId(1)).error().message == "job 1 is over: cancelled");
}

TEST_CASE(
    "an auto job tells its workers what it begins with, and measures; an operator's caps hold at once") {
  CoordinatorBench bench;
  bench.staleness = {16, true, 16, 8, true, 8};
  bench.start(1, 2);
  REQUIRE(bench.to<Tune>(PeerId(1)).size() == 1);
  CHECK(bench.to<Tune>(PeerId(1))[0].bound == 16u);
  WorkerStatus status = CoordinatorBench::status();
  for (int second = 0; second < 5; ++second) {
    status.clock = Round(status.clock.value() + 50);
    status.samples += 500;
    status.compute_seconds += 1;
    status.round_trip_seconds = 0.1;
    for (const std::uint64_t worker : {1, 2}) bench.say(PeerId(worker), status);
    bench.wait(std::chrono::seconds(1));
  }
  REQUIRE(bench.to<Tune>(PeerId(1)).size() == 2);
  CHECK(has(bench.notes, "job 1: bound 16 (auto), local_steps 1 (auto) from round"));
  StalenessPlan caps{4, true, 4, 1, true, 8};
  bench.core.on_event(bench.now, CoordinatorCore::TuneJob{JobId(1), caps, "x", "tuned"});
  bench.collect();
  CHECK(bench.to<Tune>(PeerId(1)).back().bound == 4u);
}

}  // namespace
}  // namespace nanduti
