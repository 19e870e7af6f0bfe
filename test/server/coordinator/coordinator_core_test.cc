// Goal: whoever dies, restarts or misbehaves, a job goes on or ends with its reason, and the coordinator
// stays. Method: one core; the test plays shards and workers (coordinator_bench.h).
#include <algorithm>

#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE("a shard server that has forgotten its job ends it, and serves the next one") {
  CoordinatorBench bench;
  bench.start();
  REQUIRE(bench.view().state == JobState::kRunning);
  bench.add_shard(0, JobId(1), PeerId(200));  // a new session of the same life
  CHECK(bench.view().state == JobState::kRunning);
  bench.add_shard(0, JobId(), PeerId(201));
  CHECK(bench.view().state == JobState::kFailed);
  CHECK(bench.view().reason == "a shard of 'nyc' was lost");
  bench.submit(2);
  bench.prepare(1, 2);
  bench.plan(2);
  CHECK(bench.to<OpenShard>(PeerId(201)).size() == 1);
}

TEST_CASE("a shard that restarts while it opens is asked again, also if it has opened") {
  CoordinatorBench bench;
  bench.add_shard(0);
  bench.add_shard(1);
  bench.add_worker(1);
  bench.submit();
  bench.prepare(1);
  bench.plan(1, 2 * kBlockSize);
  bench.say(CoordinatorBench::shard(0), ShardOpened{JobId(1)});
  bench.add_shard(0, JobId(), PeerId(200));
  CHECK(bench.to<OpenShard>(PeerId(200)).size() == 1);
  bench.say(CoordinatorBench::shard(1), ShardOpened{JobId(1)});
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  CHECK(bench.to<LeaseGrant>(PeerId(1)).empty());  // one shard has still to open
  bench.say(PeerId(200), ShardOpened{JobId(1)});
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  CHECK(bench.to<LeaseGrant>(PeerId(1)).size() == 1);
}

TEST_CASE("a shard that is away is waited for, and told what it has missed when it is back") {
  CoordinatorOptions options;
  options.lease_timeout = 5s;
  options.shard_timeout = 60s;
  CoordinatorBench bench(options);
  bench.start(1, 2);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  const MembershipEpoch known = bench.core.epoch();
  bench.close(CoordinatorBench::shard(0));
  bench.say(PeerId(2), Leave{});  // meanwhile
  bench.live(40s, {1});
  CHECK(bench.core.worker_count() == 1);  // nobody can settle anything: that is no fault of the worker
  REQUIRE(bench.view().state == JobState::kRunning);
  const bool comes_back = GENERATE(true, false);
  if (!comes_back) {
    bench.live(30s, {1});
    CHECK(bench.view().state == JobState::kFailed);
    CHECK(bench.view().reason == "shard 0 of 'nyc' has not come back within 60 s");
    return;
  }
  bench.connect(PeerId(200), PeerRole::kShard);
  RegisterShard back{"nyc", "tcp://x:1", 1, "", JobId(1), {}, CoordinatorBench::key_of(JobId(1))};
  back.epoch = known;
  bench.say(PeerId(200), back);
  const auto memberships = bench.to<Membership>(PeerId(200));
  REQUIRE(memberships.size() == 1);
  CHECK(memberships[0].epoch == bench.core.epoch());
  CHECK(memberships[0].earlier_active.size() == bench.core.epoch().value() - known.value() - 1);
  CHECK(memberships[0].members.size() == 1);
  REQUIRE(bench.to<Fence>(PeerId(200)).size() == 1);
  CHECK(bench.to<Fence>(PeerId(200))[0].order == IncarnationOrder(2));
  bench.live(4s, {1});
  CHECK(bench.core.worker_count() == 1);  // it has a whole lease's time again
}

TEST_CASE("a shard that brings a job which is over is told to close it") {
  CoordinatorBench bench;
  bench.add_shard(0, JobId(7));
  REQUIRE(bench.to<CloseShard>(CoordinatorBench::shard(0)).size() == 1);
  CHECK(bench.to<CloseShard>(CoordinatorBench::shard(0))[0].job == JobId(7));
}

