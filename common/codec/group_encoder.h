#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/codec/block_codec.h"
#include "common/codec/block_layout.h"
#include "common/codec/block_selector.h"
#include "common/codec/quantiser.h"

namespace nanduti {

/// Consecutive groups, coded: what stands in the payload, and what a receiver will decode from it.
struct EncodedGroups {
  std::vector<GroupEntry> directory;
  std::vector<std::byte> bodies;
  std::vector<std::uint32_t> indices;  ///< among all values
  std::vector<float> values;
};

/// The cut into groups that a job's options ask for: enough blocks that some thousand values share a header.
GroupGrid grid_of(const BlockCodecOptions& options, const CodingContext& context, std::uint64_t size);

/// Codes groups of one update. Groups know nothing of each other: several encoders may work on different
/// groups at once, and the bytes are the same. One thread each.
class GroupEncoder {
 public:
  /// Shapes [grid.size]; progress may be empty: nothing. All arguments outlive the encoder.
  GroupEncoder(const BlockCodecOptions& options, const CodingContext& context, const GroupGrid& grid,
               std::span<float> residual, std::span<const float> progress, const CodecKernels& kernels);

  /// Makes room for what groups [begin, end) usually take.
  void reserve(std::uint64_t begin, std::uint64_t end, EncodedGroups& out) const;

  /// Error feedback of group `index`, appended to `out`.
  void encode(std::uint64_t index, EncodedGroups& out);

 private:
  enum class Amount { kDensity, kAll };
  enum class Accumulate { kDue, kDone };

  [[nodiscard]] double density_at(std::uint64_t position) const;
  [[nodiscard]] Amount amount_of(std::uint64_t index) const;
  /// How many values of `place`, which begins a block, may be sent.
  [[nodiscard]] std::uint64_t allowed(const ParameterRange& place, Amount amount) const;
  /// Fills selection_.
  void select(const ParameterRange& place, Amount amount, Accumulate accumulate);
  [[nodiscard]] ValueCode choose_code(Amount amount) const;
  void append(const ParameterRange& place, ValueCode code, EncodedGroups& out);

  const BlockCodecOptions& options_;
  const CodingContext& context_;
  const GroupGrid& grid_;
  const std::span<float> residual_;
  const std::span<const float> progress_;
  BlockSelector selector_;
  Selection selection_;
  QuantisedValues quantised_;
};

}  // namespace nanduti
