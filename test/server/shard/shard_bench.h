#pragma once

#include <bit>
#include <cstring>

#include "common/codec/block_codec.h"
#include "server/shard/shard_core.h"
#include "test/support/catch.h"
#include "test/support/codecs.h"

/// A shard without a network, of which a test plays the coordinator and the workers.
namespace nanduti {

using namespace std::chrono_literals;

inline constexpr PeerId kCoordinator{0};
inline constexpr std::size_t kSize = 2 * 4096;

inline IncarnationId incarnation(std::uint64_t order) {
  IncarnationId id;
  id.words = {order, 77};
  return id;
}

inline std::span<const float> floats(const SharedBytes& bytes) {
  return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}

struct Bench {
  explicit Bench(bool deterministic = false, ShardOptions options = {}, const JobCodecs& codecs = both_ways(),
                 double age_power = 0, Durability with_durability = Durability::kMemory)
      : is_deterministic(deterministic),
        all_codecs(codecs),
        power(age_power),
        durability(with_durability),
        core(with_names(std::move(options)), RandomStream(1)) {
    (void)core.take_actions();
    tell(PeerConnected{kCoordinator, {}});
    tell(MessageReceived{kCoordinator, OpenShard{JobId(1), "", {}, ShardIndex(0), 0, kSize, 5}});
    tell(ShardCore::ShardLoaded{JobId(1), start()});
  }

  [[nodiscard]] ShardStart start() const {
    return {{all_codecs, power},
            std::vector<float>(kSize, 1.0f),
            is_deterministic,
            durability,
            {},
            [](const std::string& text) -> Result<ShardSettings> {
              if (text != "good") return make_error(ErrorCode::kInvalidArgument, "settings '{}'", text);
              BlockCodecOptions half;
              half.density = 0.5;
              return ShardSettings{both_ways(std::make_shared<BlockCodec>(half))};
            }};
  }

  static ShardOptions with_names(ShardOptions options) {
    options.coordinator_endpoint = "tcp://coordinator";
    options.registration = {"nyc", "tcp://shard", 1, "", JobId()};
    return options;
  }