TEST_CASE("a spare shard's loss ends no job; one lost before the model is shared out is replaced") {
  CoordinatorBench bench;
  bench.start();
  bench.add_shard(7);  // waits for the next job
  bench.close(CoordinatorBench::shard(7));
  CHECK(bench.view().state == JobState::kRunning);

  CoordinatorBench early;
  early.add_shard(0);
  early.add_worker(1);
  early.submit();
  early.close(CoordinatorBench::shard(0));
  CHECK(early.view().state == JobState::kRunning);
  early.prepare(1);
  CHECK(early.core.job_report(early.now, JobId(1))->waiting_for == "1 shard (0 are here)");
  early.plan();
  CHECK(early.view().state == JobState::kRunning);
  CHECK(early.to<OpenShard>(CoordinatorBench::shard(0)).empty());
  early.add_shard(1);
  REQUIRE(early.to<OpenShard>(CoordinatorBench::shard(1)).size() == 1);
  early.say(CoordinatorBench::shard(1), ShardOpened{JobId(1)});
  early.say(PeerId(1), LeaseRequest{JobId(1)});
  CHECK(early.to<LeaseGrant>(PeerId(1)).size() == 1);
}

TEST_CASE(
    "a worker that waits at the gate for another or computes for long has its lease's time from then on") {
  CoordinatorOptions options;
  options.suspend_after = options.dead_after = 10h;
  options.lease_timeout = 120s;
  const auto said = [](bool at_gate, std::uint64_t samples, double evaluation_seconds) {
    WorkerStatus status;
    status.job = JobId(1);
    status.at_gate = at_gate;
    status.samples = samples;
    status.evaluation_seconds = evaluation_seconds;
    return status;
  };
  CoordinatorBench bench(options);
  bench.start(1, 2);
  bench.train(1, 1, 0);  // it is a round ahead of the other one
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  bench.say(PeerId(1), said(true, 10, 0));
  bench.wait(100s);
  bench.say(PeerId(2), said(false, 10, 0));  // computed, not settled
  bench.wait(100s);
  CHECK(bench.core.worker_count() == 2);
  bench.say(PeerId(2), said(false, 20, 0));
  bench.say(PeerId(1), said(false, 10, 0));
  bench.wait(100s);
  CHECK(bench.core.worker_count() == 2);
  bench.say(PeerId(1), said(false, 20, 0));  // a round is computed, and on its way
  bench.say(PeerId(2), said(false, 30, 0));
  bench.wait(100s);
  CHECK(bench.core.worker_count() == 2);
  bench.say(PeerId(1), said(false, 20, 80));
  bench.say(PeerId(2), said(false, 40, 0));
  bench.wait(100s);
  CHECK(bench.core.worker_count() == 2);
  bench.say(PeerId(1), said(false, 20, 80));  // nothing new
  bench.say(PeerId(2), said(false, 50, 0));
  bench.wait(21s);
  CHECK(bench.core.worker_count() == 1);
  CHECK(bench.core.workers_report(bench.now).gone.at(0).name == "w1");
}

TEST_CASE("a job that all who are left have refused ends, also when the last other one dies") {
  CoordinatorBench bench;
  bench.add_shard(0);
  bench.add_worker(1);
  bench.add_worker(2);
  bench.submit(1, 2);
  bench.say(PeerId(1), JobRefused{JobId(1), "no such file"});
  CHECK(bench.view().state == JobState::kRunning);
  bench.close(PeerId(2));
  CHECK(bench.view().state == JobState::kFailed);
  CHECK(bench.view().reason == "no such file");

  // Without any worker it waits.
  bench.submit(2, 1);
  bench.close(PeerId(1));
  CHECK(bench.view(2).state == JobState::kRunning);
}

