// Goal: whatever admitted workers send, and whatever pushes of theirs honest shards settle, the coordinator
// stays and the honest job comes to its end with every sample counted once (P5, P8). Method: two shards and
// two workers that behave, played by a queue of their answers, and three hostile peers that said in their
// hello that they are workers. The input decides who speaks next, the hostile messages, the pushes that
// hostile workers get settled, and the time. Then the hostile peers leave, and the job has to end well.
// Whatever has happened, a process that goes on with the log knows the same.
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "common/base/check.h"
#include "common/tensor/parameter_space.h"
#include "server/coordinator/coordinator_core.h"
#include "test/common/protocol/any_message.h"
#include "test/fuzz/fuzz_input.h"

namespace nanduti {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kPayloadValues = 16;  // of messages of any type
constexpr std::uint64_t kShards = 2;
constexpr std::uint64_t kHonestWorkers = 2;
constexpr std::uint64_t kHostilePeers = 3;
constexpr std::uint64_t kSamples = 40;
constexpr std::uint32_t kEpochs = 2;
constexpr std::uint64_t kRoundSamples = 10;
constexpr JobId kJob{1};
constexpr DataDescription kData{kSamples, 10, 1, 28, 28, 10, 3};

PeerId worker_peer(std::uint64_t index) { return PeerId(1 + index); }
PeerId hostile_peer(std::uint64_t index) { return PeerId(50 + index); }
PeerId shard_peer(std::uint64_t index) { return PeerId(100 + index); }

class Scene {
 public:
  explicit Scene(FuzzInput input) : input_(input), any_(input, kPayloadValues), core_(options()) {
    for (std::uint64_t k = 0; k < kShards; ++k) {
      connect(shard_peer(k), PeerRole::kShard);
      say(shard_peer(k), RegisterShard{"nyc", "tcp://x:1", static_cast<std::uint32_t>(1 + k), "", JobId()});
    }
    for (std::uint64_t w = 0; w < kHonestWorkers; ++w) {
      connect(worker_peer(w), PeerRole::kWorker);
      say(worker_peer(w), RegisterWorker{"honest", "asuncion", incarnation(w), "cpu", ""});
    }
    JobPlan plan;
    plan.id = kJob;
    plan.epochs = kEpochs;
    plan.batch_size = kRoundSamples;
    plan.workers_to_start = kHonestWorkers;
    happen(CoordinatorCore::SubmitJob{plan});
    // The first who reads the data says what they are: an honest one.
    deliver_one();
    for (std::uint64_t h = 0; h < kHostilePeers; ++h) join(h);
  }

  void run() {
    while (!input_.empty() && !is_over()) step();
    for (std::uint64_t h = 0; h < kHostilePeers; ++h) happen(PeerClosed{hostile_peer(h), "gone", false});
    for (std::size_t i = 0; i < kStepsMax && !is_over(); ++i)
      if (!deliver_one()) wait(1s);
    const CoordinatorCore::JobView& view = *core_.view(kJob);
    NANDUTI_CHECK(view.state == JobState::kDone, "the job is {}: '{}', {} of {} samples",
                  to_string(view.state), view.reason, view.samples, kSamples * kEpochs);
    NANDUTI_CHECK(view.samples == kSamples * kEpochs, "{} samples", view.samples);
    NANDUTI_CHECK(view.repeated_samples <= repeated_max_,
                  "{} samples repeated, at most {} were settled in part", view.repeated_samples,
                  repeated_max_);
    NANDUTI_CHECK(view.figures.size() == kEpochs);
    for (const EpochFigures& figures : view.figures) NANDUTI_CHECK(figures.total == kData.test_samples);
  }

 private:
  static constexpr std::size_t kStepsMax = 2000;

  static constexpr std::uint64_t kRecoverEvery = 8;

  static CoordinatorOptions options() {
    CoordinatorOptions options{kShards, 10s, 60s, 30s};
    options.durable = true;
    options.save_every = 0s;
    return options;
  }
  static IncarnationId incarnation(std::uint64_t index) {
    IncarnationId id;
    id.words = {1 + index, 1};
    return id;
  }

