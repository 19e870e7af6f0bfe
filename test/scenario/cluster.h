#pragma once

#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/base/random.h"
#include "server/coordinator/coordinator_core.h"
#include "server/shard/shard_core.h"
#include "test/support/catch.h"
#include "test/support/codecs.h"
#include "test/support/replica_host.h"
#include "worker/client/client_core.h"

/// The three cores joined by queues in memory: no transport, no time but what a test lets pass. Every queue
/// (one per peer, direction and stream) is in order; which queue moves next, and when a computation ends, a
/// seed decides.
namespace nanduti::scenario {

struct JobShape {
  std::uint32_t shards = 2;
  std::uint32_t workers = 2;
  std::uint64_t samples = 200;
  std::uint32_t epochs = 2;
  std::uint64_t round_samples = 8;
  std::uint64_t evaluate_every = 0;
  std::uint64_t parameters = 3 * kBlockSize;
  std::optional<std::uint32_t> bound = 0;
  bool deterministic = false;
  std::vector<float> initial;  ///< shape [parameters]; empty: ones
};

/// Decides what a round's progress is; shape [x.size()].
using Gradient = std::function<std::vector<float>(IncarnationOrder, const Replica::ComputeRound&)>;

class Cluster {
 public:
  Cluster(const JobShape& shape, std::uint64_t seed, Gradient gradient)
      : shape_(shape),
        random_(seed),
        gradient_(std::move(gradient)),
        coordinator_(CoordinatorOptions{shape.shards}) {
    for (std::uint32_t k = 0; k < shape.shards; ++k) {
      ShardOptions options{"coordinator", {"server", "shard", k + 1, "", JobId()}};
      shards_.push_back(std::make_unique<ShardCore>(options, RandomStream(seed, 100 + k)));
    }
    for (std::uint32_t i = 0; i < shape.workers; ++i) add_worker();
    JobPlan plan;
    plan.id = JobId(1);
    plan.epochs = shape.epochs;
    plan.batch_size = static_cast<std::uint32_t>(shape.round_samples);
    plan.evaluate_every = shape.evaluate_every;
    plan.workers_to_start = shape.workers;
    plan.deterministic = shape.deterministic;
    coordinator_.on_event(now_, CoordinatorCore::SubmitJob{plan});
  }

  std::size_t add_worker() {
    ClientOptions options;
    options.coordinator_endpoint = "coordinator";
    options.registration.name = "w" + std::to_string(workers_.size());
    options.status_every = std::chrono::hours(1);
    workers_.push_back(std::make_unique<ClientCore>(options, RandomStream(random_.next_u64())));
    replicas_.emplace_back();
    evaluating_.emplace_back();
    alive_.push_back(true);
    return workers_.size() - 1;
  }

  /// The worker is gone, with everything that was on its way to it and from it; its sessions end at the
  /// servers.
  void kill(std::size_t worker) {
    alive_[worker] = false;
    replicas_[worker].clear();
    evaluating_[worker].reset();
    const int node = worker_node(worker);
    for (auto it = queues_.begin(); it != queues_.end();)
      it = it->first.from == node || it->first.to == node ? queues_.erase(it) : std::next(it);
    for (const auto& [key, peer] : accepted_)
      if (key.first == node) deliver(key.second.first, PeerClosed{peer, "silent", false});
  }

  void drain(std::size_t worker) { workers_[worker]->on_event(now_, ClientCore::DrainRequested{}); }

  /// One step: something is delivered, or a computation ends. False if nothing is left to do.
  bool step() {
    now_ += std::chrono::milliseconds(1);
    collect();
    std::vector<Key> ready;
    for (const auto& [key, queue] : queues_)
      if (!queue.empty()) ready.push_back(key);
    // What a worker may do next: coding and merging, a round's end, an evaluation's end.
    std::vector<std::pair<std::size_t, Work>> work;
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      if (replicas_[i].has_work()) work.emplace_back(i, Work::kReplica);
      if (replicas_[i].computing()) work.emplace_back(i, Work::kRound);
      if (evaluating_[i] && i != slow_evaluator) work.emplace_back(i, Work::kEvaluation);
    }
    if (ready.empty() && work.empty()) {
      // Only time can help now: the shards' bound on unpublished work.
      bool moved = false;
      for (auto& shard : shards_) {
        if (shard->next_deadline() == kNever) continue;
        now_ = std::max(now_, shard->next_deadline());
        shard->on_deadline(now_);
        moved = true;
      }
      return moved;
    }
    const std::uint64_t pick = random_.below(ready.size() + work.size());
    if (pick < ready.size()) {
      auto& queue = queues_.at(ready[pick]);
      const Packet packet = std::move(queue.front());
      queue.pop_front();
      deliver(ready[pick].to, packet.event);
    } else {
      const auto [worker, kind] = work[pick - ready.size()];
      ClientCore& core = *workers_[worker];
      if (kind == Work::kReplica) {
        replicas_[worker].step();
        for (const auto& report : replicas_[worker].take_reports()) core.on_event(now_, report);
        for (const Replica::ComputeRound& round : replicas_[worker].take_begun())
          if (on_round) on_round(worker, round);
      } else if (kind == Work::kRound) {
        replicas_[worker].finish_round(gradient_(core.order(), *replicas_[worker].computing()));
      } else {
        const ClientCore::EvaluateCut cut = *std::exchange(evaluating_[worker], std::nullopt);
        core.on_event(now_, ClientCore::CutEvaluated{cut.job, cut.lease, 0, cut.end - cut.begin,
                                                     cut.parameters->at(0), 0});
      }
    }
    collect();
    return true;
  }

