// Goal: no evaluation makes a job wait for ever.
// Method: one core in virtual time; the test plays shards and workers, and leaves something undone.
#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

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
