// A coordinator whose process ends, and one that goes on with its log.
#include <functional>

#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

CoordinatorOptions durable() {
  CoordinatorOptions options = quick();
  options.durable = true;
  options.save_every = 0ms;
  return options;
}

/// A job of one worker and one shard, both of which come back.
struct Restarts : CoordinatorBench {
  Restarts() : CoordinatorBench(durable()) {}

  /// The process ends, once all is written; the next one has its log.
  void restart(bool complete = true) {
    wait(kSaveIdleEvery);
    crash(complete);
  }
  void crash(bool complete = true) {
    now += 1h;
    Result<CoordinatorCore> recovered = CoordinatorCore::recover(options, now, snapshot, log, complete);
    REQUIRE(recovered.ok());
    core = std::move(recovered).value();
    sent.clear();
    notes.clear();
    logged = 0;
    collect();
  }
  void shard_returns(std::uint64_t epoch, std::uint64_t index = 0) {
    connect(shard(index), PeerRole::kShard);
    RegisterShard again{"nyc", "tcp://x:1", static_cast<std::uint32_t>(index + 1), "", JobId(1)};
    again.epoch = MembershipEpoch(epoch);
    again.key = key_of(again.job);
    say(shard(index), again);
  }
  void worker_returns(std::uint64_t peer, std::uint64_t order, JobId job = JobId(1)) {
    RegisterWorker worker;
    worker.name = fmt::format("w{}", peer);
    worker.incarnation.words = {peer, 1};
    worker.order = IncarnationOrder(order);
    worker.job = job;
    connect(PeerId(peer), PeerRole::kWorker);
    say(PeerId(peer), worker);
  }
  /// From what the worker was lent to all that is left.
  void finish(std::uint64_t peer, std::uint64_t order, std::uint64_t round) {
    train_all(peer, order, round);
    if (!to<FlushResidual>(PeerId(peer)).empty()) say(PeerId(peer), ResidualFlushed{JobId(1)});
    end_well(peer);
  }
  void end_well(std::uint64_t peer) {
    if (!to<Rest>(kShard).empty()) say(kShard, ShardAtRest{JobId(1), Version(5)});
    for (const TakeCut& cut : to<TakeCut>(kShard))
      say(kShard, CutTaken{JobId(1), cut.cut, Version(1), {}, values()});
    evaluate(peer);
    core.on_event(now, CoordinatorCore::ResultSaved{JobId(1), {}});
    collect();
  }

  CoordinatorOptions options = durable();
};

}  // namespace

TEST_CASE("a job goes on where the coordinator's log ends, and every sample counts once") {
  Restarts bench;
  bench.evaluate_every = 0;
  bench.start();
  bench.train(1, 1, 0);
  const LeaseGrant held = bench.lent[1];
  REQUIRE(held.range.size() > 0);
  REQUIRE(bench.view().samples == 10);
  bench.restart();
  CHECK(bench.view().state == JobState::kRunning);
  CHECK(bench.view().samples == 10);
  CHECK(bench.core.worker_count() == 1);
  const auto waiting_for = [&] { return bench.core.job_report(bench.now, JobId(1))->waiting_for; };
  CHECK(waiting_for() == "shard 0 of 'nyc', which is away");
  bench.shard_returns(bench.core.epoch().value());
  CHECK(bench.to<Membership>(kShard).empty());  // it knows the newest
  // Nobody has confirmed what the shard had reported; it says it again.
  bench.say(
      kShard,
      SettleReport{JobId(1), {{IncarnationOrder(1), Sequence(0), Round(0), held.lease, {{}, 0, 10}}}, 1});
  CHECK(bench.view().samples == 10);
  CHECK(waiting_for() == "1 worker to come back");
  bench.worker_returns(1, 1);
  CHECK(waiting_for().empty());
  CHECK(bench.to<Registered>(PeerId(1)).back().order == IncarnationOrder(1));
  const std::vector<LeaseGrant> again = bench.to<LeaseGrant>(PeerId(1));
  REQUIRE(again.size() == 1);
  CHECK(again[0].lease == held.lease);
  CHECK(again[0].range == held.range);
  CHECK(again[0].entry_clock == Round(0));
  CHECK(bench.to<Fenced>(PeerId(1)).empty());
  bench.finish(1, 1, 1);
  CHECK(bench.view().state == JobState::kDone);
  CHECK(bench.view().samples == 40);
  CHECK(bench.view().repeated_samples == 0);
  CHECK(bench.view().figures.size() == 2);
}

