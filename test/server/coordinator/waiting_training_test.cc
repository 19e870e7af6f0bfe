// Goal: training does not wait for ever, neither for a lease nor in lockstep.
// Method: one core in virtual time; the test plays shards and workers, and leaves something undone.
#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE(
    "a worker that takes part in a deterministic job and asks for no samples is dead after the lease's "
    "time") {
  CoordinatorBench bench(quick());
  bench.start(1, 2, true);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  for (int i = 0; i < 29; ++i) {
    bench.say(PeerId(1), CoordinatorBench::status(true));
    bench.live(1s, {2});
  }
  CHECK(bench.core.worker_count() == 2);
  for (int i = 0; i < 2; ++i) {
    bench.say(PeerId(1), CoordinatorBench::status(true));
    bench.live(1s, {2});
  }
  CHECK(bench.to<Fenced>(PeerId(1)).empty());
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
  CHECK(bench.view().warnings.size() == 1);
}

TEST_CASE("a worker that drains and does not leave is out of the gate at once") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});  // one ahead
  bench.say(PeerId(2), Draining{});
  for (const LeaseGrant& grant : bench.to<LeaseGrant>(PeerId(2)))
    bench.say(PeerId(2), LeaseReturn{JobId(1), grant.lease, grant.range});
  const std::size_t grants = bench.to<LeaseGrant>(PeerId(2)).size();
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  CHECK(bench.to<LeaseGrant>(PeerId(2)).size() == grants);
  bench.live(1s, {1, 2});
  CHECK(bench.state(2) == MemberState::kIdle);
  CHECK(bench.core.workers_report(bench.now).workers[1].state == "draining");
  const LeaseGrant own = bench.to<LeaseGrant>(PeerId(1)).back();
  bench.say(kShard,
            SettleReport{JobId(1), {{IncarnationOrder(1), Sequence(0), Round(0), own.lease, own.range}}});
  bench.train_all(1, 1, 1);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  CHECK(bench.to<Rest>(kShard).empty());
  bench.live(31s, {1, 2});  // neither does it flush
  CHECK(bench.to<Rest>(kShard).size() == 1);
}

TEST_CASE("with everybody idle the samples of one that dies go to who is heard of, not to who is silent") {
  CoordinatorBench bench(quick());
  bench.start(1, 3);
  // Worker 3 takes the last lease; the others have nothing left to do.
  bench.train(1, 1, 0);
  bench.train(2, 2, 0);
  bench.train(1, 1, 1);
  bench.say(PeerId(3), LeaseRequest{JobId(1)});
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  CHECK(bench.state(1) == MemberState::kIdle);
  CHECK(bench.state(2) == MemberState::kIdle);
  CHECK(bench.state(3) == MemberState::kActive);
  bench.live(6s, {2, 3});  // 1 is silent, which an idle one may be
  CHECK(bench.state(1) == MemberState::kIdle);
  bench.close(PeerId(3));
  bench.say(kShard, FenceDone{JobId(1), IncarnationOrder(3), Sequence(0)});
  CHECK(bench.state(1) == MemberState::kIdle);
  CHECK(bench.state(2) == MemberState::kActive);
  CHECK(bench.member(2)->entry_clock == Round(2));  // the furthest clock, as nobody was active
}

TEST_CASE("a worker that says it waits at the gate while all wait for it is dead after the lease's time") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  for (int i = 0; i < 31; ++i) {
    bench.say(PeerId(1), CoordinatorBench::status(true));
    bench.say(PeerId(2),
              CoordinatorBench::status(true));  // cut off from the shard, but not from the coordinator
    bench.wait(1s);
  }
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
  CHECK(bench.to<Fenced>(PeerId(1)).empty());
}

TEST_CASE("signs of work without a settled round put the end off, but not for ever") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  WorkerStatus works = CoordinatorBench::status();
  const auto work = [&](int seconds) {
    for (int i = 0; i < seconds; ++i) {
      works.samples += 10;
      bench.say(PeerId(2), works);
      bench.live(1s, {1});
    }
  };
  work(30 * kUnsettledLeasesMax - 1);
  CHECK(bench.to<Fenced>(PeerId(2)).empty());
  work(2);
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
}

TEST_CASE("flushes that settle are no rounds: they do not keep a lease") {
  CoordinatorBench bench(quick());
  bench.start();
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  std::uint64_t sequence = 0;
  for (int i = 0; i < 30 * kUnsettledLeasesMax + 1 && bench.core.worker_count() > 0; ++i) {
    bench.say(kShard,
              SettleReport{JobId(1), {{IncarnationOrder(1), Sequence(sequence++), Round(0), {}, {}}}});
    bench.live(1s, {1});
  }
  CHECK(bench.core.worker_count() == 0);
}