  /// Until the job is over.
  void run() {
    for (int i = 0; i < 2'000'000; ++i) {
      if (over()) return;
      REQUIRE(step());
    }
    FAIL("the job does not end");
  }

  [[nodiscard]] bool over() const {
    const JobState state = view().state;
    return state != JobState::kQueued && state != JobState::kRunning;
  }
  [[nodiscard]] const CoordinatorCore::JobView& view() const { return *coordinator_.view(JobId(1)); }
  [[nodiscard]] const ClientCore& worker(std::size_t i) const { return *workers_[i]; }
  /// Null before the worker has joined the job.
  [[nodiscard]] const Replica* replica(std::size_t i) const { return replicas_[i].replica(); }
  [[nodiscard]] const ShardCore& shard(std::size_t k) const { return *shards_[k]; }
  CoordinatorCore& coordinator() { return coordinator_; }

  /// The model at rest, shape [parameters]; empty before.
  std::vector<float> result;
  /// Looks on whenever a worker begins a round.
  std::function<void(std::size_t worker, const Replica::ComputeRound&)> on_round;
  /// Says what the workers find when they load the data; by default all is well.
  std::function<Result<LoadedJob>(std::size_t worker, LoadedJob)> on_load;
  std::size_t stopped = 0;
  /// This worker's evaluations do not end as long as it stands here.
  std::optional<std::size_t> slow_evaluator;

 private:
  // Nodes: 0 the coordinator, 1.. shards, 1000.. workers.
  struct Key {
    int from, to;
    std::uint64_t peer;  // the dialling side's number
    std::uint32_t stream;
    auto operator<=>(const Key&) const = default;
  };
  using AnyEvent = std::variant<PeerConnected, PeerClosed, MessageReceived, MessageAcked>;
  struct Packet {
    AnyEvent event;
  };

  enum class Work { kReplica, kRound, kEvaluation };

  static int worker_node(std::size_t worker) { return 1000 + static_cast<int>(worker); }

  void deliver(int node, const AnyEvent& event) {
    std::visit(
        [&](const auto& e) {
          if (node == 0)
            coordinator_.on_event(now_, e);
          else if (node < 1000)
            shards_[static_cast<std::size_t>(node - 1)]->on_event(now_, e);
          else if (alive_[static_cast<std::size_t>(node - 1000)])
            workers_[static_cast<std::size_t>(node - 1000)]->on_event(now_, e);
        },
        event);
  }

  void handle(int node, const OpenPeer& open) {
    const int server = static_cast<int>(open.destination);  // 0 is the coordinator, 1.. are shards
    const PeerId peer(next_accepted_++);
    accepted_[{node, {server, open.peer.value()}}] = peer;
    dialled_[{server, peer.value()}] = {node, open.peer};
    queues_[{node, server, open.peer.value(), 0}].push_back({PeerConnected{peer, open.hello}});
    queues_[{server, node, open.peer.value(), 0}].push_back({PeerConnected{open.peer, open.hello}});
    connected_[{node, open.peer.value()}] = server;
  }
  void handle(int node, const SendMessage& send) {
    const auto out = connected_.find({node, send.peer.value()});
    if (out != connected_.end()) {
      const PeerId there = accepted_.at({node, {out->second, send.peer.value()}});
      queue(node, out->second, send.peer.value(), send, there);
    } else if (const auto back = dialled_.find({node, send.peer.value()}); back != dialled_.end()) {
      queue(node, back->second.first, back->second.second.value(), send, back->second.second);
    }
  }
  void queue(int from, int to, std::uint64_t peer, const SendMessage& send, PeerId there) {
    if (to >= 1000 && !alive_[static_cast<std::size_t>(to - 1000)]) return;
    // What is sent passes through its wire form, as in the daemons.
    Result<Message> message = decode_message(encode_message(send.message));
    if (!message.ok()) FAIL(message.error().message);
    queues_[{from, to, peer, send.stream.value()}].push_back({MessageReceived{there, *message}});
    if (send.tag != 0) deliver_later_.push_back({from, MessageAcked{send.peer, send.tag}});
  }
  void handle(int node, const ClosePeer& close) {
    const auto out = connected_.find({node, close.peer.value()});
    if (out == connected_.end()) return;
    const PeerId there = accepted_.at({node, {out->second, close.peer.value()}});
    queues_[{node, out->second, close.peer.value(), 0}].push_back({PeerClosed{there, close.reason, false}});
    connected_.erase(out);
  }
  template <class Other>
  void handle(int, const Other&) {}

