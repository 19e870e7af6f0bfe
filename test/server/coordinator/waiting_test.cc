// Goal: nothing and nobody can make a job wait for ever: not who is silent, not who is heard of and does not
// do what it was asked. Method: one core in virtual time; the test plays shards and workers, and leaves
// something undone.
#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

CoordinatorOptions quick() {
  CoordinatorOptions options;
  options.suspend_after = 5s;
  options.dead_after = 20s;
  options.lease_timeout = 30s;
  options.prepare_timeout = 60s;
  options.shard_timeout = 100s;
  return options;
}

constexpr PeerId kShard{100};

bool has(const std::vector<std::string>& texts, std::string_view part) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

}  // namespace

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
  bench.say(
      kShard,
      SettleReport{JobId(1), {{IncarnationOrder(1), Sequence(0), Round(0), own.lease, own.range, false}}});
  bench.train_all(1, 1, 1);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  CHECK(bench.to<Rest>(kShard).empty());
  bench.live(31s, {1, 2});  // neither does it flush
  CHECK(bench.to<Rest>(kShard).size() == 1);
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

TEST_CASE("an evaluation that is not done in time is another worker's too, and the first answer counts") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.train(2, 2, 0);
  bench.take_cut();
  REQUIRE(bench.to<EvaluationLease>(PeerId(1)).size() == 2);
  REQUIRE(bench.to<EvaluationLease>(PeerId(2)).size() == 2);
  bench.evaluate(1);
  bench.live(29s, {1, 2});
  CHECK(bench.to<EvaluationLease>(PeerId(1)).size() == 2);
  bench.live(2s, {1, 2});
  CHECK(bench.to<EvaluationLease>(PeerId(1)).size() == 4);
  CHECK(bench.core.worker_count() == 2);
  SECTION("the late one answers first") { bench.evaluate(2); }
  SECTION("the other one answers first") { bench.evaluate(1); }
  REQUIRE(bench.view().figures.size() == 1);
  CHECK(bench.view().figures[0].total == 10);
  bench.evaluate(1);
  bench.evaluate(2);
  CHECK(bench.view().figures.size() == 1);
  CHECK(bench.core.worker_count() == 2);
}

TEST_CASE("who is silent or about to leave is not asked for an evaluation") {
  CoordinatorBench bench(quick());
  bench.start(1, 3);
  bench.train(1, 1, 0);
  bench.train(1, 1, 1);
  bench.say(PeerId(3), Draining{});
  bench.live(6s, {1, 3});
  bench.take_cut();
  CHECK(bench.to<EvaluationLease>(PeerId(1)).size() == 6);
  CHECK(bench.to<EvaluationLease>(PeerId(2)).empty());
  CHECK(bench.to<EvaluationLease>(PeerId(3)).empty());
}

TEST_CASE("who lets an evaluation run into its time-out is asked last from then on, until it answers") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.train(2, 2, 0);
  bench.take_cut();
  bench.evaluate(1);
  const std::size_t asked = bench.to<EvaluationLease>(PeerId(2)).size();
  const bool answers = GENERATE(false, true);
  bench.live(31s, {1, 2});
  bench.evaluate(answers ? 2 : 1);
  REQUIRE(bench.view().figures.size() == 1);
  bench.train_all(1, 1, 1);
  for (const std::uint64_t w : {1, 2}) bench.say(PeerId(w), ResidualFlushed{JobId(1)});
  bench.say(kShard, ShardAtRest{JobId(1), Version(2)});
  bench.take_cut();
  CHECK(bench.to<EvaluationLease>(PeerId(2)).size() == asked + (answers ? 2 : 0));
  bench.evaluate(1);
  bench.evaluate(2);
  CHECK(bench.saves == 1);
}

