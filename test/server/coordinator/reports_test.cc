// Goal: what operators see of jobs and workers is what happened, at every stage of a job.
// Method: one core, with messages of a shard and of workers made by hand; the time is the test's.
#include "common/tensor/parameter_space.h"
#include "server/coordinator/coordinator_core.h"
#include "test/server/coordinator/coordinator_bench.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

struct Bench {
  CoordinatorCore core{CoordinatorOptions{1, 10s, 60s, 600s}};
  ProtocolTime now{1h};

  void say(PeerId peer, Message message) {
    core.on_event(now, MessageReceived{peer, std::move(message)});
    collect();
  }
  void collect() {
    for (auto& action : core.take_actions()) {
      if (auto* send = std::get_if<SendMessage>(&action)) sent.push_back(*send);
      if (std::holds_alternative<CoordinatorCore::PlanModel>(action)) plan = true;
      if (std::holds_alternative<CoordinatorCore::SaveResult>(action)) save = true;
    }
    if (std::exchange(plan, false)) {
      core.on_event(now,
                    CoordinatorCore::ModelPlanned{JobId(1), CoordinatorCore::PlannedModel{kBlockSize, 5}});
      collect();
    }
  }
  void connect(PeerId peer, PeerRole role) {
    Hello hello;
    hello.role = role;
    core.on_event(now, PeerConnected{peer, hello});
  }
  void add_shard() {
    connect(kShard, PeerRole::kShard);
    say(kShard, RegisterShard{"server", "tcp://x:1", 1, "", JobId()});
  }
  void add_worker(std::uint64_t peer) {
    RegisterWorker worker;
    worker.name = "w" + std::to_string(peer);
    worker.site = "asuncion";
    worker.device = "cpu";
    connect(PeerId(peer), PeerRole::kWorker);
    say(PeerId(peer), worker);
  }
  void submit(std::uint64_t id, std::uint32_t workers, std::optional<double> target = {}) {
    JobPlan job;
    job.id = JobId(id);
    job.name = "a job";
    job.epochs = 2;
    job.batch_size = 10;
    job.workers_to_start = workers;
    job.target_accuracy = target;
    core.on_event(now, CoordinatorCore::SubmitJob{job});
    collect();
  }
  void prepare(std::uint64_t peer) {
    const DataDescription data{20, 10, 1, 28, 28, 10, 3};
    say(PeerId(peer), JobPrepared{JobId(1), data, 5});
  }
  /// The lease that a worker was lent last.
  LeaseGrant lease(std::uint64_t peer) {
    for (auto it = sent.rbegin(); it != sent.rend(); ++it)
      if (const auto* grant = std::get_if<LeaseGrant>(&it->message);
          grant != nullptr && it->peer == PeerId(peer))
        return *grant;
    FAIL("no lease");
    return {};
  }
  /// A worker of order `order` at `peer` trains and settles one round.
  void train(std::uint64_t peer, std::uint64_t order, std::uint64_t round) {
    say(PeerId(peer), LeaseRequest{JobId(1)});
    const LeaseGrant grant = lease(peer);
    SettleReport report{JobId(1), {}};
    report.entries.push_back(
        {IncarnationOrder(order), Sequence(round), Round(round), grant.lease, grant.range, false});
    say(kShard, report);
  }
  template <class M>
  std::vector<M> all() const {
    std::vector<M> found;
    for (const SendMessage& send : sent)
      if (const auto* m = std::get_if<M>(&send.message)) found.push_back(*m);
    return found;
  }
  JobReport job(std::uint64_t id = 1) const { return *core.job_report(now, JobId(id)); }

  std::vector<SendMessage> sent;
  bool plan = false, save = false;
};

}  // namespace

