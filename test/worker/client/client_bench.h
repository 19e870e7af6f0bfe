#pragma once

#include <memory>
#include <vector>

#include "test/support/catch.h"
#include "test/support/codecs.h"
#include "test/support/replica_host.h"
#include "worker/client/client_core.h"

namespace nanduti {

inline constexpr PeerId kCoordinator{0};

/// A worker without a network: the test plays the coordinator, two shards and the host, in its own time.
/// Loading a job is done at once.
struct ClientBench {
  static constexpr std::uint64_t kSize = 8192;  // parameters, half of them on each shard

  explicit ClientBench(std::uint64_t seed = 1, bool is_deterministic = false,
                       const ClientOptions& options = {})
      : deterministic(is_deterministic), core(options, RandomStream(seed)) {
    tell(PeerConnected{kCoordinator, {}});
    hear(kCoordinator, Registered{IncarnationOrder(1)});
    hear(kCoordinator, PrepareJob{JobId(1), "x"});
  }
  void tell(const ClientCore::Event& event) {
    core.on_event(now, event);
    collect();
  }
  void hear(PeerId peer, Message message) { tell(MessageReceived{peer, std::move(message)}); }
  void collect() {
    for (bool moved = true; moved;) {
      moved = take_actions();
      while (replica.step()) moved = true;
      for (const auto& report : replica.take_reports()) core.on_event(now, report);
      for (const Replica::ComputeRound& round : replica.take_begun()) rounds.push_back(round);
    }
  }
  bool take_actions() {
    const std::vector<ClientCore::Action> actions = core.take_actions();
    for (const auto& action : actions) {
      replica.take(action);
      if (auto* send = std::get_if<SendMessage>(&action)) sent.push_back(*send);
      if (auto* open = std::get_if<OpenPeer>(&action); open != nullptr && open->peer != kCoordinator)
        peers.push_back(open->peer);
      if (auto* load = std::get_if<ClientCore::LoadJob>(&action)) {
        LoadedJob job;
        job.parameters = kSize;
        job.layout_hash = 5;
        job.codecs = both_ways();
        job.bound = 1;
        job.round_samples = 10;
        job.deterministic = deterministic;
        job.read_settings = [settings = RoundSettings(job)](const std::string& text) {
          RoundSettings read = settings;
          read.accumulate_rounds_max = 4;
          return text == "good" ? Result<RoundSettings>(read)
                                : make_error(ErrorCode::kInvalidArgument, "settings '{}'", text);
        };
        core.on_event(now, ClientCore::JobLoaded{load->job, job});
      }
      if (auto* cut = std::get_if<ClientCore::EvaluateCut>(&action)) evaluations.push_back(*cut);
      if (std::holds_alternative<ClientCore::UnloadJob>(action)) ++unloaded;
    }
    return !actions.empty();
  }
  void join() {
    hear(kCoordinator,
         JoinJob{JobId(1),
                 5,
                 {{"tcp://x:1", ShardIndex(0), 1, 0, 4096}, {"tcp://x:1", ShardIndex(1), 2, 4096, kSize}}});
    for (const PeerId peer : std::vector(peers)) {
      tell(PeerConnected{peer, {}});
      hear(peer, Subscribed{JobId(1), Sequence()});
    }
  }
  /// The whole shadow of each shard; worker 1 is active from epoch 1 on, and so is whoever else is named.
  void send_shadow(std::vector<MemberClock> active = {{IncarnationOrder(1), Round(), Round()}},
                   std::uint64_t version = 0, std::uint64_t epoch = 1) {
    for (const PeerId peer : std::vector(peers)) hear(peer, shadow(active, version, epoch));
  }
  static Assign shadow(std::vector<MemberClock> active, std::uint64_t version = 0, std::uint64_t epoch = 1) {
    Assign assign;
    assign.header.job = JobId(1);
    assign.header.chain = ChainId(9);
    assign.header.version = Version(version);
    assign.header.epoch = MembershipEpoch(epoch);
    assign.header.active = std::move(active);
    assign.whole = true;
    assign.ranges = {{0, kSize / 2}};
    assign.payload = SharedBytes::take(std::vector<float>(kSize / 2));
    return assign;
  }
  void lend(std::uint64_t samples, std::uint64_t lease = 1, std::uint64_t ahead = 0) {
    const SampleRange range{DataEpoch(0), 0, samples};
    hear(kCoordinator, LeaseGrant{JobId(1), LeaseId(lease), range, MembershipEpoch(1), Round(), ahead});
  }
  /// The round that is computed gives 1 everywhere.
  void finish_round() {
    REQUIRE(replica.computing());
    replica.finish_round(std::vector<float>(kSize, 1.0f), 1, 1);
    collect();
  }
  /// What the next status says.
  WorkerStatus status() {
    now = std::max(now, core.next_deadline());
    core.on_deadline(now);
    collect();
    return to<WorkerStatus>(kCoordinator).back();
  }
  template <class M>
  [[nodiscard]] std::vector<M> to(PeerId peer) const {
    std::vector<M> found;
    for (const SendMessage& send : sent)
      if (const auto* m = std::get_if<M>(&send.message); m != nullptr && send.peer == peer)
        found.push_back(*m);
    return found;
  }

  ProtocolTime now{std::chrono::hours(1)};
  bool deterministic;
  std::vector<SendMessage> sent;
  std::vector<PeerId> peers;
  std::vector<Replica::ComputeRound> rounds;  // begun
  std::vector<ClientCore::EvaluateCut> evaluations;
  int unloaded = 0;
  ReplicaHost replica;
  ClientCore core;
};

}  // namespace nanduti
