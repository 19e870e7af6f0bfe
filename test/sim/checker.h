#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "server/shard/shard_core.h"
#include "test/sim/coverage.h"
#include "test/sim/plan.h"
#include "test/sim/server_model.h"
#include "worker/client/client_core.h"

namespace nanduti::sim {

/// Holds shards and workers to promises P1 to P5 and P7 (DESIGN section 3) and to the merge rule, looking
/// from outside: it keeps a model of its own of every push, shard and shadow, made from what passes between
/// the cores and the world, and throws Failure where the cores' state differs from it. Membership has a
/// checker of its own, and so has the wire.
class Checker {
 public:
  Checker(const Plan& plan, Coverage& coverage);

  // ---- the coordinator ----
  void on_membership_sent(const Membership& membership);
  void on_tune_sent(const Tune& tuning);
  /// The coordinator says that every worker which is active now has taken it, from this round on at the
  /// latest.
  void on_in_force(std::uint64_t tuning, Round from) const;
  void on_evaluation_lent(const EvaluationLease& lease) { evaluations_[lease.lease] = lease; }
  /// A cut of all shards that is to be kept: the model after `epoch` epochs.
  void on_saved(std::uint32_t epoch, const std::vector<CutTaken>& shards) const;

  // ---- shards ----
  void on_membership_received(ShardIndex shard, MembershipEpoch epoch);
  void on_tune_received(ShardIndex shard, const Tune& tuning);
  /// Before the shard does it: a cut is w of this instant.
  void on_take_cut(ShardIndex shard, CutId cut);
  /// After every event of a shard core, with the actions it gave.
  void after_shard(ProtocolTime now, ShardIndex shard, const ShardCore& core,
                   std::span<const ShardCore::Action> actions);

  /// A message leaves the shard's process: what it says must not be undone any more.
  void on_left(ShardIndex shard, const Message& message);
  /// Another process has recovered the shard from these entries, all that its job's log holds.
  void on_recovered(ShardIndex shard, std::span<const SharedBytes> entries, const ShardCore& core);

  // ---- workers ----
  /// The round that is computed has given this; its replica hears of it next.
  void on_computed(IncarnationOrder order, std::span<const float> progress);
  void on_evaluate(const ClientCore::EvaluateCut& work) const;
  /// A version is about to reach the worker: what it then holds is compared, also if it held that one before.
  void on_version_received(IncarnationOrder order, ShardIndex shard);
  /// A push leaves its worker, for the first time or again.
  void on_push_sent(const ClientCore& core, const Push& push, ShardIndex shard);
  /// After every event of a worker's replica, with the actions it gave.
  void after_replica(IncarnationOrder order, const Replica& replica,
                     std::span<const Replica::Action> actions);

  // ---- the end ----
  void on_result(const std::vector<CutTaken>& shards);
  void on_done(std::uint64_t samples, std::uint64_t repeated_samples) const;

  [[nodiscard]] std::uint64_t rounds() const { return rounds_; }
  [[nodiscard]] const std::vector<float>& result() const { return result_; }

 private:
  struct PushRecord {
    std::shared_ptr<const Update> made;
    SharedBytes payload;
    Round round;
    SampleRange range;
    bool flush = false;
    std::shared_ptr<const Update> update = made;  // what its worker still counts of it
    std::optional<MembershipEpoch> epoch = {};    // as stamped; the same on every shard
    Version base = {};                            // as stamped, of its shard
    Sequence acknowledged = {};                   // as stamped
    bool settled = false;                         // by its shard...
    std::uint16_t applied_parts = kAppliedWhole;  // ...so much of it, and the rest is...
    bool returned = false;                        // ...back in the worker's residual
    [[nodiscard]] bool refused() const { return applied_parts == 0; }
    [[nodiscard]] bool returns() const { return applied_parts < kAppliedWhole; }
  };
  /// A round that has been computed and is no push yet.
  struct Uncoded {
    Round round;
    SampleRange range;
    std::vector<float> progress;
    std::uint64_t samples_max = 0;
    PlanCodec codec = PlanCodec::kDense;
  };
  /// What holds for a round.
  struct Settings {
    std::optional<std::uint32_t> bound;
    std::uint64_t round_samples = 1;
    PlanCodec codec = PlanCodec::kDense;
  };
  struct Incarnation {
    std::map<Round, Settings> settings;           // by the first round, beside the plan's
    std::uint64_t tuned = 0;                      // the newest tuning that it has taken...
    Round tuned_from;                             // ...and from which round on
    Round begun;                                  // rounds below it have begun
    std::vector<std::vector<float>> residual;     // per shard
    std::vector<std::vector<PushRecord>> pushes;  // per shard, by sequence
    std::vector<std::uint64_t> closed;            // per shard: pushes below it are done with at the worker
    std::optional<Round> next_round;
    std::optional<Replica::ComputeRound> computing;
    std::optional<Uncoded> uncoded;
    std::vector<Version> checked;  // per shard: the version whose shadow has been compared
  };
  struct SettledRound {
    IncarnationOrder order;
    double part = 0;  // of a round of everybody
  };
  /// What a version of a shard's shadow holds.
  struct VersionRecord {
    std::vector<float> shadow;
    MembershipEpoch epoch;
    std::map<IncarnationOrder, std::uint64_t> settled;  // next sequence
    std::map<IncarnationOrder, Round> clocks;
    std::map<IncarnationOrder, std::vector<ReturnedPush>> returned;
    std::size_t rounds = 0;  // settled
  };
  /// What a shard has to give for a cut.
  struct CutRecord {
    std::vector<float> w;
    std::uint32_t epochs = 0;  // all of whose samples count
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
    std::map<IncarnationOrder, std::vector<ReturnedPush>> returned;
    std::vector<SettledRound> rounds;
    std::optional<ServerModel<float>> server;
    std::set<IncarnationOrder> fenced;
    Round published_through;  // smallest active clock of the newest version
    std::optional<ProtocolTime> withheld_since;
    PlanCodec codec = PlanCodec::kDense;  // of versions
    std::map<Version, std::shared_ptr<const VersionRecord>> history;
    std::map<CutId, CutRecord> cuts;
    // What has left the process.
    Version version_left;
    std::map<IncarnationOrder, std::uint64_t> settled_left;  // next sequence
  };

