// Goal: nothing and nobody can make a job wait for ever: not who is silent, not who is heard of and does not
// do what it was asked. Method: one core in virtual time; the test plays shards and workers, and leaves
// something undone.
#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE("a worker that dies between having read the data and joining is replaced by another") {
  CoordinatorBench bench(quick());
  bench.add_shard(0);
  bench.add_worker(1);
  bench.submit();
  bench.prepare(1);
  SECTION("before the model is planned") {}
  SECTION("before the shards have opened") { bench.plan(); }
  const bool planned = !bench.to<OpenShard>(kShard).empty();
  bench.close(PeerId(1));
  bench.add_worker(2);
  bench.prepare(2);
  if (!planned) bench.plan();
  bench.say(kShard, ShardOpened{JobId(1)});
  CHECK(bench.to<JoinJob>(PeerId(1)).empty());
  bench.train_all(2, 2);
  CHECK(bench.view().samples == 40);
}

TEST_CASE("the data of a worker that is gone before any other had the same is nobody's") {
  CoordinatorBench bench(quick());
  bench.add_shard(0);
  for (std::uint64_t w = 1; w <= 3; ++w) bench.add_worker(w);
  bench.submit(1, 2);
  DataDescription other = CoordinatorBench::data();
  other.fingerprint = 99;
  bench.say(PeerId(1), JobPrepared{JobId(1), other, 5});
  bench.prepare(2);
  bench.prepare(3);
  CHECK(bench.core.workers_report(bench.now).workers[1].state == "unable");
  bench.close(PeerId(1));
  CHECK(bench.to<PrepareJob>(PeerId(2)).size() == 2);
  bench.prepare(2);
  bench.prepare(3);
  CHECK(bench.plans.size() == 1);
}

TEST_CASE("a worker that does not finish reading the data counts as unable, until it does") {
  CoordinatorBench bench(quick());
  bench.add_shard(0);
  bench.add_worker(1);
  bench.submit();
  SECTION("alone: the job ends") {
    bench.live(59s, {1});
    CHECK(bench.view().state == JobState::kRunning);
    bench.live(2s, {1});
    CHECK(bench.view().state == JobState::kFailed);
    CHECK(bench.view().reason == "it has not read the job's data within 60 s");
  }
  SECTION("beside another one") {
    bench.add_worker(2);
    bench.live(50s, {1, 2});
    bench.add_worker(3);
    bench.live(12s, {1, 2, 3});
    CHECK(bench.view().state == JobState::kRunning);
    CHECK(bench.core.workers_report(bench.now).workers[0].state == "unable");
    CHECK(bench.core.workers_report(bench.now).workers[0].refusal.find("60 s") != std::string::npos);
    bench.prepare(1);
    CHECK(bench.plans.size() == 1);
  }
}

TEST_CASE("a worker that is about to leave is not what a job begins or ends with") {
  CoordinatorBench bench(quick());
  bench.add_shard(0);
  bench.add_worker(1);
  bench.add_worker(2);
  bench.say(PeerId(1), Draining{});
  bench.submit();
  bench.say(PeerId(2), JobRefused{JobId(1), "no such file"});
  CHECK(bench.view().state == JobState::kFailed);

  CoordinatorBench second(quick());
  second.add_shard(0);
  second.add_worker(1);
  second.submit();
  second.say(PeerId(1), Draining{});
  second.prepare(1);
  CHECK(second.plans.empty());
}

TEST_CASE("an active worker that asks for no samples is idle after a while, and active again when it asks") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  CHECK(bench.state(2) == MemberState::kActive);
  bench.train(1, 1, 0);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.live(4s, {1, 2});
  CHECK(bench.state(2) == MemberState::kActive);
  bench.live(2s, {1, 2});
  CHECK(bench.state(2) == MemberState::kIdle);
  CHECK(bench.state(1) == MemberState::kActive);
  CHECK(bench.core.worker_count() == 2);
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  CHECK(bench.state(2) == MemberState::kActive);
  CHECK(bench.member(2)->entry_clock == Round(1));
  CHECK(bench.to<LeaseGrant>(PeerId(2)).back().entry_clock == Round(1));
}

TEST_CASE("a worker that is heard of and does not send its last updates is dead after the lease's time") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train_all(1, 1);
  CHECK(bench.to<FlushResidual>(PeerId(2)).size() == 1);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  bench.live(29s, {1, 2});
  CHECK(bench.to<Rest>(kShard).empty());
  bench.live(2s, {1, 2});
  CHECK(bench.to<Rest>(kShard).size() == 1);
  REQUIRE(bench.to<Fenced>(PeerId(2)).size() == 1);
  CHECK(bench.to<Fenced>(PeerId(2))[0].reason == "its last updates have not come within 30 s");
}