TEST_CASE("what a shard has reported is confirmed once it is in the log; what is not there is said again") {
  Restarts bench;
  bench.start();
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  const LeaseGrant held = bench.to<LeaseGrant>(PeerId(1)).back();
  const SettleReport report{
      JobId(1), {{IncarnationOrder(1), Sequence(0), Round(0), held.lease, {DataEpoch(0), 0, 10}}}, 5};
  bench.say(kShard, report);
  REQUIRE(bench.view().samples == 10);
  CHECK(bench.to<SettleConfirmed>(kShard).empty());
  bench.crash();
  CHECK(bench.view().samples == 0);
  bench.shard_returns(bench.core.epoch().value());
  bench.say(kShard, report);
  CHECK(bench.view().samples == 10);
  bench.wait(kSaveIdleEvery);
  CHECK(bench.to<SettleConfirmed>(kShard).back().number == 5);
  bench.crash();
  CHECK(bench.view().samples == 10);
}

TEST_CASE("whatever the phase in which the coordinator's process ends, the job ends well") {
  for (int last = 0; last <= 7; ++last) {
    CAPTURE(last);
    Restarts bench;
    bench.start();
    int step = 0;
    // True if the process has ended here.
    const auto pass = [&] {
      if (step++ != last) return false;
      bench.restart();
      bench.shard_returns(bench.core.epoch().value());
      bench.worker_returns(1, 1);
      return true;
    };
    bench.train(1, 1, 0);
    pass();
    bench.train(1, 1, 1);
    pass();  // with a cut of the first epoch that nobody has answered
    bench.take_cut();
    pass();  // with one that nobody has evaluated
    if (last == 2) bench.take_cut();
    bench.evaluate(1);
    REQUIRE(bench.view().figures.size() == 1);
    bench.train(1, 1, 2);
    bench.train(1, 1, 3);
    pass();
    REQUIRE(bench.to<FlushResidual>(PeerId(1)).size() == 1);
    bench.say(PeerId(1), ResidualFlushed{JobId(1)});
    pass();
    REQUIRE(bench.to<Rest>(kShard).size() == 1);
    bench.say(kShard, ShardAtRest{JobId(1), Version(5)});
    pass();
    bench.take_cut();
    if (pass()) bench.take_cut();
    bench.evaluate(1);
    REQUIRE(bench.view().figures.size() == 2);
    REQUIRE(bench.saves == 1);
    if (pass()) {  // the result is on no disk: the cut is taken again, and not evaluated
      bench.take_cut();
      CHECK(bench.to<EvaluationLease>(PeerId(1)).empty());
      REQUIRE(bench.saves == 2);
    }
    bench.core.on_event(bench.now, CoordinatorCore::ResultSaved{JobId(1), {}});
    bench.collect();
    REQUIRE(bench.view().state == JobState::kDone);
    CHECK(bench.view().samples == 40);
    CHECK(bench.view().repeated_samples == 0);
    REQUIRE(bench.view().figures.size() == 2);
    for (const EpochFigures& figures : bench.view().figures) CHECK(figures.total == 10);
  }
}

TEST_CASE("a final cut that was evaluated before an earlier one is taken again, and not evaluated") {
  Restarts bench;
  bench.start();
  bench.train(1, 1, 0);
  bench.train(1, 1, 1);
  const CutId first = bench.to<TakeCut>(kShard).back().cut;
  bench.train(1, 1, 2);
  bench.train(1, 1, 3);
  bench.say(PeerId(1), ResidualFlushed{JobId(1)});
  bench.say(kShard, ShardAtRest{JobId(1), Version(5)});
  REQUIRE(bench.to<TakeCut>(kShard).back().cut != first);
  bench.take_cut();
  bench.evaluate(1);
  REQUIRE(bench.view().figures.size() == 1);
  REQUIRE(bench.saves == 0);
  bench.restart();
  bench.shard_returns(bench.core.epoch().value());
  bench.worker_returns(1, 1);
  const auto cuts = bench.to<TakeCut>(kShard);
  REQUIRE(cuts.size() >= 2);
  for (std::size_t i = cuts.size() - 2; i < cuts.size(); ++i)
    bench.say(kShard, CutTaken{JobId(1), cuts[i].cut, Version(1), {}, CoordinatorBench::values()});
  for (const EvaluationLease& lease : bench.to<EvaluationLease>(PeerId(1)))
    CHECK(lease.cut == cuts[cuts.size() - 2].cut);
  bench.evaluate(1);
  CHECK(bench.view().figures.size() == 2);
  CHECK(bench.saves == 1);
}