TEST_CASE("a job's report follows it from the queue to its model") {
  Bench bench;
  bench.submit(1, 2, 0.5);
  CHECK(bench.job().state == JobState::kQueued);
  CHECK(bench.job().waiting_for == "1 shard (0 are here)");
  CHECK_FALSE(bench.core.job_report(bench.now, JobId(2)));
  bench.add_shard();
  CHECK(bench.job().state == JobState::kRunning);
  CHECK(bench.job().waiting_for == "2 workers (0 are here)");
  bench.add_worker(1);
  CHECK(bench.job().waiting_for == "2 workers (1 is here)");
  bench.add_worker(2);
  CHECK(bench.job().waiting_for == "2 workers to read the data (0 are ready)");
  CHECK(bench.core.workers_report(bench.now).workers[0].state == "preparing");
  bench.prepare(1);
  CHECK(bench.core.workers_report(bench.now).workers[0].state == "ready");
  CHECK(bench.job().epoch == 0);
  bench.prepare(2);
  CHECK(bench.job().waiting_for == "the shards to take the model");
  bench.say(kShard, ShardOpened{JobId(1)});
  CHECK(bench.job().waiting_for.empty());
  CHECK(bench.job().epoch == 1);
  CHECK(bench.job().samples_total == 40);
  CHECK(bench.job().workers == 2);
  CHECK(bench.core.workers_report(bench.now).workers[0].state == "active");

  bench.submit(2, 1);
  CHECK(bench.job(2).waiting_for == "job 1, which runs");
  CHECK(bench.core.job_reports(bench.now).size() == 2);

  std::uint64_t round[2] = {0, 0};
  for (int i = 0; bench.job().samples < 20; ++i) {
    bench.now += 1s;
    const auto worker = static_cast<std::uint64_t>(i % 2);
    bench.train(worker + 1, worker + 1, round[worker]++);
  }
  CHECK(bench.job().epoch == 2);
  CHECK(bench.job().samples_per_s > 0);
  REQUIRE(bench.job().figures.size() == 1);
  CHECK_FALSE(bench.job().figures[0].accuracy);
  bench.now += 7s;
  CHECK(bench.job().waiting_for.starts_with("worker 'w"));
  CHECK(bench.job().waiting_for.find("which has finished no round for ") != std::string::npos);

  // The first epoch's evaluation arrives in the second epoch.
  const SharedBytes values = SharedBytes::take(std::vector<float>(kBlockSize));
  const TakeCut cut = bench.all<TakeCut>().at(0);
  bench.say(kShard, CutTaken{JobId(1), cut.cut, Version(1), {}, values});
  for (const SendMessage& send : std::vector(bench.sent))
    if (const auto* m = std::get_if<EvaluationLease>(&send.message))
      bench.say(send.peer,
                EvaluationDone{JobId(1), m->lease, (m->end - m->begin) / 2, m->end - m->begin, 3.0});
  CHECK(bench.job().accuracy.has_value());
  CHECK(bench.job().figures[0].accuracy == bench.job().accuracy);
  CHECK(bench.job().test_loss == Approx(1.2));
  CHECK_FALSE(bench.job().target_met);

  WorkerStatus status;
  status.job = JobId(1);
  status.clock = Round(1);
  status.samples = 10;
  status.loss_sum = 5;
  status.compute_seconds = 3;
  status.stall.gate = 1;
  status.bytes_up = 1000;
  status.bytes_down = 2000;
  status.staleness = 2;
  status.round_trip_seconds = 0.18;
  bench.say(PeerId(1), status);
  CHECK(bench.job().stall_fraction == 0.25);
  CHECK(bench.job().loss == 0.5);
  CHECK(bench.job().staleness == 1.0);
  const WorkerReport worker = bench.core.workers_report(bench.now).workers[0];
  CHECK(worker.name == "w1");
  CHECK(worker.job == JobId(1));
  CHECK(worker.clock == 1u);
  CHECK(worker.stall_fraction == 0.25);
  CHECK(worker.bytes_down == 2000);
  CHECK(worker.round_trip_s == 0.18);
  bench.now += 4s;
  CHECK(bench.core.workers_report(bench.now).workers[0].last_heard_s == 4.0);

  // A worker leaves: what it sent stays counted.
  bench.say(PeerId(1), Leave{});
  CHECK(bench.job().bytes_up == 1000);
  CHECK(bench.job().workers == 1);
  CHECK(bench.core.workers_report(bench.now).workers.size() == 1);
  bench.say(kShard, FenceDone{JobId(1), IncarnationOrder(1), Sequence(1)});

  while (bench.job().samples < 40) bench.train(2, 2, round[1]++);
  const double trained = bench.job().training_seconds;
  bench.now += 3s;
  CHECK(bench.job().training_seconds == trained);
  CHECK(bench.job().epoch == 2);
  CHECK(bench.job().waiting_for == "the last updates of 1 worker");
  bench.say(PeerId(2), ResidualFlushed{JobId(1)});
  CHECK(bench.job().waiting_for == "the shards to come to rest");
  bench.say(kShard, ShardAtRest{JobId(1), Version(2)});
  CHECK(bench.job().waiting_for == "the evaluation");
  bench.sent.erase(bench.sent.begin(), bench.sent.end() - 1);
  bench.say(kShard, CutTaken{JobId(1), bench.all<TakeCut>().at(0).cut, Version(2), {}, values});
  for (const SendMessage& send : std::vector(bench.sent))
    if (const auto* m = std::get_if<EvaluationLease>(&send.message))
      bench.say(send.peer, EvaluationDone{JobId(1), m->lease, m->end - m->begin, m->end - m->begin, 1.0});
  CHECK(bench.job().waiting_for == "the model to be written");
  REQUIRE(bench.save);
  bench.core.on_event(bench.now, CoordinatorCore::ResultSaved{JobId(1), Status()});
  CHECK(bench.job().state == JobState::kDone);
  CHECK(bench.job().target_met == true);
  CHECK(bench.job().accuracy == 1.0);
  CHECK(bench.job().figures.size() == 2);
  CHECK(bench.job().waiting_for.empty());
  CHECK_FALSE(bench.job().eta_s);

  // The final status of the worker that was there to the end arrives after it.
  status.bytes_up = 500;
  bench.say(PeerId(2), status);
  CHECK(bench.job().bytes_up == 1500);
  CHECK(bench.job().training_seconds == trained);
}