TEST_CASE("data without training samples, or of an absurd shape, is refused") {
  DataDescription data = CoordinatorBench::data();
  SECTION("no samples") { data.train_samples = 0; }
  SECTION("more samples than there are") { data.train_samples = ~std::uint64_t{0}; }
  SECTION("more test samples than there are") { data.test_samples = ~std::uint64_t{0}; }
  SECTION("no pixels") { data.height = 0; }
  SECTION("too many pixels") { data.width = data.height = 1u << 31; }
  SECTION("no classes") { data.classes = 0; }
  CoordinatorBench bench;
  bench.add_shard(0);
  bench.add_worker(1);
  bench.submit();
  bench.say(PeerId(1), JobPrepared{JobId(1), data, 5});
  CHECK(bench.plans.empty());
  CHECK(bench.view().state == JobState::kFailed);
  CHECK(bench.view().reason.find("its data") != std::string::npos);
}

TEST_CASE("settled pushes of workers that are not part of the job change nothing") {
  CoordinatorBench bench;
  bench.add_shard(0);
  bench.add_worker(1);
  bench.submit();
  const SettleReport report{
      JobId(1), {{IncarnationOrder(2), Sequence(0), Round(0), LeaseId(1), {DataEpoch(0), 0, 10}}}};
  bench.prepare(1);
  bench.plan();
  bench.say(CoordinatorBench::shard(0), report);  // before there is anything to settle
  bench.say(CoordinatorBench::shard(0), ShardOpened{JobId(1)});
  bench.add_worker(2);
  bench.say(CoordinatorBench::shard(0), report);
  CHECK(bench.view().state == JobState::kRunning);
  CHECK(bench.view().samples == 0);
  CHECK(bench.core.worker_count() == 2);
}

TEST_CASE("a worker cannot register as a shard, nor a shard as a worker") {
  CoordinatorBench bench;
  bench.connect(PeerId(1), PeerRole::kWorker);
  bench.connect(CoordinatorBench::shard(0), PeerRole::kShard);
  bench.say(PeerId(1), RegisterShard{"nyc", "tcp://x:1", 1, "", JobId()});
  bench.say(CoordinatorBench::shard(0), RegisterWorker{});
  CHECK(bench.closed == std::vector{PeerId(1), CoordinatorBench::shard(0)});
  // What came in one burst with it is heard before the session is closed.
  bench.say(PeerId(1), RegisterShard{"nyc", "tcp://x:1", 1, "", JobId()});
  bench.say(CoordinatorBench::shard(0), RegisterWorker{});
  CHECK(bench.core.worker_count() == 0);
  bench.submit();
  CHECK(bench.view().state == JobState::kQueued);
  bench.add_worker(1);
  bench.add_shard(0);
  CHECK(bench.core.worker_count() == 1);
  CHECK(bench.view().state == JobState::kRunning);
}

TEST_CASE("as many workers join a job as a membership can name, the others wait with a note") {
  CoordinatorBench bench;
  bench.start();
  for (std::uint64_t w = 1000; w < 1000 + kMembersMax; ++w) {
    bench.add_worker(w);
    bench.prepare(w);
  }
  const auto largest = [&] { return bench.to<Membership>(CoordinatorBench::shard(0)).back().members.size(); };
  CHECK(largest() == kMembersMax);
  CHECK(bench.to<JoinJob>(PeerId(1000 + kMembersMax - 1)).empty());
  CHECK(std::count_if(bench.notes.begin(), bench.notes.end(),
                      [](const std::string& note) { return note.find("waits") != std::string::npos; }) == 1);
  bench.close(PeerId(1000));
  CHECK(bench.to<JoinJob>(PeerId(1000 + kMembersMax - 1)).size() == 1);
  CHECK(largest() == kMembersMax);
}

TEST_CASE("a job whose rounds are longer than the lease's time ends with that reason, not never") {
  CoordinatorOptions options;
  options.suspend_after = options.dead_after = 10h;
  options.lease_timeout = 2s;
  CoordinatorBench bench(options);
  bench.start();
  for (int life = 0; life < 20 && bench.view().state == JobState::kRunning; ++life) {
    bench.say(PeerId(1), LeaseRequest{JobId(1)});
    bench.wait(3s);
    if (bench.view().state != JobState::kRunning) break;
    bench.add_worker(1);  // it starts over
    bench.prepare(1);
    for (const Fence& fence : bench.to<Fence>(CoordinatorBench::shard(0)))
      bench.say(CoordinatorBench::shard(0), FenceDone{JobId(1), fence.order, Sequence(0)});
  }
  CHECK(bench.view().state == JobState::kFailed);
  CHECK(bench.view().reason ==
        "no round was finished within the lease's time of 2 s, 5 times in a row: raise the server's "
        "membership.lease_timeout, or lower staleness.local_steps or training.batch_size");
}