  void tell(const ShardCore::Event& event) {
    core.on_event(now, event);
    collect();
  }
  void wait(Duration span) {
    now += span;
    core.on_deadline(now);
    collect();
  }
  void collect() {
    for (ShardCore::Action& action : core.take_actions())
      if (auto* send = std::get_if<SendMessage>(&action)) {
        if (send->tag != 0) tags.emplace_back(send->peer, send->tag);
        // Versions do not wait behind cuts to evaluate.
        if (std::holds_alternative<CutValues>(send->message)) REQUIRE(send->stream == StreamIndex(2));
        sent.emplace_back(send->peer, std::move(send->message));
      } else if (auto* close = std::get_if<ClosePeer>(&action)) {
        closed.push_back(close->peer);
      } else if (auto* append = std::get_if<ShardCore::AppendLog>(&action)) {
        std::vector<std::byte> bytes;
        for (const SharedBytes& piece : append->pieces)
          bytes.insert(bytes.end(), piece.view().begin(), piece.view().end());
        entries.push_back(SharedBytes::take(std::move(bytes)));
      } else if (auto* begin = std::get_if<ShardCore::BeginSnapshot>(&action)) {
        writing = Snapshot{entries.size(), begin->parts, {begin->head, {}}};
      } else if (auto* part = std::get_if<ShardCore::SnapshotPart>(&action)) {
        writing->content.parts.push_back(part->part);
      }
  }
  /// What there is of a snapshot reaches the disk.
  void write_parts() {
    if (!writing) return;
    for (std::size_t i = 0; i < writing->content.parts.size(); ++i) tell(ShardCore::SnapshotPartWritten{});
    REQUIRE(writing->content.parts.size() == writing->parts);
    snapshot = std::exchange(writing, std::nullopt);
    tell(ShardCore::SnapshotEnded{});
  }
  void members(std::uint64_t epoch, const std::vector<Member>& list) {
    tell(MessageReceived{kCoordinator, Membership{JobId(1), MembershipEpoch(epoch), list, {}}});
  }
  static Member active(std::uint64_t order, std::uint64_t entry = 0) {
    return {IncarnationOrder(order), incarnation(order), MemberState::kActive, Round(entry)};
  }
  static PeerId peer(std::uint64_t order) { return PeerId(100 + order); }
  void subscribe(std::uint64_t order, ChainId chain = {}, Version version = {},
                 std::uint64_t initial_fingerprint = 0) {
    tell(PeerConnected{peer(order), {}});
    tell(MessageReceived{peer(order), Subscribe{JobId(1), IncarnationOrder(order), incarnation(order), chain,
                                                version, Sequence(), Round(), initial_fingerprint}});
  }
  static Push make_push(std::uint64_t order, std::uint64_t sequence, float value, std::uint64_t epoch = 1) {
    Push p;
    p.job = JobId(1);
    p.order = IncarnationOrder(order);
    p.sequence = Sequence(sequence);
    p.round = Round(sequence);
    p.epoch = MembershipEpoch(epoch);
    p.lease = LeaseId(1);
    p.coding = 1;
    p.payload = SharedBytes::take(std::vector<float>(kSize, value));
    return p;
  }
  void push(std::uint64_t order, std::uint64_t sequence, float value, std::uint64_t epoch = 1) {
    tell(MessageReceived{peer(order), make_push(order, sequence, value, epoch)});
  }
  /// The coordinator cannot forget what has been reported so far.
  void confirm() {
    const SettleReport last = to<SettleReport>(kCoordinator).back();
    tell(MessageReceived{kCoordinator, SettleConfirmed{last.job, last.number}});
  }
  /// The peer has everything that was sent to it so far with a tag.
  void acknowledge(PeerId whom) {
    for (const auto& [p, tag] : std::exchange(tags, {})) {
      if (p == whom)
        tell(MessageAcked{p, tag});
      else
        tags.emplace_back(p, tag);
    }
  }
  template <class M>
  std::vector<M> to(PeerId whom) const {
    std::vector<M> out;
    for (const auto& [p, message] : sent)
      if (const auto* m = std::get_if<M>(&message); m != nullptr && p == whom) out.push_back(*m);
    return out;
  }
  float w() const { return core.values()->w()[17]; }

  struct Snapshot {
    std::size_t entries = 0;
    std::uint64_t parts = 0;
    RecoveredShard::Snapshot content;
  };

  bool is_deterministic;
  JobCodecs all_codecs;
  double power;
  Durability durability;
  ProtocolTime now{1h};
  ShardCore core;
  std::vector<SharedBytes> entries;  // of its log
  std::optional<Snapshot> writing, snapshot;
  std::vector<std::pair<PeerId, Message>> sent;
  std::vector<std::pair<PeerId, std::uint64_t>> tags;
  std::vector<PeerId> closed;
};

/// What a subscriber rebuilds from the versions it was sent.
inline std::vector<float> rebuild(const Bench& bench, PeerId whom, Version& version) {
  std::vector<float> shadow(kSize, -1.0f);
  for (const auto& [p, message] : bench.sent) {
    if (p != whom) continue;
    if (const auto* assign = std::get_if<Assign>(&message)) {
      const auto values = floats(assign->payload);
      std::size_t k = 0;
      for (const AssignedRange& range : assign->ranges)
        for (std::uint64_t i = range.begin; i < range.end; ++i) shadow[i] = values[k++];
      version = assign->header.version;
    }
    if (const auto* publish = std::get_if<Publish>(&message)) {
      REQUIRE(publish->header.version == version.next());
      version = publish->header.version;
      const auto values = floats(publish->payload);
      for (std::size_t i = 0; i < values.size(); ++i) shadow[i] += values[i];
    }
  }
  return shadow;
}

inline bool bits_equal(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace nanduti
