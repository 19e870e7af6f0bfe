#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/tensor/parameter_space.h"
#include "server/coordinator/coordinator_core.h"
#include "test/support/catch.h"

namespace nanduti {

/// The one shard of most tests.
inline constexpr PeerId kShard{100};

/// A coordinator without a network: the test plays the shards and the workers, in its own time.
struct CoordinatorBench {
  explicit CoordinatorBench(const CoordinatorOptions& options = {}, std::uint64_t of_test = 10)
      : core(options), test_samples(of_test) {}

  static std::uint64_t key_of(JobId job) { return job == JobId() ? 0 : 1000 + job.value(); }
  static PeerId shard(std::uint64_t index) { return PeerId(100 + index); }

  void say(PeerId peer, Message message) {
    core.on_event(now, MessageReceived{peer, std::move(message)});
    collect();
  }
  void close(PeerId peer) {
    core.on_event(now, PeerClosed{peer, "silent", false});
    collect();
  }
  void wait(Duration span) {
    now += span;
    core.on_deadline(now);
    collect();
  }
  static WorkerStatus status(bool at_gate = false) {
    WorkerStatus status;
    status.job = JobId(1);
    status.at_gate = at_gate;
    return status;
  }
  /// Time passes in which these workers are heard of, and nothing else.
  void live(Duration span, const std::vector<std::uint64_t>& peers) {
    const ProtocolTime end = now + span;
    while (now < end) {
      for (const std::uint64_t peer : peers) say(PeerId(peer), status());
      wait(std::chrono::seconds(1));
    }
  }
  void connect(PeerId peer, PeerRole role) {
    Hello hello;
    hello.role = role;
    core.on_event(now, PeerConnected{peer, hello});
    collect();
  }
  void collect() {
    for (auto& action : core.take_actions()) {
      if (auto* send = std::get_if<SendMessage>(&action)) sent.push_back(*send);
      if (auto* close = std::get_if<ClosePeer>(&action)) closed.push_back(close->peer);
      if (auto* note = std::get_if<CoordinatorCore::Note>(&action)) notes.push_back(note->text);
      if (auto* model = std::get_if<CoordinatorCore::PlanModel>(&action)) plans.push_back(model->job);
      if (std::holds_alternative<CoordinatorCore::SaveResult>(action)) ++saves;
      if (auto* save = std::get_if<CoordinatorCore::SaveCheckpoint>(&action))
        checkpoints.push_back(save->epoch);
      if (auto* append = std::get_if<AppendLog>(&action)) {
        log.push_back(append->pieces.at(0));
        core.on_durable(++logged);
      }
      if (auto* begin = std::get_if<BeginSnapshot>(&action)) {
        snapshot = begin->head;
        log.clear();
        core.on_event(now, SnapshotEnded{});
      }
    }
  }
  void add_shard(std::uint64_t index, JobId job = {}, std::optional<PeerId> peer = {}) {
    const auto number = static_cast<std::uint32_t>(index + 1);
    connect(peer.value_or(shard(index)), PeerRole::kShard);
    say(peer.value_or(shard(index)), RegisterShard{"nyc", "tcp://x:1", number, "", job, {}, key_of(job)});
  }
  void add_worker(std::uint64_t peer, std::string name = {}, std::string hardware = {}) {
    RegisterWorker worker;
    worker.name = name.empty() ? fmt::format("w{}", peer) : std::move(name);
    worker.hardware = std::move(hardware);
    worker.incarnation.words = {peer, 1};
    connect(PeerId(peer), PeerRole::kWorker);
    say(PeerId(peer), worker);
  }
  void submit(std::uint64_t id = 1, std::uint32_t workers = 1, bool deterministic = false) {
    JobPlan job;
    job.id = JobId(id);
    job.key = key_of(job.id);
    job.epochs = 2;
    job.batch_size = 10;
    job.staleness = staleness;
    job.evaluate_every = evaluate_every;
    job.workers_to_start = workers;
    job.deterministic = deterministic;
    core.on_event(now, CoordinatorCore::SubmitJob{job});
    collect();
  }
  static DataDescription data(std::uint64_t test_samples = 10) {
    return {20, test_samples, 1, 28, 28, 10, 3};
  }
  void prepare(std::uint64_t peer, std::uint64_t job = 1) {
    say(PeerId(peer), JobPrepared{JobId(job), data(test_samples), 5});
  }
  /// Completes PlanModel.
  void plan(std::uint64_t job = 1, std::uint64_t parameters = kBlockSize) {
    core.on_event(now,
                  CoordinatorCore::ModelPlanned{JobId(job), CoordinatorCore::PlannedModel{parameters, 5}});
    collect();
  }
  /// Until the workers train: `shards` shards, workers 1 to `workers`.
  void start(std::uint64_t shards = 1, std::uint64_t workers = 1, bool deterministic = false) {
    for (std::uint64_t k = 0; k < shards; ++k) add_shard(k);
    for (std::uint64_t w = 1; w <= workers; ++w) add_worker(w);
    submit(1, static_cast<std::uint32_t>(workers), deterministic);
    for (std::uint64_t w = 1; w <= workers; ++w) prepare(w);
    plan();
    for (std::uint64_t k = 0; k < shards; ++k) say(shard(k), ShardOpened{JobId(1)});
  }
  template <class M>
  [[nodiscard]] std::vector<M> to(PeerId peer) const {
    std::vector<M> found;
    for (const SendMessage& send : sent)
      if (const auto* m = std::get_if<M>(&send.message); m != nullptr && send.peer == peer)
        found.push_back(*m);
    return found;
  }
  /// The worker settles a round on shard 0: the next one of what it was lent by this, or of a new lease.
  void train(std::uint64_t peer, std::uint64_t order, std::uint64_t round) {
    LeaseGrant& grant = lent[order];
    if (grant.range.size() == 0) {
      say(PeerId(peer), LeaseRequest{JobId(1)});
      grant = to<LeaseGrant>(PeerId(peer)).back();
    }
    SampleRange range = grant.range;
    range.end = std::min(range.end, range.begin + 10);
    grant.range.begin = range.end;
    say(shard(0),
        SettleReport{JobId(1),
                     {{IncarnationOrder(order), Sequence(round), Round(round), grant.lease, range}}});
  }
  /// The worker trains until nothing is free; the first round is `round`. Returns the next one.
  std::uint64_t train_all(std::uint64_t peer, std::uint64_t order, std::uint64_t round = 0) {
    for (int i = 0; i < 10 && view().samples < view().samples_total; ++i) train(peer, order, round++);
    REQUIRE(view().samples == view().samples_total);
    return round;
  }
  /// Each shard answers the last cut.
  void take_cut(std::uint64_t shards = 1) {
    for (std::uint64_t k = 0; k < shards; ++k)
      say(shard(k), CutTaken{JobId(1), to<TakeCut>(shard(k)).back().cut, Version(1), {}, values()});
  }
  static SharedBytes values() { return SharedBytes::take(std::vector<float>(kBlockSize)); }
  /// The worker answers all evaluations that it was asked for.
  void evaluate(std::uint64_t peer) {
    for (const EvaluationLease& m : to<EvaluationLease>(PeerId(peer)))
      say(PeerId(peer), EvaluationDone{JobId(1), m.lease, m.end - m.begin, m.end - m.begin, 1.0});
  }
  /// What the last membership says of an incarnation.
  [[nodiscard]] std::optional<Member> member(std::uint64_t order) const {
    const Membership last = to<Membership>(shard(0)).back();
    for (const Member& member : last.members)
      if (member.order == IncarnationOrder(order)) return member;
    return std::nullopt;
  }
  [[nodiscard]] MemberState state(std::uint64_t order) const { return member(order).value().state; }
  [[nodiscard]] const CoordinatorCore::JobView& view(std::uint64_t id = 1) const {
    return *core.view(JobId(id));
  }

  std::uint64_t evaluate_every = 0;  ///< of jobs that are submitted
  StalenessPlan staleness;           ///< the same
  ProtocolTime now{std::chrono::hours(1)};
  CoordinatorCore core;
  std::uint64_t test_samples;
  std::map<std::uint64_t, LeaseGrant> lent;  // what train() has not used, by incarnation
  std::vector<SendMessage> sent;
  std::vector<PeerId> closed;
  std::vector<std::string> notes;
  std::vector<JobId> plans;
  int saves = 0;
  std::vector<std::uint32_t> checkpoints;  ///< their epochs
  std::optional<SharedBytes> snapshot;     ///< of a durable coordinator, and what its log holds since
  std::vector<SharedBytes> log;
  std::uint64_t logged = 0;  ///< by this process
};

/// Time-outs that a test can wait for.
inline CoordinatorOptions quick() {
  using namespace std::chrono_literals;
  CoordinatorOptions options;
  options.suspend_after = 5s;
  options.dead_after = 20s;
  options.lease_timeout = 30s;
  options.prepare_timeout = 60s;
  options.shard_timeout = 100s;
  return options;
}

inline bool has(const std::vector<std::string>& texts, std::string_view part) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

}  // namespace nanduti