  [[nodiscard]] bool is_over() const {
    const JobState state = core_.view(kJob)->state;
    return state != JobState::kRunning && state != JobState::kQueued;
  }

  void step() {
    const std::uint64_t h = input_.below(kHostilePeers);
    switch (input_.below(10)) {
      case 0:
      case 1:
      case 2:
        (void)deliver_one();
        return;
      case 3:
        return say(hostile_peer(h), LeaseRequest{kJob});
      case 4:
      case 5:
        return settle_hostile_push(h);
      case 6:
        if (input_.below(4) == 0) {
          happen(PeerClosed{hostile_peer(h), "gone", false});
          join(h);
        } else if (input_.below(2) == 0) {
          say(hostile_peer(h), JobPrepared{kJob, kData, 5});
        } else {
          wait(Duration(std::chrono::milliseconds(input_.below(4000))));
        }
        return;
      default:
        return say(hostile_peer(h), any_.make());
    }
  }

  void join(std::uint64_t h) {
    connect(hostile_peer(h), PeerRole::kWorker);
    say(hostile_peer(h), RegisterWorker{"hostile", "asuncion", incarnation(10 + h), "cpu", ""});
  }

  /// A shard settles what a hostile worker has pushed: in sequence, with anything else in it.
  void settle_hostile_push(std::uint64_t h) {
    const auto order = orders_.find(hostile_peer(h));
    if (order == orders_.end()) return;
    const std::uint64_t k = input_.below(kShards);
    if (fenced_.contains({k, order->second})) return;
    Sequence& next = sequences_[{k, order->second}];
    SettleEntry entry{order->second, next, Round(any_number()), {}, {}, input_.below(8) == 0};
    next = next.next();
    const auto own = grants_.find(order->second);
    if (input_.below(4) != 0 && !all_grants_.empty()) {
      // Its own lease, or anybody's: numbers are easily guessed.
      const bool takes_own = own != grants_.end() && input_.flag();
      const LeaseGrant& grant = takes_own ? own->second : all_grants_[input_.below(all_grants_.size())];
      entry.lease = grant.lease;
      entry.range = grant.range;
      entry.range.end -= std::min(entry.range.size(), input_.below(16));
    } else {
      const std::uint64_t a = any_number(), b = any_number();
      entry.lease = LeaseId(input_.below(6));
      entry.range = {DataEpoch(static_cast<std::uint32_t>(any_number())), std::min(a, b), std::max(a, b)};
    }
    if (input_.below(3) != 0) return say(shard_peer(k), SettleReport{kJob, {entry}});
    for (std::uint64_t other = 0; other < kShards; ++other) {  // the same on every shard
      if (other != k && (sequences_[{other, order->second}]) != entry.sequence) continue;
      sequences_[{other, order->second}] = entry.sequence.next();
      say(shard_peer(other), SettleReport{kJob, {entry}});
    }
  }
  std::uint64_t any_number() { return input_.below(4) == 0 ? input_.next_u64() : input_.below(48); }

  // ---- who behaves ----

  void later(std::function<void()> action) { queue_.push_back(std::move(action)); }
  bool deliver_one() {
    if (queue_.empty()) return false;
    const std::function<void()> action = std::move(queue_.front());
    queue_.pop_front();
    action();
    return true;
  }

  void answer_worker(std::uint64_t w, const Message& message) {
    const PeerId peer = worker_peer(w);
    NANDUTI_CHECK(!std::holds_alternative<Fenced>(message), "an honest worker is declared dead: {}",
                  std::get<Fenced>(message).reason);
    if (const auto* m = std::get_if<Registered>(&message)) orders_[peer] = m->order;
    if (std::holds_alternative<PrepareJob>(message))
      later([=, this] { say(peer, JobPrepared{kJob, kData, 5}); });
    if (std::holds_alternative<JoinJob>(message)) later([=, this] { say(peer, LeaseRequest{kJob}); });
    if (std::holds_alternative<FlushResidual>(message))
      later([=, this] { say(peer, ResidualFlushed{kJob}); });
    if (const auto* m = std::get_if<EvaluationLease>(&message))
      later([=, this, lease = *m] {
        say(peer, EvaluationDone{kJob, lease.lease, 0, lease.end - lease.begin, 1.0});
      });
    if (const auto* m = std::get_if<LeaseGrant>(&message)) {
      NANDUTI_CHECK(m->range.size() > 0 && m->range.end <= kSamples && m->range.epoch.value() < kEpochs);
      later([=, this, grant = *m]() mutable { train(w, grant); });
    }
  }