TEST_CASE("what an event says waits for an entry that holds what it has changed") {
  CoordinatorOptions options = durable();
  options.save_every = 20ms;
  CoordinatorCore core(options);
  const ProtocolTime begin{1h};
  JobPlan plan;
  plan.id = JobId(1);
  core.on_event(begin, CoordinatorCore::SubmitJob{plan});
  std::vector<CoordinatorCore::Action> actions = core.take_actions();
  REQUIRE(actions.size() == 3);
  CHECK(std::holds_alternative<CoordinatorCore::StateChanged>(actions[0]));
  CHECK(std::holds_alternative<CoordinatorCore::JobChanged>(actions[1]));
  CHECK(std::holds_alternative<AppendLog>(actions[2]));
  // One entry at a time...
  plan.id = JobId(2);
  core.on_event(begin + 30ms, CoordinatorCore::SubmitJob{plan});
  actions = core.take_actions();
  REQUIRE(actions.size() == 2);
  CHECK(std::holds_alternative<CoordinatorCore::StateChanged>(actions[0]));
  core.on_durable(1);
  CHECK(core.next_deadline() <= begin + 30ms);
  core.on_deadline(begin + 31ms);
  actions = core.take_actions();
  REQUIRE(actions.size() == 1);
  CHECK(std::holds_alternative<AppendLog>(actions[0]));
  core.on_durable(2);
  // ...and one in so long.
  plan.id = JobId(3);
  core.on_event(begin + 40ms, CoordinatorCore::SubmitJob{plan});
  CHECK(core.take_actions().size() == 2);
  CHECK(core.next_deadline() == begin + 51ms);
  core.on_deadline(begin + 51ms);
  CHECK(core.take_actions().size() == 1);
  core.on_durable(3);
  // Without a job nothing is written.
  CHECK(core.next_deadline() > begin + 900ms);
  core.on_deadline(begin + 2s);
  CHECK(core.take_actions().empty());
}

TEST_CASE("jobs that were over, waited or had not begun to train are what they were") {
  Restarts bench;
  bench.start();
  bench.train_all(1, 1);
  bench.finish(1, 1, 4);
  REQUIRE(bench.view().state == JobState::kDone);
  bench.submit(2);
  bench.submit(3);
  REQUIRE(bench.view(2).state == JobState::kRunning);
  const double seconds = bench.core.job_report(bench.now, JobId(1))->training_seconds;
  bench.restart();
  CHECK(bench.view(1).state == JobState::kDone);
  CHECK(bench.view(1).figures.size() == 2);
  CHECK(bench.core.job_report(bench.now, JobId(1))->training_seconds == seconds);
  CHECK(bench.view(2).state == JobState::kQueued);
  CHECK(bench.view(3).state == JobState::kQueued);
  CHECK(bench.view(3).plan.key == CoordinatorBench::key_of(JobId(3)));
  // It begins again, with shards that may have been others' before.
  CHECK(bench.view(2).plan.key == CoordinatorBench::key_of(JobId(2)) + 1);
  bench.add_shard(0, JobId(2));
  CHECK(bench.to<CloseShard>(kShard).back().job == JobId(2));
  bench.add_worker(1);
  CHECK(bench.view(2).state == JobState::kRunning);
  CHECK(bench.to<PrepareJob>(PeerId(1)).back().job == JobId(2));
}

TEST_CASE("a worker that has begun anew meanwhile is another one, and what it held is lent again") {
  Restarts bench;
  bench.start();
  bench.train(1, 1, 0);
  const bool names_no_job = GENERATE(true, false);
  bench.restart();
  bench.shard_returns(2);
  if (names_no_job)
    bench.worker_returns(1, 1, JobId());
  else
    bench.worker_returns(1, 7);
  const IncarnationOrder order = bench.to<Registered>(PeerId(1)).back().order;
  CHECK(order == IncarnationOrder(2));
  REQUIRE(bench.to<Fence>(kShard).size() == 1);
  CHECK(bench.to<Fence>(kShard).back().order == IncarnationOrder(1));
  bench.say(kShard, FenceDone{JobId(1), IncarnationOrder(1), Sequence(1)});
  bench.prepare(1);
  bench.lent.clear();
  bench.train(1, 2, 0);
  CHECK(bench.view().samples == 20);
}

TEST_CASE("who names the number that comes next is not given it: it would take itself for that one") {
  Restarts bench;
  bench.worker_returns(1, 1);
  CHECK(bench.to<Registered>(PeerId(1)).back().order == IncarnationOrder(2));
}