TEST_CASE("a job whose workers are silent or gone says so, and a cancelled one keeps its figures") {
  Bench bench;
  bench.add_shard();
  bench.add_worker(1);
  bench.submit(1, 1, 0.9);
  bench.prepare(1);
  bench.say(kShard, ShardOpened{JobId(1)});
  bench.now += 1s;
  bench.train(1, 1, 0);
  const std::uint64_t samples = bench.job().samples;
  CHECK(samples > 0);
  bench.now += 20s;
  bench.core.on_deadline(bench.now);
  CHECK(bench.job().waiting_for == "1 worker that went silent");
  CHECK(bench.core.workers_report(bench.now).workers[0].state == "suspended");
  CHECK(bench.job().workers == 0);
  bench.now += 60s;
  bench.core.on_deadline(bench.now);
  CHECK(bench.job().waiting_for == "a worker (none is left)");
  bench.core.on_event(bench.now, CoordinatorCore::CancelJob{JobId(1)});
  const JobReport report = bench.job();
  CHECK(report.state == JobState::kCancelled);
  CHECK(report.reason == "cancelled by an operator");
  CHECK(report.samples == samples);
  CHECK(report.samples_total == 40);
  CHECK(report.training_seconds > 0);
  CHECK_FALSE(report.target_met);
  bench.now += 1h;
  CHECK(bench.job().training_seconds == report.training_seconds);
}

TEST_CASE("operators see for whom the gate waits, what is lent, and since when somebody is silent") {
  Bench bench;
  CHECK_FALSE(bench.core.workers_report(bench.now).membership);
  bench.add_shard();
  for (std::uint64_t w = 1; w <= 3; ++w) bench.add_worker(w);
  bench.submit(1, 3);
  for (std::uint64_t w = 1; w <= 3; ++w) bench.prepare(w);
  CHECK_FALSE(bench.core.workers_report(bench.now).membership);
  bench.say(kShard, ShardOpened{JobId(1)});
  bench.train(1, 1, 0);
  bench.say(PeerId(1), LeaseRequest{JobId(1)});
  bench.say(PeerId(2), LeaseRequest{JobId(1)});
  WorkersReport report = bench.core.workers_report(bench.now);
  REQUIRE(report.membership);
  CHECK(report.membership->job == JobId(1));
  CHECK(report.membership->epoch == 1);
  CHECK(report.membership->active == 3);
  CHECK(report.membership->smallest_clock == 0u);
  CHECK(report.membership->gate_waits_for.empty());  // nobody waits
  WorkerStatus status;
  status.job = JobId(1);
  bench.say(PeerId(2), status);
  bench.say(PeerId(3), status);
  status.at_gate = true;
  bench.say(PeerId(1), status);
  bench.now += 4s;
  report = bench.core.workers_report(bench.now);
  CHECK(report.membership->gate_waits_for == std::vector<std::string>{"w2", "w3"});
  CHECK(report.workers[0].at_gate);
  CHECK_FALSE(report.workers[0].slowest);
  CHECK(report.workers[0].clock == 1u);
  CHECK(report.workers[0].entry_clock == 0u);
  CHECK(report.workers[0].leased_samples == 10);
  CHECK(report.workers[1].slowest);
  CHECK(report.workers[1].last_heard_s == 4.0);
  CHECK(report.workers[2].leased_samples == 0);
  bench.say(PeerId(2), status);  // the slowest says that it waits: so it did a moment ago
  report = bench.core.workers_report(bench.now);
  CHECK(report.membership->gate_waits_for == std::vector<std::string>{"w2", "w3"});
  CHECK_FALSE(report.workers[1].at_gate);

  status.at_gate = false;
  bench.now += 10s;
  bench.say(PeerId(1), status);
  bench.core.on_deadline(bench.now);
  report = bench.core.workers_report(bench.now);
  CHECK(report.membership->epoch == 2);
  CHECK(report.membership->active == 1);
  CHECK(report.membership->smallest_clock == 1u);
  CHECK(report.workers[1].state == "suspended");
  CHECK(report.workers[1].leased_samples == 10);
  CHECK_FALSE(report.workers[1].slowest);
}

TEST_CASE("operators see the last ones that are gone, the newest first, and why") {
  Bench bench;
  for (std::uint64_t w = 1; w <= kGoneMax + 2; ++w) {
    bench.add_worker(w);
    bench.say(PeerId(w), Leave{});
    bench.now += 1s;
  }
  bench.add_worker(50);
  bench.add_worker(50);
  bench.core.on_event(bench.now, PeerClosed{PeerId(50), "silent", false});
  bench.now += 2s;
  const std::vector<GoneReport> gone = bench.core.workers_report(bench.now).gone;
  REQUIRE(gone.size() == kGoneMax);
  CHECK(gone[0].name == "w50");
  CHECK(gone[0].reason == "its session ended: silent");
  CHECK(gone[0].seconds_ago == 2.0);
  CHECK(gone[1].reason == "it has begun a new life");
  CHECK(gone[1].order < gone[0].order);
  CHECK(gone[2].reason == "it has left");
  CHECK(gone[2].site == "asuncion");
  CHECK(gone[2].seconds_ago == 3.0);
  CHECK_FALSE(gone[2].job);
  CHECK(gone.back().order == IncarnationOrder(5));
}