  /// One round, settled by both shards; then the lease's next one, or another lease.
  void train(std::uint64_t w, LeaseGrant grant) {
    const IncarnationOrder order = orders_.at(worker_peer(w));
    SampleRange range = grant.range;
    range.end = std::min(range.end, range.begin + kRoundSamples);
    Round& round = rounds_[w];
    round = std::max(round, grant.entry_clock);
    const Sequence sequence = sequences_[{0, order}];
    sequences_[{0, order}] = sequence.next();
    const SettleEntry entry{order, sequence, round, grant.lease, range};
    round = round.next();
    grant.range.begin = range.end;
    for (std::uint64_t k = 0; k < kShards; ++k)
      later([=, this] { say(shard_peer(k), SettleReport{kJob, {entry}}); });
    if (grant.range.size() > 0)
      later([=, this] { train(w, grant); });
    else
      later([=, this] { say(worker_peer(w), LeaseRequest{kJob}); });
  }

  void answer_shard(std::uint64_t k, const Message& message) {
    const PeerId peer = shard_peer(k);
    if (const auto* m = std::get_if<OpenShard>(&message)) {
      sizes_[k] = m->end - m->begin;
      later([=, this] { say(peer, ShardOpened{kJob}); });
    }
    if (const auto* m = std::get_if<Fence>(&message)) {
      fenced_.insert({k, m->order});
      later([=, this, order = m->order] { say(peer, FenceDone{kJob, order, sequences_[{k, order}]}); });
    }
    if (const auto* m = std::get_if<TakeCut>(&message))
      later([=, this, cut = m->cut] {
        say(peer, CutTaken{kJob, cut, Version(1), {}, SharedBytes::take(std::vector<float>(sizes_[k]))});
      });
    if (std::holds_alternative<Rest>(message)) later([=, this] { say(peer, ShardAtRest{kJob, Version(1)}); });
    if (std::holds_alternative<CloseShard>(message))
      NANDUTI_CHECK(is_over(), "a shard is closed while the job runs");
  }

  // ---- the core ----

  void say(PeerId peer, Message message) {
    if (const auto* report = std::get_if<SettleReport>(&message))
      for (const SettleEntry& entry : report->entries)
        repeated_max_ += std::min<std::uint64_t>(entry.range.size(), kSamples);
    happen(MessageReceived{peer, std::move(message)});
  }
  void connect(PeerId peer, PeerRole role) {
    Hello hello;
    hello.role = role;
    happen(PeerConnected{peer, hello});
  }
  void wait(Duration span) {
    now_ += span;
    // Who behaves is heard of every second.
    for (std::uint64_t w = 0; w < kHonestWorkers; ++w) {
      WorkerStatus status;
      status.job = kJob;
      status.samples = ++statuses_;
      say(worker_peer(w), status);
    }
    core_.on_deadline(now_);
    collect();
  }
  void happen(const CoordinatorCore::Event& event) {
    core_.on_event(now_, event);
    collect();
    const CoordinatorCore::JobView* view = core_.view(kJob);
    if (view == nullptr) return;
    NANDUTI_CHECK(view->samples <= kSamples * kEpochs && view->samples >= samples_, "{} samples after {}",
                  view->samples, samples_);
    samples_ = view->samples;
    (void)core_.job_reports(now_);
    (void)core_.workers_report(now_);
  }