TEST_CASE("near the end of a job a worker is lent at least what it computes in a round trip") {
  const auto ahead = [](double round_trip_seconds, double compute_seconds, JobId job) {
    CoordinatorBench bench;
    bench.start();  // four rounds of ten samples
    WorkerStatus status;
    status.job = job;
    status.samples = 100;
    status.compute_seconds = compute_seconds;
    status.round_trip_seconds = round_trip_seconds;
    bench.say(PeerId(1), status);
    bench.say(PeerId(1), LeaseRequest{JobId(1)});
    return bench.to<LeaseGrant>(PeerId(1)).at(0).ahead;
  };
  CHECK(ahead(0, 0, JobId(1)) == 20);  // half of them
  CHECK(ahead(0.2, 1, JobId(1)) == 30);
  CHECK(ahead(0.2, 1, JobId(2)) == 20);
  CHECK(ahead(0.2, 0, JobId(1)) == 20);
  CHECK(ahead(0, 1e-310, JobId(1)) == 20);  // no number: infinitely fast, and nothing to wait for
  CHECK(ahead(1e300, 1e-300, JobId(1)) == 40);
}

TEST_CASE("what a silent worker was to evaluate, another one evaluates") {
  CoordinatorOptions options;
  options.suspend_after = 5s;
  options.dead_after = 10h;
  CoordinatorBench bench(options);
  bench.start(1, 2);
  bench.train(1, 1, 0);  // 20 samples are two rounds: the first epoch
  bench.train(2, 2, 0);
  const std::vector<TakeCut> cuts = bench.to<TakeCut>(CoordinatorBench::shard(0));
  REQUIRE(cuts.size() == 1);
  CutTaken taken{JobId(1), cuts[0].cut, Version(1), {}, {}};
  taken.payload = SharedBytes::take(std::vector<float>(kBlockSize));
  bench.say(CoordinatorBench::shard(0), taken);
  const std::size_t first = bench.to<EvaluationLease>(PeerId(1)).size();
  REQUIRE(bench.to<EvaluationLease>(PeerId(2)).size() == 2);
  REQUIRE(first == 2);
  bench.wait(4s);
  bench.say(PeerId(1), WorkerStatus{});  // the other one says nothing
  bench.wait(2s);
  CHECK(bench.to<EvaluationLease>(PeerId(1)).size() == 4);
  CHECK(bench.to<EvaluationLease>(PeerId(2)).size() == 2);
}

