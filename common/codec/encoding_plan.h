#pragma once

#include <cstdint>

#include "common/codec/block_codec.h"
#include "common/codec/block_layout.h"

namespace nanduti {

/// What an update is cut into, and how much of each part may be sent: all that an encoder knows before it has
/// seen a value. Host and device encode by it.
class EncodingPlan {
 public:
  /// Of an update of `size` values. `options` outlive the plan.
  EncodingPlan(const BlockCodecOptions& options, const CodingContext& context, std::uint64_t size);

  /// Enough blocks to a group that some thousand values share a header.
  [[nodiscard]] const GroupGrid& grid() const { return grid_; }
  /// Of the dense segment: everything is sent that is not zero.
  [[nodiscard]] bool sends_all(std::uint64_t group) const { return group >= grid_.sparse_count(); }
  /// How many values of a block of the group may be sent. `begin`, `size`: the block's, among all values.
  [[nodiscard]] std::uint64_t allowed_in_block(std::uint64_t group, std::uint64_t begin,
                                               std::uint64_t size) const;
  /// How many values of the whole group.
  [[nodiscard]] std::uint64_t allowed(std::uint64_t group) const;
  /// How the group's values are written, if they are finite and none too few.
  [[nodiscard]] ValueCode usual_code(std::uint64_t group) const;
  /// What the group takes when as many values are sent as may be. One whose non-zero values fit into that as
  /// float32 goes so; there are never more of those than allowed().
  [[nodiscard]] std::uint64_t usual_bits(std::uint64_t group, ValueCode code) const;

 private:
  [[nodiscard]] double density_at(std::uint64_t position) const;

  const BlockCodecOptions& options_;
  std::uint64_t begin_;
  std::uint32_t doublings_;
  GroupGrid grid_;
};

}  // namespace nanduti
