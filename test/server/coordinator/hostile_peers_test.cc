// Goal: whatever an admitted peer sends, the coordinator stays (P8).
// Method: seeded messages of every type from workers, shards and strangers, in every phase of a job.
#include <functional>

#include "test/common/protocol/any_message.h"
#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE("no message of any peer in any phase brings the coordinator down") {
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    INFO("seed " << seed);
    AnyMessage any(seed);
    RandomStream random(seed, 1);
    CoordinatorBench bench(CoordinatorOptions{2, 10s, 60s, 30s});
    const bool deterministic = seed % 4 == 0;
    // The honest part of a job, disturbed from a step that the seed decides.
    const std::vector<std::function<void()>> steps = {
        [&] { bench.add_shard(0); },
        [&] { bench.add_shard(1); },
        [&] { bench.add_worker(1); },
        [&] { bench.submit(1, 2, deterministic); },
        [&] { bench.add_worker(2); },
        [&] { bench.prepare(1); },
        [&] { bench.prepare(2); },
        [&] { bench.plan(); },
        [&] { bench.say(CoordinatorBench::shard(0), ShardOpened{JobId(1)}); },
        [&] { bench.say(CoordinatorBench::shard(1), ShardOpened{JobId(1)}); },
        [&] { bench.say(PeerId(1), LeaseRequest{JobId(1)}); },
        [&] { bench.say(PeerId(2), LeaseRequest{JobId(1)}); },
    };
    const std::uint64_t from = random.below(steps.size() + 1);
    for (std::size_t i = 0; i < steps.size() + 40; ++i) {
      if (i < steps.size()) steps[i]();
      if (i < from) continue;
      const std::uint64_t peers[] = {1, 2, 3, 100, 101};
      bench.say(PeerId(peers[random.below(5)]), any.make());
      if (random.below(16) == 0) bench.close(PeerId(peers[random.below(5)]));
      if (random.below(16) == 0) bench.wait(Duration(std::chrono::seconds(random.below(70))));
      (void)bench.core.job_reports(bench.now);
      (void)bench.core.workers_report(bench.now);
    }
  }
}

TEST_CASE("who pushes to one shard only keeps its lease no longer than who claims to work") {
  CoordinatorOptions options;
  options.suspend_after = options.dead_after = 10h;
  options.lease_timeout = 30s;
  CoordinatorBench bench(options);
  bench.start(2, 2);
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  const LeaseGrant grant = bench.to<LeaseGrant>(PeerId(2)).back();
  WorkerStatus works = CoordinatorBench::status();
  const auto work = [&](int seconds) {
    for (int i = 0; i < seconds; ++i) {
      ++works.samples;
      bench.say(PeerId(2), works);
      bench.live(1s, {1});
    }
  };
  work(200);
  bench.say(CoordinatorBench::shard(0),
            SettleReport{JobId(1), {{IncarnationOrder(2), Sequence(0), Round(0), grant.lease, grant.range}}});
  work(98);
  CHECK(bench.to<Fenced>(PeerId(2)).empty());
  work(4);
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
}

TEST_CASE("leases that expire while each push settles on one shard only end the job") {
  CoordinatorOptions options;
  options.suspend_after = options.dead_after = 10h;
  options.lease_timeout = 30s;
  CoordinatorBench bench(options);
  bench.start(2, 1);
  for (std::uint64_t order = 1; bench.view().state == JobState::kRunning && order < 10; ++order) {
    bench.say(PeerId(order), LeaseRequest{JobId(1)});
    const LeaseGrant grant = bench.to<LeaseGrant>(PeerId(order)).back();
    bench.say(
        CoordinatorBench::shard(0),
        SettleReport{JobId(1),
                     {{IncarnationOrder(order), Sequence(0), grant.entry_clock, grant.lease, grant.range}}});
    bench.live(32s, {order});
    bench.add_worker(order + 1);
    bench.prepare(order + 1);
    for (std::uint64_t k = 0; k < 2; ++k)
      bench.say(CoordinatorBench::shard(k), FenceDone{JobId(1), IncarnationOrder(order), Sequence(1)});
  }
  CHECK(bench.view().state == JobState::kFailed);
  CHECK(bench.view().reason.find("5 times in a row") != std::string::npos);
}

