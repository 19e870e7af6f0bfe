#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace nanduti {

inline constexpr std::uint32_t kCifarChannels = 3;
inline constexpr std::uint32_t kCifarSide = 32;
inline constexpr std::uint64_t kCifarPixels = kCifarChannels * kCifarSide * kCifarSide;
/// All files of a set together.
inline constexpr std::uint64_t kCifarBytesMax = std::uint64_t{1} << 33;

struct CifarImages {
  std::uint64_t count = 0;
  std::vector<std::uint64_t> file_counts;  ///< of each file
  SharedBytes pixels;                      ///< shape (count, 3, 32, 32)
  SharedBytes labels;                      ///< shape (count)
};

/// Reads files in the binary version of CIFAR (Krizhevsky, "Learning multiple layers of features from tiny
/// images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html): records of `label_bytes` bytes, the last of
/// which is the label, and 3072 pixels, all red ones first, row by row. One after the other they make one
/// set. Errors name the file and what is wrong: kNotFound, kIo, kCorrupt, kExhausted (above kCifarBytesMax).
/// Precondition: there is a file, and label_bytes is 1 or 2.
Result<CifarImages> read_cifar_files(std::span<const std::filesystem::path> files, std::uint32_t label_bytes);

}  // namespace nanduti
