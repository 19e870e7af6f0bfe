// Goal: nothing ends because a transfer over a thin link takes longer than a time-out, and no claim of a
// transfer keeps anything for ever. Method: one core in virtual time; the test plays shards and workers,
// whose statuses say how many bytes have moved.
#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

/// Shards have more time than the longest transfer here takes.
CoordinatorOptions patient() {
  CoordinatorOptions options = quick();
  options.shard_timeout = CoordinatorOptions().shard_timeout;
  return options;
}

/// A worker of which nothing is heard but statuses, in which so many bytes move each second.
struct Mover {
  CoordinatorBench& bench;
  std::uint64_t peer;
  std::uint64_t bytes_per_second = 10'000;
  bool down = false;
  WorkerStatus status = CoordinatorBench::status();

  void move(int seconds, const std::vector<std::uint64_t>& others = {}) {
    for (int i = 0; i < seconds; ++i) {
      (down ? status.bytes_down : status.bytes_up) += bytes_per_second;
      bench.say(PeerId(peer), status);
      bench.live(1s, others);
    }
  }
};

constexpr int kLeaseSeconds = 30;

}  // namespace

TEST_CASE("a push or a shadow that takes longer than the lease's time is a sign of work, and not for ever") {
  CoordinatorBench bench(patient());
  bench.start(1, 2);
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  Mover mover{bench, 2};
  mover.down = GENERATE(false, true);
  mover.move(kLeaseSeconds * kUnsettledLeasesMax - 1, {1});
  CHECK(bench.to<Fenced>(PeerId(2)).empty());
  mover.move(2, {1});
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
}

TEST_CASE("what a worker says that does nothing is no transfer, however long the lease's time is") {
  CoordinatorOptions options = patient();
  options.lease_timeout = 10min;
  CoordinatorBench bench(options);
  bench.start();
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  Mover mover{bench, 1, 1000};  // two minutes would be 120 KB
  mover.move(599);
  CHECK(bench.core.worker_count() == 1);
  mover.move(2);
  CHECK(bench.core.worker_count() == 0);
}

TEST_CASE("figures that shrink are no transfer") {
  CoordinatorBench bench(patient());
  bench.start();
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  WorkerStatus status = CoordinatorBench::status();
  status.bytes_up = ~std::uint64_t{0};
  for (int i = 0; i < 32; ++i) {
    status.bytes_up -= 1'000'000;
    bench.say(PeerId(1), status);
    bench.wait(1s);
  }
  CHECK(bench.core.worker_count() == 0);
}

TEST_CASE("a worker of a deterministic job has the time that the download of its shadow takes") {
  CoordinatorBench bench(patient());
  bench.start(1, 2, true);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  Mover mover{bench, 2, 10'000, true};
  for (int i = 0; i < 100; ++i) {
    bench.say(PeerId(1), CoordinatorBench::status(true));
    mover.move(1);
  }
  CHECK(bench.core.worker_count() == 2);
}

TEST_CASE("last updates that are under way are waited for, and not for ever") {
  CoordinatorBench bench(patient());
  bench.start(1, 2);
  bench.train_all(1, 1);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  Mover mover{bench, 2};
  mover.move(kLeaseSeconds * kUnsettledLeasesMax - 1, {1});
  CHECK(bench.to<Rest>(kShard).empty());
  mover.move(2, {1});
  CHECK(bench.to<Rest>(kShard).size() == 1);
}

TEST_CASE("a cut that is being fetched is waited for, and not for ever") {
  CoordinatorBench bench(patient());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.train(2, 2, 0);
  bench.take_cut();
  bench.evaluate(1);
  const std::size_t asked = bench.to<EvaluationLease>(PeerId(1)).size();
  Mover mover{bench, 2, 10'000, true};
  mover.move(kLeaseSeconds * kUnsettledLeasesMax - 1, {1});
  CHECK(bench.to<EvaluationLease>(PeerId(1)).size() == asked);
  mover.move(2, {1});
  CHECK(bench.to<EvaluationLease>(PeerId(1)).size() > asked);
}

TEST_CASE("the cuts that a worker evaluates are no part of the time that its round has, each of them once") {
  CoordinatorBench bench(patient());
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.train(2, 2, 0);
  bench.take_cut();
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  Mover mover{bench, 2, 10'000, true};
  mover.move(kLeaseSeconds * kUnsettledLeasesMax - 10, {1});
  bench.evaluate(2);
  mover.move(kLeaseSeconds * kUnsettledLeasesMax - 1, {1});
  CHECK(bench.to<Fenced>(PeerId(2)).empty());
  bench.evaluate(2);  // again: nobody waits for it
  mover.move(2, {1});
  CHECK(bench.to<Fenced>(PeerId(2)).size() == 1);
}

TEST_CASE("a job whose only worker is cut off for minutes goes on with the lease that it had") {
  CoordinatorBench bench;  // the daemons' own times
  bench.start();
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  const LeaseGrant grant = bench.to<LeaseGrant>(PeerId(1)).back();
  for (int i = 0; i < 9 * 60; ++i) bench.wait(1s);
  CHECK(bench.state(1) == MemberState::kSuspended);
  bench.say(PeerId(1), CoordinatorBench::status());
  CHECK(bench.state(1) == MemberState::kActive);
  bench.say(kShard,
            SettleReport{JobId(1), {{IncarnationOrder(1), Sequence(0), Round(0), grant.lease, grant.range}}});
  CHECK(bench.view().samples == grant.range.size());
  bench.train_all(1, 1, 1);
  CHECK(bench.to<Fenced>(PeerId(1)).empty());
}