TEST_CASE("who names a round that is not its next one is dead, and nobody enters at its clock") {
  CoordinatorBench bench;
  bench.start(1, 1);
  bench.train(1, 1, 0);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  const LeaseGrant grant = bench.to<LeaseGrant>(PeerId(1)).back();
  const std::uint64_t round = GENERATE(std::uint64_t{2}, ~std::uint64_t{0} - 1, ~std::uint64_t{0});
  bench.say(
      CoordinatorBench::shard(0),
      SettleReport{JobId(1), {{IncarnationOrder(1), Sequence(1), Round(round), grant.lease, grant.range}}});
  REQUIRE(bench.to<Fenced>(PeerId(1)).size() == 1);
  CHECK(bench.to<Fenced>(PeerId(1))[0].reason ==
        fmt::format("it pushed round {} where round 1 was next", round));
  bench.add_worker(2);
  bench.prepare(2);
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  CHECK(bench.member(2)->entry_clock <= Round(1));
}

TEST_CASE("who finds more samples right than it was given is dead, and its figures count for nothing") {
  CoordinatorBench bench;
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.train(2, 2, 0);
  bench.take_cut();
  const EvaluationLease lease = bench.to<EvaluationLease>(PeerId(2)).at(0);
  const std::uint64_t total = lease.end - lease.begin;
  bench.say(PeerId(2), EvaluationDone{JobId(1), lease.lease, total + 1, total, 1.0});
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
  bench.evaluate(1);
  REQUIRE(bench.view().figures.size() == 1);
  CHECK(bench.view().figures[0].correct == 10);
}

TEST_CASE("a job's record names each worker once, in short, and not without end") {
  CoordinatorBench bench;
  const std::string text = std::string(kKeptTextBytesMax - 1, 'x') + "\u00f1";
  bench.add_shard(0);
  bench.add_worker(1, "w1", text);
  bench.submit();
  bench.prepare(1);
  bench.plan();
  bench.say(CoordinatorBench::shard(0), ShardOpened{JobId(1)});
  REQUIRE(bench.view().participants.size() == 1);
  CHECK(bench.view().participants[0].hardware == text.substr(0, kKeptTextBytesMax - 1));
  bench.close(PeerId(1));
  const auto live_once = [&](std::uint64_t peer, const std::string& name) {
    bench.add_worker(peer, name, text);
    bench.prepare(peer);
    bench.close(PeerId(peer));
  };
  live_once(2, "w1");
  CHECK(bench.view().participants.size() == 1);
  for (std::uint64_t i = 2; i <= kParticipantsMax; ++i) live_once(1000 + i, fmt::format("w{}", i));
  CHECK(bench.view().participants.size() == kParticipantsMax);
  CHECK(bench.view().warnings.empty());
  live_once(3, "one more");
  live_once(4, "another");
  CHECK(bench.view().participants.size() == kParticipantsMax);
  CHECK(bench.view().warnings.size() == 1);
}

TEST_CASE("what a worker says of why it refuses a job is kept in short") {
  CoordinatorBench bench;
  bench.add_shard(0);
  bench.add_worker(1);
  bench.add_worker(2);
  bench.submit();
  bench.say(PeerId(1), JobRefused{JobId(1), std::string(100'000, 'x')});
  CHECK(bench.core.workers_report(bench.now).workers[0].refusal.size() == kKeptTextBytesMax);
}

TEST_CASE("a server of another name cannot take over a shard with its job") {
  CoordinatorBench bench;
  bench.start();
  const PeerId stranger(200);
  bench.connect(stranger, PeerRole::kShard);
  bench.say(stranger, RegisterShard{"asu", "tcp://x:1", 1, "", JobId(1)});
  CHECK(bench.closed == std::vector{stranger});
  CHECK(bench.core.counters().registrations_refused == 1);
  CHECK(bench.view().state == JobState::kRunning);
  bench.say(stranger, ShardFailed{JobId(1), "no"});
  CHECK(bench.view().state == JobState::kRunning);
  bench.train_all(1, 1);
}
