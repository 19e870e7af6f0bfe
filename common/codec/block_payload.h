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

/// Decodes a payload of `size` values. Errors: kCorrupt.
Result<Update> read_block_payload(const SharedBytes& payload, std::uint64_t size,
                                  const CodecKernels& kernels);

}  // namespace nanduti
