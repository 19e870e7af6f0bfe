#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/codec/block_layout.h"
#include "common/codec/block_selector.h"
#include "common/codec/encoding_plan.h"
#include "common/codec/quantiser.h"

namespace nanduti {

/// Consecutive groups, coded: what stands in the payload, and what a receiver will decode from it.
struct EncodedGroups {
  std::vector<GroupEntry> directory;
  std::vector<std::byte> bodies;
  std::vector<std::uint32_t> indices;  ///< among all values
  std::vector<float> values;
};

/// Codes groups of one update. Groups know nothing of each other: several encoders may work on different
/// groups at once, and the bytes are the same. One thread each.
class GroupEncoder {
 public:
  /// Shapes [plan.grid().size]; progress may be empty: nothing. All arguments outlive the encoder.
  GroupEncoder(const EncodingPlan& plan, std::span<float> residual, std::span<const float> progress,
               const CodecKernels& kernels);

  /// Makes room for what groups [begin, end) usually take.
  void reserve(std::uint64_t begin, std::uint64_t end, EncodedGroups& out) const;

  /// Error feedback of group `index`, appended to `out`.
  void encode(std::uint64_t index, EncodedGroups& out);

 private:
  enum class Amount { kAllowed, kAll };
  enum class Accumulate { kDue, kDone };

  /// Fills selection_.
  void select(std::uint64_t index, Amount amount, Accumulate accumulate);
  [[nodiscard]] ValueCode choose_code(std::uint64_t index) const;
  void append(const ParameterRange& place, ValueCode code, EncodedGroups& out);

  const EncodingPlan& plan_;
  const std::span<float> residual_;
  const std::span<const float> progress_;
  BlockSelector selector_;
  Selection selection_;
  QuantisedValues quantised_;
};

}  // namespace nanduti
