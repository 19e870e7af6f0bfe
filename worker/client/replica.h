#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "common/codec/codec.h"
#include "common/tensor/parameter_space.h"
#include "worker/client/shard_replica.h"

namespace nanduti {

struct ReplicaOptions {
  std::vector<ParameterRange> shards;  ///< in order; together the whole parameter space
  IncarnationOrder own;
  std::optional<std::uint32_t> bound;    ///< staleness bound s; empty: none
  bool deterministic = false;            ///< merge exactly the lowest version that the gate admits
  std::uint32_t window_rounds_max = 64;  ///< unacknowledged rounds; beyond: the worker waits
  /// Memory of pushes that the merged versions do not hold, all shards; beyond, and with two rounds at least:
  /// the worker waits. In lockstep the bound alone says how many there are.
  std::size_t window_bytes_max = std::size_t{256} << 20;
  std::shared_ptr<const Codec> codec;
  std::uint64_t seed = 0;
};

/// What names a round in its pushes.
struct RoundName {
  JobId job;
  Round round;
  LeaseId lease;  ///< 0: a flush, which is no round
  SampleRange range;
};

/// A worker's working copy of the model over all shards: what it computes on, when it may begin a round, what
/// it pushes (DESIGN section 2). Pure: versions and acknowledgements go in, parameters and pushes come out.
/// One thread.
class Replica {
 public:
  explicit Replica(const ReplicaOptions& options);

  [[nodiscard]] const ShardReplica& shard(ShardIndex index) const { return shards_.at(index.value()).state; }

  /// A version has arrived. Errors: kCorrupt, as ShardReplica::merge; the shard must be subscribed to again,
  /// from arrived().
  Status on_version(ShardIndex index, std::variant<Publish, Assign> version);
  /// Chain and version of the newest version that has arrived from a shard, merged or not.
  [[nodiscard]] std::pair<ChainId, Version> arrived(ShardIndex index) const;
  void on_ack(ShardIndex index, const PushAck& ack);

  enum class Gate {
    kOpen,
    kNoParameters,  ///< a shard has not sent its shadow yet
    kNotActive,     ///< the membership that lets the worker in has not been merged everywhere
    kStaleness,     ///< another active worker is too far behind: a stall
    kWindow,        ///< too many own rounds are unacknowledged, or too many bytes not merged
  };
  /// Whether round `round` may begin. `active_from` is the lease's.
  [[nodiscard]] Gate gate(Round round, MembershipEpoch active_from) const;
  /// Merges and returns x, shape [parameters]. Precondition: gate() is kOpen.
  std::vector<float> begin_round(Round round);
  /// Progress d = x_before - x_after of the round, shape [parameters], becomes one push per shard.
  std::vector<Push> finish_round(const RoundName& name, std::span<const float> progress);
  /// All that is in the residual becomes one push per shard, exactly: coded as dense float32 whatever the
  /// job's codec, so that nothing is left.
  std::vector<Push> flush(JobId job, Round clock);
  [[nodiscard]] bool has_residual() const;
  /// A deterministic job's first membership holds, as far as is known: shards take one push of every active
  /// worker at a time.
  [[nodiscard]] bool is_lockstep() const;
  /// Every shard has sent its shadow.
  [[nodiscard]] bool has_shadow() const;
  /// Every push is acknowledged by every shard.
  [[nodiscard]] bool is_acknowledged() const;

  /// Newest membership merged on any shard, and how many are active in it.
  [[nodiscard]] MembershipEpoch epoch() const { return newest().epoch; }
  /// Rounds below it do not exist for this worker, as far as the newest membership says.
  [[nodiscard]] Round own_entry_clock() const;
  /// Rounds that `round` is ahead of the slowest active worker.
  [[nodiscard]] std::uint64_t staleness(Round round) const;

 private:
  struct Shard {
    ParameterRange range;
    ShardReplica state;
    std::deque<std::variant<Publish, Assign>> arrived;  // not merged yet; deterministic jobs only
  };
  [[nodiscard]] const VersionHeader& newest() const;
  [[nodiscard]] bool is_window_full() const;
  [[nodiscard]] std::optional<Round> slowest() const;
  [[nodiscard]] Version due(Round round) const;
  std::vector<Push> make_pushes(const RoundName& name, std::span<const float> progress, const Codec& codec);
  [[nodiscard]] Status check_arrival(ShardIndex index, const std::variant<Publish, Assign>& version) const;
  Status merge_one(Shard& shard, const std::variant<Publish, Assign>& version);

  ReplicaOptions options_;
  std::vector<Shard> shards_;
};

}  // namespace nanduti
