#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/codec/codec.h"
#include "common/protocol/message.h"

namespace nanduti {

/// What a worker's own work counts in its replica: all of it, though in w each of W workers' work counts 1/W.
/// The others are taken to have found the same. (DESIGN has rho = 1/W; scripts/experiment.sh merge says
/// otherwise.)
struct MergeWeights {
  float own_work = 1;  ///< pushes in flight, and progress that is not coded yet
  float rho = 1;       ///< the residual
};

/// A worker's view of one shard: the shadow, its own pushes on the way, and the residual. One thread.
class ShardReplica {
 public:
  /// A push that the merged version has not settled.
  struct InFlight {
    Sequence sequence;
    Update update;                  ///< what the shard will apply, at full weight here
    std::size_t payload_bytes = 0;  ///< as sent
    bool acknowledged = false;
    bool weighed = false;  ///< the shard applies this much and no more: the rest is in the residual
  };

  /// `initial`: the shadow of version 0, of whatever chain is heard of first, if it is known.
  ShardReplica(std::uint64_t size, IncarnationOrder own,
               std::optional<std::span<const float>> initial = std::nullopt);

  [[nodiscard]] std::uint64_t size() const { return shadow_.size(); }
  [[nodiscard]] std::span<const float> shadow() const { return shadow_; }
  [[nodiscard]] std::span<const float> residual() const { return residual_; }
  [[nodiscard]] const std::deque<InFlight>& in_flight() const { return in_flight_; }
  /// What the newest merged version said; version 0 of chain 0 before the first.
  [[nodiscard]] const VersionHeader& merged() const { return merged_; }
  [[nodiscard]] bool has_shadow() const { return merged_.chain != ChainId(); }
  /// Pushes below it are durable at the shard.
  [[nodiscard]] Sequence acknowledged() const { return acknowledged_; }
  [[nodiscard]] Sequence next_sequence() const { return next_sequence_; }
  /// Own pushes below it are part of the merged version, or were refused.
  [[nodiscard]] Sequence settled() const { return settled_; }
  /// What they occupy, payloads included that are not acknowledged.
  [[nodiscard]] std::size_t in_flight_bytes() const;

  /// Applies the next version. Errors: kCorrupt, if it does not continue the merged one or does not decode;
  /// nothing has changed then, and the worker subscribes again.
  Status merge(const Publish& publish, const Codec& codec);
  Status merge(const Assign& assign);
  /// What merge() demands of an assignment's values, whenever it is merged. Errors: kCorrupt.
  [[nodiscard]] Status check_values(const Assign& assign) const;
  /// The shard's word on pushes, from an acknowledgement. What it does not apply returns to the residual,
  /// once.
  void acknowledge(Sequence next_sequence, std::span<const ReturnedPush> returned);

  /// x = shadow - own_work * (in-flight + pending) - rho * residual. `x` and `pending` have shape [size()];
  /// pending may be empty: nothing.
  void compute_parameters(std::span<float> x, std::span<const float> pending, MergeWeights weights) const;
  /// Adds a round's progress (shape [size()]) to the residual, codes what is to be sent and keeps the rest.
  /// The caller fills in what names the round.
  Push push(std::span<const float> progress, const Codec& codec, const CodingContext& context);
  /// Mass that has returned to the residual since the last call.
  struct Returned {
    bool any = false;
    bool refused = false;  ///< of a push that was not applied at all
  };
  Returned take_returned() { return std::exchange(returned_, Returned()); }

 private:
  void take_header(const VersionHeader& header);
  void take_back(std::span<const ReturnedPush> returned);
  void weigh(InFlight& sent, float part);
  void touch(const Update& update);
  void touch(std::uint64_t begin, std::uint64_t end);
  /// Brings base_ up to date where something was touched.
  void rebase();

  IncarnationOrder own_;
  bool has_initial_values_;
  std::vector<float> shadow_;
  std::vector<float> residual_;
  std::deque<InFlight> in_flight_;
  // shadow - in-flight, summed in this order from the shadow on at every touched coordinate, so that
  // roundings do not pile up.
  std::vector<float> base_;
  std::vector<std::uint8_t> touched_;  // since the last rebase(), as flags and as a list
  std::vector<std::uint32_t> touched_indices_;
  bool all_touched_ = false;
  Returned returned_;
  VersionHeader merged_;
  Sequence next_sequence_;
  Sequence acknowledged_;
  Sequence settled_;
};

}  // namespace nanduti
