#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace nanduti {

/// The largest IDX file that is read, values only.
inline constexpr std::uint64_t kIdxBytesMax = std::uint64_t{1} << 33;

/// A plain file up to this size is copied once it is checked: whoever rewrites it later changes nothing here.
inline constexpr std::uint64_t kIdxCopiedBytesMax = std::uint64_t{1} << 29;

/// An array of unsigned bytes, row-major, first dimension slowest.
struct IdxArray {
  std::vector<std::uint32_t> dimensions;  ///< 1 to 4 of them, none 0
  SharedBytes values;                     ///< one byte for each element
};

/// Reads an IDX file of unsigned bytes (the MNIST format: two zero bytes, the type 0x08, the number of
/// dimensions, each dimension in 32 bits big-endian, then the values; all of that and nothing more). A plain
/// file is memory-mapped (above kIdxCopiedBytesMax it stays so, and must not shrink while the array lives);
/// one compressed with gzip, known by its first bytes, is unpacked, its checksum verified, and no more memory
/// used than its header declares. Errors name the file and what is wrong: kNotFound, kIo, kCorrupt,
/// kExhausted (above kIdxBytesMax).
Result<IdxArray> read_idx_file(const std::filesystem::path& path);

}  // namespace nanduti
