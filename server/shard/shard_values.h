#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/codec/codec.h"
#include "common/protocol/message.h"
#include "server/shard/server_optimizer.h"

namespace nanduti {

/// A part of a copy of a shard's values: so many blocks of each of its arrays, one after the other.
struct ValuesPart {
  std::uint64_t index = 0;
  SharedBytes bytes;
};

/// The parameters of one shard and their shadow, both float32 of shape [size]. One thread.
///
/// A copy of one instant is made while they change: begin_copy(), then take_part() until it gives nothing
/// more. Parts that are about to change are copied before, so that at worst the whole is held once more.
class ShardValues {
 public:
  /// Blocks of one part of a copy: 1 MiB of each array.
  static constexpr std::uint64_t kPartBlocks = 64;

  /// Version 0: the shadow equals `initial`.
  explicit ShardValues(std::vector<float> initial, ServerOptimizer optimizer = {});

  [[nodiscard]] std::uint64_t size() const { return w_.size(); }
  [[nodiscard]] std::span<const float> w() const { return w_; }
  [[nodiscard]] std::span<const float> shadow() const { return shadow_; }
  [[nodiscard]] Version version() const { return version_; }

  /// Takes a push into w. Precondition: update.size == size().
  void apply(const Update& update, PushShare share);
  /// The next version: shadow += Q(w - shadow). Returns what was added.
  EncodedUpdate publish(const Codec& codec, const CodingContext& context);
  /// The next version, which adds what publish() once returned.
  void add_version(const Update& update);
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

  // ---- a copy of one instant ----

  /// Everything but what the parts hold, for a snapshot of this instant; to read it back, the object must
  /// have been made for the same job. A size that does not fit makes the values unusable (fits()).
  template <class Archive>
  void archive(Archive& a) {
    a(version_, changed_, optimizer_);
  }
  [[nodiscard]] bool fits() const;
  [[nodiscard]] std::uint64_t part_count() const;
  /// Of all parts together.
  [[nodiscard]] std::uint64_t copy_bytes() { return arrays().size() * w_.size() * sizeof(float); }
  void begin_copy();
  void give_up_copy();
  /// The next part, or nothing; first those that have had to be copied already.
  std::optional<ValuesPart> take_part();
  [[nodiscard]] bool has_copied_part() const { return !copied_.empty(); }
  /// False if it is none of these values.
  [[nodiscard]] bool restore(std::uint64_t part, std::span<const std::byte> bytes);

 private:
  [[nodiscard]] std::vector<std::span<float>> arrays();
  void copy_part(std::uint64_t part);
  void copy_before_change(const Update& update);
  void copy_rest();

  std::vector<float> w_;
  ServerOptimizer optimizer_;
  std::vector<float> shadow_;
  std::vector<float> change_;     // w - shadow, while a version is coded
  std::vector<Version> changed_;  // per block: the last version that changed the shadow there
  Version version_;

  std::vector<bool> to_copy_;       // parts; empty: no copy is being made
  std::uint64_t next_to_copy_ = 0;  // there is none to copy below it
  std::deque<ValuesPart> copied_;   // and not taken
};

}  // namespace nanduti