TEST_CASE("a test set is evaluated in parts about as long as a round, but not too short or too many ones") {
  struct Case {
    std::uint64_t samples;
    std::uint32_t local_steps;  // of 10 samples
    std::size_t parts;
  };
  for (const auto& [samples, local_steps, parts] :
       {Case{10, 1, 4}, {1500, 1, 5}, {10'000, 100, 5}, {1'000'000, 1, 64}}) {
    CoordinatorBench bench({}, samples);
    bench.staleness.local_steps = local_steps;
    bench.start(1, 2);
    bench.train_all(1, 1);
    CutTaken taken{JobId(1), bench.to<TakeCut>(CoordinatorBench::shard(0)).at(0).cut, Version(1), {}, {}};
    taken.payload = SharedBytes::take(std::vector<float>(kBlockSize));
    bench.say(CoordinatorBench::shard(0), taken);
    std::vector<EvaluationLease> lent = bench.to<EvaluationLease>(PeerId(1));
    for (const EvaluationLease& lease : bench.to<EvaluationLease>(PeerId(2))) lent.push_back(lease);
    REQUIRE(lent.size() == parts);
    std::sort(lent.begin(), lent.end(),
              [](const EvaluationLease& a, const EvaluationLease& b) { return a.begin < b.begin; });
    std::uint64_t end = 0;
    for (const EvaluationLease& lease : lent) {
      CHECK(lease.begin == std::exchange(end, lease.end));
      CHECK(lease.end > lease.begin);
    }
    CHECK(end == samples);
  }
}

TEST_CASE("a model that is too large for the shards ends the job, which says how many it takes") {
  CoordinatorBench bench;
  bench.add_shard(0);
  bench.add_shard(1);
  bench.add_worker(1);
  bench.submit();
  bench.prepare(1);
  SECTION("it fits") {
    bench.plan(1, 2 * kShardParametersMax);
    CHECK(bench.view().state == JobState::kRunning);
    CHECK(bench.to<OpenShard>(CoordinatorBench::shard(1)).size() == 1);
  }
  SECTION("it does not") {
    bench.plan(1, 2 * kShardParametersMax + kBlockSize);
    CHECK(bench.view().state == JobState::kFailed);
    CHECK(
        bench.view().reason ==
        "the model's 83890176 parameters are too many for 2 shards: each holds at most 41943040, so that it "
        "takes 3");
    CHECK(bench.to<OpenShard>(CoordinatorBench::shard(1)).empty());
    bench.submit(2);
    bench.prepare(1, 2);
    CHECK(bench.plans.size() == 2);
  }
}

TEST_CASE("an evaluation within an epoch has the samples and the time of its cut, and is no checkpoint") {
  CoordinatorBench bench;
  bench.evaluate_every = 10;
  bench.start();
  const auto evaluated_for = [&](double evaluation_seconds) {
    WorkerStatus status = CoordinatorBench::status();
    status.evaluation_seconds = evaluation_seconds;
    bench.say(PeerId(1), status);
  };
  bench.now += 5s;
  bench.train(1, 1, 0);
  bench.now += 1s;
  bench.take_cut();
  bench.evaluate(1);
  evaluated_for(2);
  bench.now += 4s;
  bench.train(1, 1, 1);  // the end of an epoch has one of its own
  bench.take_cut();
  bench.evaluate(1);
  bench.now += 2s;
  bench.train(1, 1, 2);
  bench.take_cut();
  bench.evaluate(1);
  CHECK(bench.to<TakeCut>(CoordinatorBench::shard(0)).size() == 3);
  CHECK(bench.checkpoints == std::vector<std::uint32_t>{1});
  const JobReport report = *bench.core.job_report(bench.now, JobId(1));
  REQUIRE(report.evaluations.size() == 2);
  CHECK(report.evaluations[0].samples == 10);
  CHECK(report.evaluations[0].seconds == 5);
  CHECK(report.evaluations[0].evaluation_seconds == 0);
  CHECK(report.evaluations[0].accuracy == 1);
  CHECK(report.evaluations[0].test_loss == Approx(0.2));
  CHECK(report.evaluations[1].samples == 30);
  CHECK(report.evaluations[1].seconds == 12);
  CHECK(report.evaluations[1].evaluation_seconds == 2);
  REQUIRE(report.figures.size() == 1);
  CHECK(report.figures[0].seconds == 10);
  CHECK(report.figures[0].evaluation_seconds == 2);
  CHECK(report.evaluations_skipped == 0);
}

TEST_CASE("a shard that has another coordinator's job of the same number is told to close it") {
  CoordinatorBench bench(quick());
  bench.start();
  bench.close(kShard);
  const bool ours = GENERATE(false, true);
  bench.connect(PeerId(200), PeerRole::kShard);
  RegisterShard again{ours ? "renamed" : "nyc", "tcp://x:1", 1, "", JobId(1)};
  again.key = ours ? CoordinatorBench::key_of(again.job) : 7;
  bench.say(PeerId(200), again);
  CHECK(bench.to<CloseShard>(PeerId(200)).empty() == ours);
  CHECK(bench.view().state == (ours ? JobState::kRunning : JobState::kFailed));
  if (!ours) CHECK(bench.view().reason == "a shard of 'nyc' was lost");
}
