#pragma once

#include <algorithm>

#include "test/support/catch.h"
#include "test/support/codecs.h"
#include "test/support/host_values.h"
#include "worker/client/replica.h"

/// A replica of two shards that is fed by hand.
namespace nanduti {

constexpr std::uint64_t kSize = 8;
constexpr JobId kJob{1};
constexpr IncarnationOrder kOwn{1};

/// Sends coordinate 0 only: everything else stays in the residual.
class FirstOnlyCodec final : public Codec {
 public:
  [[nodiscard]] Coding coding() const override { return Coding::kDenseFloat32; }
  [[nodiscard]] EncodedUpdate encode(std::span<float> residual, std::span<const float> progress,
                                     const CodingContext& context) const override {
    for (std::size_t i = 0; i < progress.size(); ++i) residual[i] += progress[i];
    std::vector<float> first(residual.size(), 0.0f);
    first[0] = std::exchange(residual[0], 0.0f);
    return dense_.encode(first, {}, context);
  }
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override {
    return dense_.decode(payload, size);
  }

 private:
  DenseFloat32Codec dense_;
};

/// A replica, with what a test needs to see of its reports.
struct Bench {
  explicit Bench(std::optional<std::uint32_t> bound, bool deterministic = false,
                 std::shared_ptr<const Codec> codec = std::make_shared<DenseFloat32Codec>(),
                 std::uint32_t window = 64, MergeWeights weights = {})
      : Bench(options(bound, deterministic, std::move(codec), window, weights)) {}
  explicit Bench(const ReplicaOptions& options) : replica(options) {}
  static ReplicaOptions options(std::optional<std::uint32_t> bound, bool deterministic,
                                std::shared_ptr<const Codec> codec, std::uint32_t window,
                                MergeWeights weights) {
    ReplicaOptions made;
    made.job = kJob;
    made.shards = {{0, kSize / 2}, {kSize / 2, kSize}};
    made.own = kOwn;
    made.bound = bound;
    made.deterministic = deterministic;
    made.window_rounds_max = window;
    made.window_bytes_max = std::size_t{1} << 20;
    made.codecs = both_ways(std::move(codec));
    made.weights = weights;
    return made;
  }

  void tell(Replica::Event event) {
    replica.on_event(std::move(event));
    for (Replica::Action& action : replica.take_actions()) {
      if (auto* round = std::get_if<Replica::ComputeRound>(&action)) {
        REQUIRE_FALSE(computing);
        computing = *round;
      } else if (std::holds_alternative<Replica::CodeRound>(action)) {
        code_due = true;
      } else {
        auto& report = std::get<Replica::Report>(action);
        if (auto* coded = std::get_if<Replica::RoundCoded>(&report)) pushes = coded->pushes;
        if (auto* flushed = std::get_if<Replica::Flushed>(&report)) pushes = flushed->pushes;
        reports.push_back(std::move(report));
      }
    }
  }
  template <class R>
  [[nodiscard]] std::vector<R> all() const {
    std::vector<R> found;
    for (const auto& report : reports)
      if (const auto* r = std::get_if<R>(&report)) found.push_back(*r);
    return found;
  }
  /// Empty if it was merged, else why not.
  std::string arrives(std::uint32_t shard, std::variant<Publish, Assign> version) {
    const std::size_t before = all<Replica::MergeFailed>().size();
    tell(Replica::MergeVersion{ShardIndex(shard), std::move(version)});
    const auto failed = all<Replica::MergeFailed>();
    return failed.size() == before ? std::string() : failed.back().reason;
  }
  void offer(std::uint64_t begin = 0, std::uint64_t end = 1,
             MembershipEpoch active_from = MembershipEpoch(1)) {
    tell(Replica::OfferRounds{LeaseId(1), {DataEpoch(0), begin, end}, active_from, Round()});
  }
  void finish(float progress) {
    REQUIRE(computing);
    auto round = *std::exchange(computing, std::nullopt);
    std::ranges::fill(round.buffers->progress, progress);
    tell(Replica::RoundComputed{kJob, round.buffers, 0, 0});
  }
  void code() {
    if (std::exchange(code_due, false)) tell(Replica::TimeToCode());
  }
  /// x of the next round, which is offered, computed, and gives `progress`.
  std::vector<float> run_round(float progress) {
    offer();
    REQUIRE(computing);
    std::vector<float> x = vector_of(computing->buffers->parameters);
    finish(progress);
    code();
    return x;
  }

  Replica replica;
  std::optional<Replica::ComputeRound> computing;
  bool code_due = false;
  std::vector<Push> pushes;  // the last ones
  std::vector<Replica::Report> reports;
};

inline SharedBytes constant(float value) { return SharedBytes::take(std::vector<float>(kSize / 2, value)); }

inline VersionHeader header(std::uint64_t version, std::uint64_t epoch, std::vector<std::uint64_t> clocks,
                            std::uint64_t settled = 0, std::vector<ReturnedPush> returned = {}) {
  VersionHeader h;
  h.job = kJob;
  h.chain = ChainId(9);
  h.version = Version(version);
  h.epoch = MembershipEpoch(epoch);
  for (std::size_t i = 0; i < clocks.size(); ++i)
    h.active.push_back({IncarnationOrder(i + 1), Round(0), Round(clocks[i])});
  h.verdicts = {{kOwn, Sequence(settled), std::move(returned)}};
  return h;
}

inline void assign_all(Bench& bench, float value, std::vector<std::uint64_t> clocks) {
  for (std::uint32_t k = 0; k < 2; ++k)
    REQUIRE(bench.arrives(k, Assign{header(0, 1, clocks), Version(), true, {{0, kSize / 2}}, constant(value)})
                .empty());
}

/// What a shard says to who has made version 0 itself.
inline Assign nothing_since(VersionHeader h) { return {std::move(h), Version(), false, {}, {}}; }

inline void publish(Bench& bench, std::uint32_t shard, const VersionHeader& h, float change) {
  REQUIRE(bench.arrives(shard, Publish{h, 1, constant(change)}).empty());
}

/// Of the round that is being computed.
inline std::vector<float> x_of(const Bench& bench) { return vector_of(bench.computing->buffers->parameters); }

inline std::vector<float> all_of(float value) { return std::vector<float>(kSize, value); }

}  // namespace nanduti
