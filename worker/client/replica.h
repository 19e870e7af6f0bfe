#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/codec/codec.h"
#include "common/tensor/parameter_space.h"
#include "worker/client/shard_replica.h"

namespace nanduti {

/// What may change while a job runs, from one round on.
struct RoundSettings {
  std::optional<std::uint32_t> bound;  ///< staleness bound s; empty: none
  /// Of a round, where the lease has as many: local_steps * batch_size.
  std::uint64_t round_samples = ~std::uint64_t{0};
  /// A round that ends where the gate is closed to the next one goes on, up to so many times its length.
  std::uint32_t accumulate_rounds_max = 1;
  JobCodecs codecs;
  /// Where own work counts less than it does, for experiments, own rounds count at the gate like others',
  /// also of a worker that is alone.
  MergeWeights weights = {};
};

struct ReplicaOptions : RoundSettings {  ///< those that hold from round 0 on
  JobId job;
  std::vector<ParameterRange> shards;  ///< in order; together the whole parameter space
  IncarnationOrder own;
  std::shared_ptr<const std::vector<float>> initial_values;  ///< of the parameter space; null: not known
  std::shared_ptr<WorkingMemory> memory;                     ///< null: the host's
  bool deterministic = false;            ///< merge exactly the lowest version that the gate admits
  std::uint32_t window_rounds_max = 64;  ///< unacknowledged rounds; beyond: the worker waits
  /// Memory of pushes that the merged versions do not hold, all shards; beyond, and with two rounds at least:
  /// the worker waits. In lockstep the bound alone says how many there are.
  std::size_t window_bytes_max = std::size_t{256} << 20;
  std::uint64_t epoch_samples = 1;  ///< of the training set: how far a round is in the job
};

/// What names a round in its pushes.
struct RoundName {
  JobId job;
  Round round;
  LeaseId lease;  ///< 0: a flush, which is no round
  SampleRange range;
};

/// What a version takes in memory, more or less.
std::size_t version_bytes(const std::variant<Publish, Assign>& version);

/// A worker's working copy of the model over all shards: what it computes on, when it may begin a round, what
/// it pushes (DESIGN section 2). No I/O, threads or clock: it is fed by one ordered queue, from the
/// protocol's core and from the thread that computes, and its actions go to either. One thread.
///
/// At most one round is being computed; the next one begins in the same event in which it ends, with samples
/// that have been offered before, and before its progress is coded: until it is, progress is part of x at
/// full weight, like what is in flight. (Deterministic jobs code first, so that no clock decides the order.)
class Replica {
 public:
  // ---- from the core ----
  struct MergeVersion {
    ShardIndex shard;
    std::variant<Publish, Assign> version;
  };
  struct TakeAck {
    ShardIndex shard;
    Sequence next_sequence;
    std::vector<ReturnedPush> returned;
  };
  /// Samples for the next rounds, of one lease. Without any, for a round without samples. Precondition: all
  /// of the offer before has been begun or withdrawn.
  struct OfferRounds {
    LeaseId lease;
    SampleRange range;
    MembershipEpoch active_from;
    Round entry_clock;
  };
  /// Answered by RoundsWithdrawn.
  struct WithdrawRounds {};
  /// From this round on, or from the next one, if that is later. Answered by TuningTaken.
  struct TakeTuning {
    std::uint64_t number = 0;
    Round from_round;
    RoundSettings settings;
  };
  /// All that is in the residual becomes one push per shard, exactly: coded as dense float32 whatever the
  /// job's codec. `in_step`: also if it is nothing, in a deterministic job's first membership, where shards
  /// take a push of every active worker at a time. Answered by Flushed.
  struct Flush {
    bool in_step = false;
  };
  // ---- from the thread that computes ----
  struct RoundComputed {
    JobId job;
    std::shared_ptr<RoundBuffers> buffers;
    double loss_sum = 0;
    double compute_seconds = 0;
  };
  // ---- from whoever carries out CodeRound ----
  struct TimeToCode {};
  using Event = std::variant<MergeVersion, TakeAck, OfferRounds, WithdrawRounds, TakeTuning, Flush,
                             RoundComputed, TimeToCode>;

