#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "server/shard/shard_core.h"
#include "test/sim/plan.h"
#include "worker/client/client_core.h"

namespace nanduti::sim {

/// Holds the cores to promises P1, P2, P4 and P5 (DESIGN section 3) and to the merge rule, looking from
/// outside: it keeps a model of its own of every push, shard and shadow, made from what passes between the
/// cores and the world, and throws Failure where the cores' state differs from it.
class Checker {
 public:
  explicit Checker(const Plan& plan);

  // ---- the coordinator ----
  void on_membership_sent(const Membership& membership);

  // ---- shards ----
  void on_membership_received(ShardIndex shard, MembershipEpoch epoch);
  /// After every event of a shard core, with the actions it gave.
  void after_shard(ShardIndex shard, const ShardCore& core, std::span<const ShardCore::Action> actions);

  // ---- workers ----
  void on_compute(const ClientCore& core, const ClientCore::ComputeRound& round);
  void on_computed(IncarnationOrder order, std::span<const float> progress);
  /// A push leaves its worker, for the first time or again.
  void on_push_sent(const ClientCore& core, const Push& push, ShardIndex shard);
  /// After every event of a client core.
  void after_worker(const ClientCore& core);

  // ---- the end ----
  void on_result(const std::vector<CutTaken>& shards);
  void on_done(std::uint64_t samples, std::uint64_t repeated_samples) const;

  [[nodiscard]] std::uint64_t rounds() const { return rounds_; }
  [[nodiscard]] const std::vector<float>& result() const { return result_; }

 private:
  struct PushRecord {
    std::shared_ptr<const Update> update;
    SharedBytes payload;
    Round round;
    SampleRange range;
    bool flush = false;
    std::optional<MembershipEpoch> epoch;  // as stamped; the same on every shard
    std::uint64_t settled = 0;             // bit k: on shard k
  };
  struct Incarnation {
    std::vector<std::vector<float>> residual;     // per shard
    std::vector<std::vector<PushRecord>> pushes;  // per shard, by sequence
    std::optional<Round> next_round;
    std::optional<ClientCore::ComputeRound> computing;
    std::vector<Version> checked;  // per shard: the version whose shadow has been compared
  };
  /// What a version of a shard's shadow holds.
  struct VersionRecord {
    std::vector<float> shadow;
    MembershipEpoch epoch;
    std::map<IncarnationOrder, std::uint64_t> settled;  // next sequence
    std::map<IncarnationOrder, Round> clocks;
  };
  struct Shard {
    std::uint64_t begin = 0, end = 0;
    bool loaded = false;
    ChainId chain;
    std::vector<float> w, shadow;
    Version version;
    MembershipEpoch epoch;
    std::map<IncarnationOrder, std::uint64_t> settled;
    std::map<IncarnationOrder, Round> clocks;
    std::set<IncarnationOrder> fenced;
    std::map<Version, std::shared_ptr<const VersionRecord>> history;
  };

  Incarnation& incarnation(IncarnationOrder order);
  void make_push(Incarnation& of, std::size_t shard, std::span<const float> progress, Round round,
                 const SampleRange& range, bool flush);
  void settle(std::size_t k, IncarnationOrder order, std::uint64_t sequence);
  void publish(std::size_t k, const Publish* message, const ShardCore& core);
  void check_header(std::size_t k, const VersionHeader& header) const;
  void record_version(std::size_t k);
  [[nodiscard]] const VersionRecord& version_at(std::size_t k, const VersionHeader& merged) const;

  const Plan& plan_;
  std::shared_ptr<const Codec> codec_;
  std::map<MembershipEpoch, Membership> memberships_;
  std::map<IncarnationOrder, Incarnation> incarnations_;
  std::set<IncarnationOrder> dead_;
  std::vector<Shard> shards_;
  std::vector<std::vector<std::uint8_t>> counted_;  // per epoch and sample
  std::uint64_t rounds_ = 0;
  std::vector<float> result_;
};

}  // namespace nanduti::sim