TEST_CASE("a worker that is suspended while the last updates are collected may send its own later") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train_all(1, 1);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  bench.live(10s, {1});
  CHECK(bench.state(2) == MemberState::kSuspended);
  CHECK(bench.to<Rest>(kShard).empty());
  SECTION("it comes back") {
    bench.say(PeerId(2), ResidualFlushed{JobId(1)});
    CHECK(bench.to<Rest>(kShard).size() == 1);
    CHECK(bench.to<Fence>(kShard).empty());
  }
  SECTION("it does not") {
    bench.live(11s, {1});
    CHECK(bench.to<Rest>(kShard).size() == 1);
    CHECK(bench.to<Fence>(kShard).size() == 1);
  }
}

TEST_CASE("a suspended worker's last updates are not asked for in the lease's time") {
  CoordinatorOptions options = quick();
  options.dead_after = 10min;
  options.shard_timeout = 10min;
  CoordinatorBench bench(options);
  bench.start(1, 2);
  bench.train_all(1, 1);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  bench.live(5min, {1});
  CHECK(bench.state(2) == MemberState::kSuspended);
  bench.live(29s, {1, 2});
  CHECK(bench.to<Fenced>(PeerId(2)).empty());
  bench.live(2s, {1, 2});
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
}

TEST_CASE("when everybody was suspended at once, they and a joiner go on where the furthest was") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.train(1, 1, 1);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.wait(6s);
  CHECK(bench.state(1) == MemberState::kSuspended);
  CHECK(bench.state(2) == MemberState::kSuspended);
  CHECK_FALSE(bench.core.workers_report(bench.now).membership->smallest_clock);
  bench.add_worker(3);
  bench.prepare(3);
  bench.say(PeerId(3), LeaseRequest{JobId(1)});
  CHECK(bench.state(3) == MemberState::kActive);
  CHECK(bench.member(3)->entry_clock == Round(2));
  bench.say(PeerId(2), CoordinatorBench::status());
  CHECK(bench.state(2) == MemberState::kActive);
  CHECK(bench.member(2)->entry_clock == Round(2));
  bench.say(PeerId(1), CoordinatorBench::status());
  CHECK(bench.member(1)->entry_clock == Round(2));
  CHECK(bench.to<Fence>(kShard).empty());
}

TEST_CASE("a shard that lives and does not answer ends the job with the reason") {
  CoordinatorBench bench(quick());
  std::string reason;
  SECTION("it does not open") {
    bench.add_shard(0);
    bench.add_worker(1);
    bench.submit();
    bench.prepare(1);
    bench.plan();
    reason = "shard 0 of 'nyc' has not taken its part of the model within 100 s";
  }
  SECTION("it does not fence") {
    bench.start(1, 2);
    bench.close(PeerId(2));
    reason = "shard 0 of 'nyc' has not fenced a worker that is gone within 100 s";
  }
  SECTION("it takes no cut") {
    bench.start();
    bench.train(1, 1, 0);
    bench.train(1, 1, 1);
    reason = "shard 0 of 'nyc' has not sent its parameters of epoch 1 within 100 s";
  }
  SECTION("it does not come to rest") {
    bench.start();
    bench.train(1, 1, 0);
    bench.train(1, 1, 1);
    bench.take_cut();
    bench.evaluate(1);
    bench.train_all(1, 1, 2);
    bench.say(PeerId(1), ResidualFlushed{JobId(1)});
    reason = "shard 0 of 'nyc' has not come to rest within 100 s";
  }
  bench.live(99s, {1});
  CHECK(bench.view().state == JobState::kRunning);
  bench.live(2s, {1});
  CHECK(bench.view().state == JobState::kFailed);
  CHECK(bench.view().reason == reason);
}

TEST_CASE("what a shard says that is no part of the job changes nothing") {
  CoordinatorBench bench(quick());
  bench.start();
  bench.add_shard(7);  // spare
  const PeerId spare = CoordinatorBench::shard(7), stranger(900);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  const LeaseGrant grant = bench.to<LeaseGrant>(PeerId(1)).back();
  for (const PeerId peer : {spare, stranger}) {
    bench.say(peer, SettleReport{JobId(1),
                                 {{IncarnationOrder(1), Sequence(0), Round(0), grant.lease, grant.range}}});
    bench.say(peer, ShardFailed{JobId(1), "no"});
    bench.say(peer, FenceDone{JobId(1), IncarnationOrder(1), Sequence(0)});
    bench.say(peer, ShardAtRest{JobId(1), Version(1)});
    bench.say(peer, CutTaken{JobId(1), CutId(1), Version(1), {}, {}});
    bench.close(peer);
  }
  CHECK(bench.view().state == JobState::kRunning);
  CHECK(bench.view().samples == 0);
}