  /// When a round may begin.
  enum class Gate : std::uint8_t {
    kOpen,
    kNoParameters,  ///< a shard has not sent its shadow yet
    kNotActive,     ///< the membership that lets the worker in has not been merged everywhere
    kStaleness,     ///< another active worker is too far behind: a stall
    kWindow,        ///< too many own rounds are unacknowledged, or too many bytes not merged
  };

  // ---- to the core ----
  /// What has become of own pushes, as far as it has been merged.
  struct Verdicts {
    ShardIndex shard;
    Sequence settled;       ///< those below it are part of the shadow, or were refused
    bool returned = false;  ///< what the shard has not applied is in the residual again
  };
  /// The next MergeVersion is done with, whether it was merged or kept for its round.
  struct VersionTaken {
    ShardIndex shard;
    std::size_t bytes = 0;  ///< version_bytes()
  };
  /// A version could not be merged, and is done with: the shard must be subscribed to again, from this
  /// version on.
  struct MergeFailed {
    ShardIndex shard;
    ChainId chain;
    Version version;
    std::string reason;
    bool adds = false;      ///< it was a publish, not an assignment
    std::size_t bytes = 0;  ///< version_bytes()
  };
  /// A round has begun, on the first of the samples that are offered.
  struct RoundBegun {
    Round round;
    SampleRange range;
    std::uint32_t staleness = 0;  ///< rounds between it and the slowest active worker
  };
  /// The round goes on, on more of them.
  struct RoundExtended {
    Round round;
    SampleRange range;
    // Of what it has done since it began, or since it went on last.
    std::uint64_t samples = 0;
    double loss_sum = 0;
    double compute_seconds = 0;
  };
  struct RoundCoded {
    RoundName name;
    std::vector<Push> pushes;  ///< one per shard
    // Of what no RoundExtended has reported.
    std::uint64_t samples = 0;
    double loss_sum = 0;
    double compute_seconds = 0;
  };
  struct RoundsWithdrawn {
    std::optional<OfferRounds> offer;  ///< what of it had not begun; empty: nothing
  };
  struct TuningTaken {
    std::uint64_t number = 0;
    Round from_round;
  };
  struct Flushed {
    std::vector<Push> pushes;  ///< one per shard, or none
    bool complete = false;     ///< nothing is left in the residual
    bool in_step = false;      ///< it is a step: they settle when every active worker has taken it
  };
  /// The gate in front of the next round, while nothing is computed; kOpen: no round waits there.
  struct GateChanged {
    Gate gate = Gate::kOpen;
  };
  using Report = std::variant<Verdicts, VersionTaken, MergeFailed, RoundBegun, RoundExtended, RoundCoded,
                              RoundsWithdrawn, TuningTaken, Flushed, GateChanged>;
  // ---- to the thread that computes; ends with RoundComputed ----
  struct ComputeRound {
    JobId job;
    Round round;
    SampleRange range;  ///< not empty
    std::shared_ptr<RoundBuffers> buffers;
    bool extends = false;  ///< the round that has been computed last, by these samples
    bool merged = false;   ///< others' work has been merged since the last round began; not where it extends
  };
  /// Slow work is due: TimeToCode, after the actions beside it.
  struct CodeRound {};
  using Action = std::variant<ComputeRound, CodeRound, Report>;

  explicit Replica(const ReplicaOptions& options);
  ~Replica() = default;
  Replica(Replica&&) = default;
  Replica& operator=(Replica&&) = default;

  void on_event(Event event);
  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }

  // For checkers.
  [[nodiscard]] const ShardReplica& shard(ShardIndex index) const { return shards_.at(index.value()).state; }
  /// Chain and version of the newest version that has arrived from a shard, merged or not.
  [[nodiscard]] std::pair<ChainId, Version> arrived(ShardIndex index) const;
  [[nodiscard]] Gate gate(Round round, MembershipEpoch active_from) const;
  /// Newest membership merged on any shard.
  [[nodiscard]] MembershipEpoch epoch() const { return newest().epoch; }
  /// A deterministic job's first membership holds, as far as is known.
  [[nodiscard]] bool is_lockstep() const;
  [[nodiscard]] Round next_round() const { return round_; }
  [[nodiscard]] const std::optional<OfferRounds>& offered() const { return offered_; }
  /// What the next round waits for, while nothing is computed.
  [[nodiscard]] Gate waits_at() const { return reported_gate_; }
  /// Euclidean, of what compression has left unsent, all shards; 0 if that is not finite.
  [[nodiscard]] double residual_norm() const;
  [[nodiscard]] bool is_computing() const { return computing_.has_value(); }
  /// What holds for this round. Precondition: no earlier one than the first that is not coded.
  [[nodiscard]] const RoundSettings& settings(Round round) const;
  /// Progress that is not coded yet, that of a round which goes on included, shape [parameters]; empty: none.
  [[nodiscard]] std::span<const float> pending() const {
    if (pending_) return pending_->buffers->progress;
    return computing_ && computing_->done ? computing_->done->progress : std::span<float>();
  }