TEST_CASE("a part of the test set goes to those who were not asked for it before") {
  CoordinatorBench bench(quick());
  bench.start(1, 3);
  bench.train(1, 1, 0);
  bench.train(1, 1, 1);
  bench.take_cut();
  bench.live(6s, {1, 3});  // the parts of 2, which is silent, go to the others
  bench.say(PeerId(2), CoordinatorBench::status());
  bench.close(PeerId(1));  // now it is 2 that has the fewest
  std::set<LeaseId> asked;
  for (const EvaluationLease& lease : bench.to<EvaluationLease>(PeerId(2)))
    CHECK(asked.insert(lease.lease).second);
  CHECK(asked.size() > 2);
}

TEST_CASE(
    "a worker that goes on training and does not evaluate delays an epoch's figures, and not for ever") {
  CoordinatorBench bench(quick());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.train(2, 2, 0);
  bench.take_cut();
  bench.evaluate(1);
  WorkerStatus works = CoordinatorBench::status();
  for (int i = 0; i < 30 * kUnsettledLeasesMax + 1; ++i) {
    works.samples += 10;
    bench.say(PeerId(2), works);
    if (i == 150) bench.train(2, 2, 1);
    bench.live(1s, {1});
  }
  bench.evaluate(1);
  CHECK(bench.view().figures.size() == 1);
}

