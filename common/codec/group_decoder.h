#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/result.h"
#include "common/codec/block_layout.h"
#include "common/codec/codec_kernels.h"

namespace nanduti {

/// Whether an entry of the directory is one that an encoder can have written for a group of `size` values.
/// Errors: kCorrupt.
Status check_entry(const GroupEntry& entry, std::uint64_t size);

/// Decodes one group. Precondition: the entry is checked; `body` has sections_of(entry, size).bytes() bytes.
/// Writes count values and their indices, from `begin` on; both have room for kKernelSlack more. `indices`
/// may be null if the form is dense. Errors: kCorrupt.
Status decode_group(const GroupEntry& entry, std::uint64_t begin, std::uint64_t size,
                    std::span<const std::byte> body, const CodecKernels& kernels, std::uint32_t* indices,
                    float* values);

}  // namespace nanduti