  void collect() {
    for (std::vector<CoordinatorCore::Action> actions = core_.take_actions(); !actions.empty();
         actions = core_.take_actions())
      for (const CoordinatorCore::Action& action : actions) carry_out(action);
  }
  void carry_out(const CoordinatorCore::Action& action) {
    if (const auto* send = std::get_if<SendMessage>(&action)) {
      if (const auto* grant = std::get_if<LeaseGrant>(&send->message)) all_grants_.push_back(*grant);
      NANDUTI_CHECK(decode_message(encode_message(send->message)).ok(), "it sends a {} that nobody decodes",
                    message_name(send->message));
      for (std::uint64_t w = 0; w < kHonestWorkers; ++w)
        if (send->peer == worker_peer(w)) answer_worker(w, send->message);
      for (std::uint64_t k = 0; k < kShards; ++k)
        if (send->peer == shard_peer(k)) answer_shard(k, send->message);
      for (std::uint64_t h = 0; h < kHostilePeers; ++h) {
        if (send->peer != hostile_peer(h)) continue;
        if (const auto* m = std::get_if<Registered>(&send->message)) orders_[send->peer] = m->order;
        if (const auto* m = std::get_if<LeaseGrant>(&send->message)) grants_[orders_[send->peer]] = *m;
      }
    } else if (const auto* close = std::get_if<ClosePeer>(&action)) {
      NANDUTI_CHECK(close->peer >= hostile_peer(0) && close->peer < hostile_peer(kHostilePeers),
                    "peer {}, who behaves, is sent away: {}", close->peer, close->reason);
    } else if (std::holds_alternative<CoordinatorCore::PlanModel>(action)) {
      later([this] {
        happen(CoordinatorCore::ModelPlanned{kJob, CoordinatorCore::PlannedModel{2 * kBlockSize, 5}});
      });
    } else if (const auto* append = std::get_if<AppendLog>(&action)) {
      log_.push_back(append->pieces.at(0));
      core_.on_durable(log_.size());
      if (log_.size() % kRecoverEvery == 0) recover();
    } else if (std::holds_alternative<CoordinatorCore::SaveResult>(action)) {
      later([this] { happen(CoordinatorCore::ResultSaved{kJob, {}}); });
    }
  }

  /// Another process that goes on with the log knows the same.
  void recover() const {
    const auto recovered = CoordinatorCore::recover(options(), now_, std::nullopt, log_, true);
    NANDUTI_CHECK(recovered.ok(), "it does not recover: {}", recovered.error().message);
    const CoordinatorCore::JobView& ours = *core_.view(kJob);
    const CoordinatorCore::JobView& theirs = *recovered->view(kJob);
    NANDUTI_CHECK(ours.samples == theirs.samples, "{} samples count, {} after recovery", ours.samples,
                  theirs.samples);
    NANDUTI_CHECK(ours.figures.size() == theirs.figures.size());
    NANDUTI_CHECK(
        theirs.state == ours.state || (ours.samples_total == 0 && theirs.state == JobState::kQueued),
        "it is {} after recovery", to_string(theirs.state));
    (void)recovered->job_reports(now_);
    (void)recovered->workers_report(now_);
  }

  FuzzInput input_;
  AnyMessageFrom<FuzzInput> any_;
  ProtocolTime now_{1h};
  CoordinatorCore core_;
  std::deque<std::function<void()>> queue_;
  std::map<PeerId, IncarnationOrder> orders_;
  std::map<IncarnationOrder, LeaseGrant> grants_;  // the newest of each hostile worker
  std::vector<LeaseGrant> all_grants_;
  std::map<std::pair<std::uint64_t, IncarnationOrder>, Sequence> sequences_;
  std::set<std::pair<std::uint64_t, IncarnationOrder>> fenced_;
  std::map<std::uint64_t, Round> rounds_;
  std::map<std::uint64_t, std::uint64_t> sizes_;
  std::uint64_t samples_ = 0, repeated_max_ = 0, statuses_ = 0;
  std::vector<SharedBytes> log_;
};

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nanduti::Scene(nanduti::FuzzInput(data, size)).run();
  return 0;
}