TEST_CASE("workers that are cut off from the shards together are no sign of rounds that are too long") {
  CoordinatorBench bench(quick());
  bench.start(1, 8);
  for (std::uint64_t w = 1; w <= 4; ++w) bench.say(PeerId(w), LeaseRequest{JobId(1)});
  bench.live(31s, {1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(bench.core.workers_report(bench.now).gone.size() == 4);
  for (std::uint64_t order = 1; order <= 4; ++order)
    bench.say(kShard, FenceDone{JobId(1), IncarnationOrder(order), Sequence(0)});
  for (std::uint64_t w = 5; w <= 7; ++w) bench.say(PeerId(w), LeaseRequest{JobId(1)});
  bench.live(31s, {5, 6, 7, 8});
  CHECK(bench.core.worker_count() == 1);
  CHECK(bench.view().state == JobState::kRunning);
}

TEST_CASE("of workers in lockstep the one that is cut off dies, and not those who wait for it") {
  CoordinatorBench bench(quick());
  bench.start(1, 2, true);
  for (const std::uint64_t w : {1, 2}) bench.say(PeerId(w), LeaseRequest{JobId(1)});
  WorkerStatus waits = CoordinatorBench::status(true), other = CoordinatorBench::status();
  waits.clock = Round(2);
  SECTION("its pushes have not arrived") { other.clock = Round(2); }
  SECTION("no versions arrive") {
    other.clock = Round(1);
    other.at_gate = true;
  }
  SECTION("its last updates do not arrive") {
    for (const std::uint64_t w : {1, 2}) {
      for (std::uint64_t round = 0; round < 2; ++round) {
        const LeaseGrant grant = bench.to<LeaseGrant>(PeerId(w)).back();
        bench.say(
            kShard,
            SettleReport{JobId(1),
                         {{IncarnationOrder(w), Sequence(round), Round(round), grant.lease, grant.range}}});
        bench.say(PeerId(w), LeaseRequest{JobId(1)});
      }
    }
    CHECK(bench.to<FlushResidual>(PeerId(1)).size() == 1);
    other.clock = Round(2);
  }
  for (int i = 0; i < 32; ++i) {
    bench.say(PeerId(1), waits);
    bench.say(PeerId(2), other);
    bench.wait(1s);
  }
  CHECK(bench.to<Fenced>(PeerId(1)).empty());
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
}

TEST_CASE(
    "in lockstep who says that it waits for others' last updates, which have come, is waited for no longer") {
  CoordinatorBench bench(quick());
  bench.start(1, 2, true);
  for (const std::uint64_t w : {1, 2}) {
    for (std::uint64_t round = 0; round < 2; ++round) {
      bench.say(PeerId(w), LeaseRequest{JobId(1)});
      const LeaseGrant grant = bench.to<LeaseGrant>(PeerId(w)).back();
      bench.say(
          kShard,
          SettleReport{JobId(1),
                       {{IncarnationOrder(w), Sequence(round), Round(round), grant.lease, grant.range}}});
    }
  }
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  for (int i = 0; i < 31; ++i) {
    bench.say(PeerId(2), CoordinatorBench::status(true));
    bench.live(1s, {1});
  }
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
  CHECK(bench.to<Rest>(kShard).size() == 1);
}

TEST_CASE("a worker of a deterministic job that is silent is waited for until it is dead") {
  CoordinatorBench bench(quick());
  bench.start(1, 2, true);
  bench.live(19s, {1});
  CHECK(bench.state(2) == MemberState::kActive);
  CHECK(bench.core.worker_count() == 2);
  bench.live(2s, {1});
  CHECK(bench.core.worker_count() == 1);
}

TEST_CASE("who waits at the gate outlives the one that it waits for") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.wait(1s);
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  bench.say(PeerId(2), CoordinatorBench::status());
  WorkerStatus works = CoordinatorBench::status();
  for (int i = 0; i < 30 * kUnsettledLeasesMax + 2; ++i) {
    ++works.samples;
    bench.say(PeerId(1), CoordinatorBench::status(true));
    bench.say(PeerId(2), works);
    bench.wait(1s);
  }
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
  CHECK(bench.to<Fenced>(PeerId(1)).empty());
}

TEST_CASE("in lockstep those who all say that they wait are not waited for without end") {
  CoordinatorBench bench(quick());
  bench.start(1, 2, true);
  for (const std::uint64_t w : {1, 2}) bench.say(PeerId(w), LeaseRequest{JobId(1)});
  for (int i = 0; i < 32; ++i) {
    for (const std::uint64_t w : {1, 2}) bench.say(PeerId(w), CoordinatorBench::status(true));
    bench.wait(1s);
  }
  CHECK(bench.core.worker_count() == 0);
}

TEST_CASE("a settled push and the end of a wait at the gate begin the lease's time anew") {
  CoordinatorBench bench(quick());
  bench.start(2, 2);
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  const LeaseGrant grant = bench.to<LeaseGrant>(PeerId(2)).back();
  const bool settles = GENERATE(false, true);
  bench.say(PeerId(2), CoordinatorBench::status());
  for (int i = 0; i < 25; ++i) {
    bench.say(PeerId(2), CoordinatorBench::status(!settles));
    bench.live(1s, {1});
  }
  if (settles)  // on one shard
    bench.say(kShard, SettleReport{JobId(1),
                                   {{IncarnationOrder(2), Sequence(0), Round(0), grant.lease, grant.range}}});
  bench.say(PeerId(2), CoordinatorBench::status());
  bench.live(29s, {1, 2});
  CHECK(bench.to<Fenced>(PeerId(2)).empty());
  bench.live(2s, {1, 2});
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
}

TEST_CASE("leases that expire end the job only where no round counts in between") {
  CoordinatorBench bench(quick());
  bench.start(1, 1);
  const bool counts = GENERATE(false, true);
  for (std::uint64_t order = 1; order <= 5; ++order) {
    if (counts && order == 3) bench.train(order, order, 0);
    bench.say(PeerId(order), LeaseRequest{JobId(1)});
    bench.live(32s, {order});
    bench.add_worker(order + 1);
    bench.prepare(order + 1);
    bench.say(kShard, FenceDone{JobId(1), IncarnationOrder(order), Sequence(1)});
  }
  CHECK(bench.view().state == (counts ? JobState::kRunning : JobState::kFailed));
}

TEST_CASE("the samples of the dead are lent again once every shard has fenced them") {
  CoordinatorBench bench(quick());
  bench.start(2, 1);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  const LeaseGrant lost = bench.to<LeaseGrant>(PeerId(1)).back();
  bench.close(PeerId(1));
  bench.add_worker(2);
  bench.prepare(2);
  bench.say(kShard, FenceDone{JobId(1), IncarnationOrder(1), Sequence(0)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  CHECK(bench.to<LeaseGrant>(PeerId(2)).back().range.epoch != lost.range.epoch);
  bench.say(CoordinatorBench::shard(1), FenceDone{JobId(1), IncarnationOrder(1), Sequence(0)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  CHECK(bench.to<LeaseGrant>(PeerId(2)).back().range.epoch == lost.range.epoch);
}

TEST_CASE("a worker that drains ends the lockstep before it has left") {
  CoordinatorBench bench(quick());
  bench.start(1, 2, true);
  const MembershipEpoch before = bench.to<Membership>(kShard).back().epoch;
  bench.say(PeerId(2), Draining{});
  CHECK(bench.view().warnings.size() == 1);
  CHECK(bench.to<Membership>(kShard).back().epoch > before);
}

TEST_CASE(
    "while a shard is silent no worker dies for what does not settle, and begins to be waited for anew "
    "after") {
  CoordinatorBench bench(quick());
  bench.start(1, 1);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  CHECK(bench.core.shard_peers() == std::vector<PeerId>{kShard});
  const auto pass = [&](int seconds, bool shard_is_heard) {
    for (int i = 0; i < seconds; ++i) {
      if (shard_is_heard) bench.core.set_last_heard(kShard, bench.now);
      bench.say(PeerId(1), CoordinatorBench::status());
      bench.wait(1s);
    }
  };
  pass(2, true);
  pass(60, false);
  CHECK(has(bench.notes, "shard 1 of 'nyc' is silent"));
  CHECK(bench.core.waits_for_a_shard());
  CHECK(bench.to<Fenced>(PeerId(1)).empty());
  pass(29, true);
  CHECK(has(bench.notes, "shard 1 of 'nyc' is heard of again"));
  CHECK(bench.to<Fenced>(PeerId(1)).empty());
  pass(3, true);
  REQUIRE(bench.to<Fenced>(PeerId(1)).size() == 1);
  CHECK(bench.to<Fenced>(PeerId(1)).back().reason == "its lease has expired");
}
