#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/codec/codec.h"
#include "common/protocol/message.h"
#include "server/shard/server_optimizer.h"

namespace nanduti {

/// The parameters of one shard and their shadow, both float32 of shape [size]. One thread.
class ShardValues {
 public:
  /// Version 0: the shadow equals `initial`.
  explicit ShardValues(std::vector<float> initial, ServerOptimizer optimizer = {});

  [[nodiscard]] std::uint64_t size() const { return w_.size(); }
  [[nodiscard]] std::span<const float> w() const { return w_; }
  [[nodiscard]] std::span<const float> shadow() const { return shadow_; }
  [[nodiscard]] Version version() const { return version_; }

  /// Takes a push into w. Precondition: update.size == size().
  void apply(const Update& update, PushShare share) { optimizer_.apply(w_, update, share); }
  /// The next version: shadow += Q(w - shadow). Returns what was added.
  EncodedUpdate publish(const Codec& codec, const CodingContext& context);
  /// The next version, which adds nothing.
  void publish_nothing() { version_ = version_.next(); }
  /// The next version: shadow = w, bit for bit.
  void publish_exactly();

  /// Whole blocks of the shadow that versions after `since` have changed, joined where they touch.
  [[nodiscard]] std::vector<AssignedRange> changed_since(Version since) const;
  /// Shadow values at the ranges, one after the other.
  [[nodiscard]] SharedBytes shadow_at(const std::vector<AssignedRange>& ranges) const;
  [[nodiscard]] SharedBytes copy_of_w() const;
  /// Euclidean, of w - shadow; 0 if that is not finite.
  [[nodiscard]] double residual_norm() const;

 private:
  std::vector<float> w_;
  ServerOptimizer optimizer_;
  std::vector<float> shadow_;
  std::vector<float> change_;     // w - shadow, while a version is coded
  std::vector<Version> changed_;  // per block: the last version that changed the shadow there
  Version version_;
};

}  // namespace nanduti