  Incarnation& incarnation(IncarnationOrder order);
  void make_push(Incarnation& of, std::size_t shard, std::span<const float> progress, Round round,
                 const SampleRange& range, const Codec& codec, bool flush);
  void begin_shard(std::size_t k);
  void replay(std::size_t k, const ShardRecord& record, const ShardCore& core);
  void settle(std::size_t k, IncarnationOrder order, std::uint64_t sequence, std::uint16_t applied_parts);
  /// In lockstep: every version is a step, with one push of everybody.
  [[nodiscard]] bool takes_steps(const Shard& shard) const {
    return plan_.deterministic && shard.epoch <= MembershipEpoch(1);
  }
  [[nodiscard]] std::uint16_t weight_of(const Shard& shard, IncarnationOrder order,
                                        const PushRecord& push) const;
  [[nodiscard]] std::optional<Round> smallest_active_clock(const Shard& shard) const;
  void check_publishes(std::size_t k, const ShardCore& core, ProtocolTime now);
  void check_bounds(std::size_t k, const ShardCore& core,
                    const std::map<IncarnationOrder, std::size_t>& settled) const;
  void take_back(Incarnation& of, std::size_t k, const ShardReplica& state);
  void on_compute(IncarnationOrder order, const Replica& replica, const Replica::ComputeRound& round);
  void check_extends(const Incarnation& of, const Replica::ComputeRound& round) const;
  void check_merged(IncarnationOrder order, const Replica& replica, const Replica::ComputeRound& round);
  void on_tuned(IncarnationOrder order, const Replica::TuningTaken& taken);
  [[nodiscard]] Settings settings_of(const Incarnation& of, Round round) const;
  void on_coded(IncarnationOrder order, const Replica::RoundCoded& coded);
  void on_flushed(IncarnationOrder order, const Replica::Flushed& flushed);
  void check_ledger(Incarnation& of, IncarnationOrder order, std::size_t k, const ShardReplica& state);
  [[nodiscard]] bool holds_too_much(const Replica& replica) const;
  void check_waiting(IncarnationOrder order, const Replica& replica, const Incarnation& of);
  [[nodiscard]] Round smallest_seen(const Replica& replica, const Membership& membership) const;
  void check_at_rest() const;
  void publish(std::size_t k, const Publish* message, const ShardCore& core);
  void check_header(std::size_t k, const VersionHeader& header) const;
  void check_assign(std::size_t k, const Assign& assign) const;
  void check_cut(std::size_t k, CutId cut, std::span<const float> values, const char* where) const;
  void record_version(std::size_t k);
  [[nodiscard]] const VersionRecord& version_at(std::size_t k, const VersionHeader& merged) const;

  const Plan& plan_;
  Coverage& coverage_;
  std::map<PlanCodec, JobCodecs> codecs_;
  std::map<std::uint64_t, Tune> tunings_;  // by number
  std::map<MembershipEpoch, Membership> memberships_;
  std::map<IncarnationOrder, Incarnation> incarnations_;
  std::set<IncarnationOrder> dead_;
  std::map<LeaseId, EvaluationLease> evaluations_;
  std::vector<Shard> shards_;
  std::vector<std::vector<std::uint8_t>> counted_;  // per epoch and sample
  std::uint64_t rounds_ = 0;
  std::vector<float> result_;
};

}  // namespace nanduti::sim
