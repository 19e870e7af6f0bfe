#pragma once

#include <cstdint>
#include <span>

#include "common/base/result.h"
#include "common/codec/codec.h"
#include "common/codec/codec_kernels.h"
#include "common/codec/group_encoder.h"

namespace nanduti {

/// The payload of all groups, which `parts` hold in order.
SharedBytes write_block_payload(const GroupGrid& grid, std::span<const EncodedGroups> parts);

/// A payload whose header and directory are checked, and fit what it has.
struct OpenedBlockPayload {
  GroupGrid grid;
  std::span<const std::byte> directory;
  std::span<const std::byte> bodies;  ///< one behind the other
  std::uint64_t value_count = 0;
  bool dense = true;  ///< every value is there

  [[nodiscard]] GroupEntry entry(std::uint64_t index) const;
};

/// Opens a payload of `size` values, which outlives what is returned. Errors: kCorrupt.
Result<OpenedBlockPayload> open_block_payload(std::span<const std::byte> payload, std::uint64_t size);

/// Decodes a payload of `size` values. Errors: kCorrupt.
Result<Update> read_block_payload(const SharedBytes& payload, std::uint64_t size,
                                  const CodecKernels& kernels);

}  // namespace nanduti