 private:
  struct Shard {
    ParameterRange range;
    ShardReplica state;
    std::deque<std::variant<Publish, Assign>> arrived;  // not merged yet; deterministic jobs only
  };
  /// A round that has begun: of which versions, and once it is computed, what came of it.
  struct Computation {
    RoundName name;
    std::vector<Version> base_versions;  // per shard
    std::shared_ptr<RoundBuffers> buffers;
    std::shared_ptr<RoundBuffers> done;  // of a round that goes on: what it has given before
    std::uint64_t reported = 0;          // of its samples
    double loss_sum = 0;
    double compute_seconds = 0;
  };

  void handle(MergeVersion& event);
  void handle(TakeAck& event);
  void handle(OfferRounds& event) { offered_ = event; }
  void handle(WithdrawRounds& event);
  void handle(TakeTuning& event);
  void handle(Flush& event);
  void handle(RoundComputed& event);
  void handle(TimeToCode& event);

  /// Begins the next round if nothing is computed and the gate is open.
  void advance();
  void begin_round();
  [[nodiscard]] Round next_offered() const;
  [[nodiscard]] SampleRange take_samples(std::uint64_t samples_max);
  bool extend(Computation& computation);
  void compute(Computation computation, const SampleRange& range);
  void merge_due(Round round);
  void code(Computation computation);
  std::vector<Push> make_pushes(const Computation& computation, std::span<const float> progress,
                                const Codec& codec, MembershipEpoch epoch);
  /// What a flush names. The residual is of rounds that many workers have done together, and its weight in w
  /// goes by them: as a job ends they leave one after the other, and by the last memberships the weights of
  /// what they flush would add up to more than the whole.
  [[nodiscard]] MembershipEpoch residual_epoch() const;
  bool take_returned(ShardReplica& state);
  Status merge(ShardIndex index, std::variant<Publish, Assign> version);
  [[nodiscard]] Status check_arrival(ShardIndex index, const std::variant<Publish, Assign>& version) const;
  Status merge_one(ShardIndex index, const std::variant<Publish, Assign>& version);
  std::shared_ptr<RoundBuffers> take_buffers();
  void report(Report report) { actions_.emplace_back(std::move(report)); }

  [[nodiscard]] std::uint64_t parameters() const { return shards_.back().range.end; }
  [[nodiscard]] const VersionHeader& newest() const;
  /// The smallest clock that counts at the gate of `round`.
  [[nodiscard]] std::optional<Round> slowest(Round round) const;
  [[nodiscard]] bool is_window_full() const;
  [[nodiscard]] Version due(Round round) const;
  /// Rounds below it do not exist for this worker, as far as the newest membership says.
  [[nodiscard]] Round own_entry_clock() const;
  [[nodiscard]] bool has_residual() const;

  ReplicaOptions options_;
  std::shared_ptr<WorkingMemory> memory_;
  std::vector<Shard> shards_;
  Round round_;                              // the next one
  std::map<Round, RoundSettings> settings_;  // by the round from which they hold: the last one's, and to come
  std::optional<OfferRounds> offered_;
  std::optional<Computation> computing_;
  std::optional<Computation> pending_;  // computed, not coded
  struct {
    MembershipEpoch epoch;
    std::size_t active = 0;
    Round round;
  } crowded_;  // the membership with the most active workers in which one of the last rounds was coded
  Gate reported_gate_ = Gate::kOpen;
  bool merged_others_ = false;  // since a round began
  std::vector<std::shared_ptr<RoundBuffers>> spare_;
  std::vector<Action> actions_;
};

std::string_view to_string(Replica::Gate gate);

}  // namespace nanduti