  void handle(int node, const ShardCore::LoadShard& load) {
    std::vector<float> values(load.request.end - load.request.begin, 1.0f);
    if (!shape_.initial.empty())
      std::copy_n(shape_.initial.begin() + static_cast<std::ptrdiff_t>(load.request.begin), values.size(),
                  values.begin());
    shards_[static_cast<std::size_t>(node - 1)]->on_event(
        now_, ShardCore::ShardLoaded{load.request.job,
                                     ShardStart{{both_ways()}, std::move(values), shape_.deterministic}});
  }
  void handle(int node, const ClientCore::LoadJob& load) {
    LoadedJob job;
    job.data = {shape_.samples, 10, 1, 1, 1, 2, 3};
    job.layout_hash = 5;
    job.parameters = shape_.parameters;
    job.round_samples = shape_.round_samples;
    job.bound = shape_.bound;
    job.deterministic = shape_.deterministic;
    job.codecs = both_ways();
    const auto worker = static_cast<std::size_t>(node - 1000);
    Result<LoadedJob> loaded = on_load ? on_load(worker, job) : Result<LoadedJob>(job);
    workers_[worker]->on_event(now_, ClientCore::JobLoaded{load.job, std::move(loaded)});
  }
  void handle(int node, const ClientCore::OpenReplica& open) { give_to_replica(node, open); }
  void handle(int node, const ClientCore::ReplicaWork& work) { give_to_replica(node, work); }
  void give_to_replica(int node, const ClientCore::Action& action) {
    replicas_[static_cast<std::size_t>(node - 1000)].take(action);
  }
  void handle(int node, const ClientCore::EvaluateCut& cut) {
    const auto worker = static_cast<std::size_t>(node - 1000);
    REQUIRE_FALSE(evaluating_[worker]);
    evaluating_[worker] = cut;
  }
  void handle(int node, const ClientCore::UnloadJob&) {
    replicas_[static_cast<std::size_t>(node - 1000)].clear();
    evaluating_[static_cast<std::size_t>(node - 1000)].reset();
  }
  void handle(int, const ClientCore::Stopped&) { ++stopped; }
  void handle(int, const CoordinatorCore::PlanModel& plan) {
    coordinator_.on_event(
        now_, CoordinatorCore::ModelPlanned{plan.job, CoordinatorCore::PlannedModel{shape_.parameters, 5}});
  }
  void handle(int, const CoordinatorCore::SaveResult& save) {
    for (const CutTaken& cut : save.shards) {
      const auto* values = reinterpret_cast<const float*>(cut.payload.data());
      result.insert(result.end(), values, values + cut.payload.size() / sizeof(float));
    }
    for (std::size_t k = 0; k < shards_.size(); ++k) {  // P4: at rest shadow == w, bit for bit
      const auto w = shards_[k]->values()->w(), shadow = shards_[k]->values()->shadow();
      REQUIRE(std::equal(w.begin(), w.end(), shadow.begin()));
    }
    coordinator_.on_event(now_, CoordinatorCore::ResultSaved{save.job, Status()});
  }

  template <class Core>
  bool collect_from(int node, Core& core) {
    bool any = false;
    for (auto& action : core.take_actions()) {
      any = true;
      std::visit([&](const auto& a) { handle(node, a); }, action);
    }
    return any;
  }
  void collect() {
    for (bool any = true; any;) {
      any = collect_from(0, coordinator_);
      for (std::size_t k = 0; k < shards_.size(); ++k)
        any |= collect_from(static_cast<int>(k) + 1, *shards_[k]);
      for (std::size_t i = 0; i < workers_.size(); ++i)
        if (alive_[i]) any |= collect_from(worker_node(i), *workers_[i]);
      for (auto& [node, event] : std::exchange(deliver_later_, {})) {
        any = true;
        deliver(node, event);
      }
    }
  }

  JobShape shape_;
  RandomStream random_;
  Gradient gradient_;
  ProtocolTime now_{std::chrono::hours(1)};
  CoordinatorCore coordinator_;
  std::vector<std::unique_ptr<ShardCore>> shards_;
  std::vector<std::unique_ptr<ClientCore>> workers_;
  std::vector<ReplicaHost> replicas_;                               // of the workers
  std::vector<std::optional<ClientCore::EvaluateCut>> evaluating_;  // the same
  std::vector<bool> alive_;
  std::uint64_t next_accepted_ = kFirstAcceptedPeer.value();
  std::map<std::pair<int, std::pair<int, std::uint64_t>>, PeerId> accepted_;  // (dialler, (server, its peer))
  std::map<std::pair<int, std::uint64_t>, std::pair<int, PeerId>> dialled_;   // (server, accepted peer)
  std::map<std::pair<int, std::uint64_t>, int> connected_;                    // (dialler, its peer) to server
  std::map<Key, std::deque<Packet>> queues_;
  std::vector<std::pair<int, AnyEvent>> deliver_later_;
};

}  // namespace nanduti::scenario
