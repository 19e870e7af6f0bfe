#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>

#include "common/base/result.h"
#include "common/codec/codec.h"
#include "common/protocol/message.h"
#include "worker/client/working_memory.h"

namespace nanduti {

/// A worker's view of one shard: the shadow, its own pushes on the way, and the residual. One thread.
class ShardReplica {
 public:
  /// A push that the merged version has not settled.
  struct InFlight {
    Sequence sequence;
    std::size_t payload_bytes = 0;  ///< as sent
    bool acknowledged = false;
    bool weighed = false;  ///< the shard applies this much and no more: the rest is in the residual
  };

  /// `values`: of `size` values, with zeros in flight and in the residual. `has_initial_values`: they are the
  /// shadow of version 0, of whatever chain is heard of first.
  ShardReplica(std::unique_ptr<WorkingShard> values, std::uint64_t size, IncarnationOrder own,
               bool has_initial_values = false);

  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] const WorkingShard& values() const { return *values_; }
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

  /// WorkingShard::compute_parameters().
  void compute_parameters(std::span<float> x, std::span<const float> pending, MergeWeights weights) {
    values_->compute_parameters(x, pending, weights);
  }
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

  std::unique_ptr<WorkingShard> values_;  // as many in flight, in the same order
  std::uint64_t size_;
  IncarnationOrder own_;
  bool has_initial_values_;
  std::deque<InFlight> in_flight_;
  Returned returned_;
  VersionHeader merged_;
  Sequence next_sequence_;
  Sequence acknowledged_;
  Sequence settled_;
};

}  // namespace nanduti