TEST_CASE("flushes that settle are no rounds: they do not keep a lease") {
  CoordinatorBench bench(quick());
  bench.start();
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  std::uint64_t sequence = 0;
  for (int i = 0; i < 30 * kUnsettledLeasesMax + 1 && bench.core.worker_count() > 0; ++i) {
    bench.say(kShard,
              SettleReport{JobId(1), {{IncarnationOrder(1), Sequence(sequence++), Round(0), {}, {}, false}}});
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

TEST_CASE("an evaluation within an epoch that nobody does counts as skipped, and is no warning") {
  CoordinatorBench bench(quick());
  bench.evaluate_every = 10;
  bench.start();
  bench.train(1, 1, 0);
  const LeaseGrant rest = bench.lent[1];
  bench.say(PeerId(1), LeaseReturn{JobId(1), rest.lease, rest.range});
  bench.take_cut();
  for (std::uint32_t i = 0; i < 31 * kEvaluationTriesMax && bench.view().evaluations_skipped == 0; ++i)
    bench.live(1s, {1});
  CHECK(bench.view().evaluations_skipped == 1);
  CHECK(bench.view().evaluations.empty());
  CHECK(bench.view().figures.empty());
  CHECK(bench.view().warnings.empty());
  CHECK(has(bench.notes, "the cut after 10 samples has no test figures"));
  CHECK(bench.to<ReleaseCut>(kShard).size() == 1);
}

TEST_CASE("an evaluation that its only worker does not do is given up after some time-outs") {
  CoordinatorBench bench(quick());
  bench.start();
  bench.train(1, 1, 0);
  bench.train(1, 1, 1);
  bench.take_cut();
  for (std::uint32_t i = 0; i < 31 * kEvaluationTriesMax && bench.view().figures.empty(); ++i)
    bench.live(1s, {1});
  REQUIRE(bench.view().figures.size() == 1);
  CHECK(bench.view().figures[0].total == 0);
  CHECK(has(bench.view().warnings, "epoch 1 has no test figures"));
  CHECK(bench.to<EvaluationLease>(PeerId(1)).size() <= 2 * kEvaluationTriesMax);
  CHECK(bench.to<ReleaseCut>(kShard).size() == 1);
  CHECK(bench.core.worker_count() == 1);
  bench.train_all(1, 1, 2);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  bench.say(kShard, ShardAtRest{JobId(1), Version(2)});
  bench.take_cut();
  bench.evaluate(1);
  CHECK(bench.saves == 1);
}

TEST_CASE(
    "an evaluation that all who try it die of is given up after some tries, one that is left behind is not") {
  CoordinatorBench bench(quick());
  bench.start();
  bench.train(1, 1, 0);
  bench.train(1, 1, 1);
  bench.take_cut();
  const bool drains = GENERATE(false, true);
  for (std::uint64_t w = 1; w <= kEvaluationTriesMax; ++w) {
    CHECK(bench.view().figures.empty());
    CHECK(bench.to<EvaluationLease>(PeerId(w)).size() == 2);
    if (drains) bench.say(PeerId(w), Draining{});
    if (drains) bench.say(PeerId(w), Leave{});
    bench.close(PeerId(w));
    bench.add_worker(w + 1);
    bench.prepare(w + 1);
  }
  CHECK(bench.view().figures.size() == (drains ? 0 : 1));
  CHECK(has(bench.view().warnings, "epoch 1 has no test figures") == !drains);
}

TEST_CASE("while training goes on, an epoch's figures wait for a worker that comes") {
  CoordinatorBench bench(quick());
  bench.start();
  bench.train(1, 1, 0);
  bench.train(1, 1, 1);
  bench.take_cut();
  bench.say(PeerId(1), Leave{});
  bench.say(kShard, FenceDone{JobId(1), IncarnationOrder(1), Sequence(2)});
  for (int i = 0; i < 200; ++i) bench.wait(1s);
  bench.add_worker(2);
  bench.prepare(2);
  bench.evaluate(2);
  REQUIRE(bench.view().figures.size() == 1);
  CHECK(bench.view().figures[0].total == 10);
}

TEST_CASE("a trained model whose workers have all gone is saved without test figures after a while") {
  CoordinatorBench bench(quick());
  bench.start();
  bench.train(1, 1, 0);
  bench.train(1, 1, 1);
  bench.take_cut();
  bench.evaluate(1);
  bench.train_all(1, 1, 2);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  bench.say(kShard, ShardAtRest{JobId(1), Version(2)});
  const bool is_left = GENERATE(false, true);
  if (is_left) bench.close(PeerId(1));
  bench.take_cut();
  if (!is_left) {
    bench.live(20s, {1});  // what counts is since when nobody is there
    bench.close(PeerId(1));
  }
  bench.say(kShard, FenceDone{JobId(1), IncarnationOrder(1), Sequence(4)});
  bench.wait(1s);
  for (std::uint32_t i = 2; i < 30 * kEvaluationTriesMax; ++i) bench.wait(1s);
  CHECK(bench.saves == 0);
  SECTION("nobody comes") {
    bench.wait(2s);
    CHECK(bench.saves == 1);
    CHECK(has(bench.view().warnings, "epoch 2 has no test figures"));
  }
  SECTION("another one comes") {
    bench.add_worker(2);
    bench.prepare(2);
    bench.evaluate(2);
    CHECK(bench.saves == 1);
    CHECK(bench.view().warnings.empty());
  }
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
        bench.say(kShard, SettleReport{JobId(1),
                                       {{IncarnationOrder(w), Sequence(round), Round(round), grant.lease,
                                         grant.range, false}}});
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
      bench.say(kShard, SettleReport{JobId(1),
                                     {{IncarnationOrder(w), Sequence(round), Round(round), grant.lease,
                                       grant.range, false}}});
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
    bench.say(peer,
              SettleReport{JobId(1),
                           {{IncarnationOrder(1), Sequence(0), Round(0), grant.lease, grant.range, false}}});
    bench.say(peer, ShardFailed{JobId(1), "no"});
    bench.say(peer, FenceDone{JobId(1), IncarnationOrder(1), Sequence(0)});
    bench.say(peer, ShardAtRest{JobId(1), Version(1)});
    bench.say(peer, CutTaken{JobId(1), CutId(1), Version(1), {}, {}});
    bench.close(peer);
  }
  CHECK(bench.view().state == JobState::kRunning);
  CHECK(bench.view().samples == 0);
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
    bench.say(kShard,
              SettleReport{JobId(1),
                           {{IncarnationOrder(2), Sequence(0), Round(0), grant.lease, grant.range, false}}});
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