TEST_CASE("a worker that does not come back is suspended, then dead, and its samples are lent again") {
  Restarts bench;
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.train(2, 2, 0);
  bench.restart();
  bench.shard_returns(bench.core.epoch().value());
  bench.worker_returns(1, 1);
  bench.live(6s, {1});
  CHECK(bench.state(2) == MemberState::kSuspended);
  bench.live(16s, {1});
  CHECK(bench.to<Fence>(kShard).back().order == IncarnationOrder(2));
  CHECK(bench.core.worker_count() == 1);
}

TEST_CASE("a job that ends while one of its workers is away is over for it") {
  Restarts bench;
  bench.start();
  bench.train(1, 1, 0);
  bench.restart();
  bench.core.on_event(bench.now, CoordinatorCore::CancelJob{JobId(1)});
  bench.collect();
  CHECK(bench.core.worker_count() == 0);
  bench.worker_returns(1, 1);
  CHECK(bench.to<Registered>(PeerId(1)).back().order == IncarnationOrder(2));
  CHECK(bench.to<LeaseGrant>(PeerId(1)).empty());
}

TEST_CASE("a shard that has missed memberships is told, and asked for what it owes") {
  Restarts bench;
  bench.start(1, 2);
  bench.train(1, 1, 0);
  bench.close(PeerId(2));  // dead: the shard has to fence it
  const std::uint64_t epoch = bench.core.epoch().value();
  bench.restart();
  CHECK(bench.core.epoch() == MembershipEpoch(epoch));
  bench.shard_returns(epoch - 1);
  CHECK(bench.to<Membership>(kShard).back().epoch == MembershipEpoch(epoch));
  CHECK(bench.to<Membership>(kShard).back().members.size() == 1);
  CHECK(bench.to<Fence>(kShard).back().order == IncarnationOrder(2));
}

TEST_CASE("with its end lost the log's workers begin new lives, under numbers that nobody has had") {
  Restarts bench;
  bench.start();
  bench.train(1, 1, 0);
  bench.restart(false);
  CHECK(has(bench.notes, "has lost the end of its log"));
  bench.shard_returns(5);  // it has heard of memberships that the log does not hold
  CHECK(bench.core.epoch() > MembershipEpoch(5));
  CHECK(bench.to<Membership>(kShard).back().epoch == bench.core.epoch());
  CHECK(bench.to<Fence>(kShard).back().order == IncarnationOrder(1));
  bench.worker_returns(1, 1);
  CHECK(bench.to<Registered>(PeerId(1)).back().order > IncarnationOrder(1000));
}

TEST_CASE("a snapshot holds what the entries before it have made") {
  Restarts bench;
  bench.start();
  bench.train(1, 1, 0);
  std::string text(1 << 20, 'x');
  for (std::uint64_t id = 2; id < 9; ++id) {  // until the log is long enough
    JobPlan plan;
    plan.id = JobId(id);
    plan.spec_text = text;
    bench.core.on_event(bench.now, CoordinatorCore::SubmitJob{plan});
    bench.collect();
  }
  REQUIRE(bench.snapshot.has_value());
  CHECK(bench.log.size() < 6);
  bench.restart();
  CHECK(bench.view(1).samples == 10);
  for (std::uint64_t id = 2; id < 9; ++id) CHECK(bench.view(id).plan.spec_text == text);
}

TEST_CASE("an entry that is cut short or damaged is an error or another state, a newer one is refused") {
  Restarts bench;
  bench.start(2, 2);
  bench.train(1, 1, 0);
  const SharedBytes entry = bench.log.back();
  const std::vector<std::byte> bytes(entry.view().begin(), entry.view().end());
  const auto recover = [&](std::vector<std::byte> changed) {
    return CoordinatorCore::recover(durable(), bench.now, std::nullopt,
                                    {bench.log.front(), SharedBytes::take(std::move(changed))}, true);
  };
  REQUIRE(recover(bytes).ok());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto cut = recover({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
    REQUIRE(!cut.ok());
    CHECK(cut.error().code == ErrorCode::kCorrupt);
  }
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::vector<std::byte> flipped = bytes;
    flipped[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    (void)recover(std::move(flipped));
  }
  std::vector<std::byte> newer = bytes;
  newer[0] = std::byte{2};
  const auto refused = recover(newer);
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kRefused);
  CHECK(refused.error().message ==
        "a newer program has written entry 1 of the coordinator's log (format 2, this one knows 1)");
}
