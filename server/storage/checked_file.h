#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"

/// What the log's and the snapshots' files have in common.
namespace nanduti {

using Hash = std::array<std::uint64_t, 2>;

/// BLAKE2b, 128 bits.
Hash hash_of(std::span<const std::uint64_t> words, std::span<const std::span<const std::byte>> pieces);

constexpr std::size_t padded_to_8(std::size_t size) { return (size + 7) / 8 * 8; }

/// Writes everything at this place of the file. False with errno.
bool write_at(int descriptor, std::uint64_t offset, std::span<const std::span<const std::byte>> pieces);

/// A whole file. Errors: kNotFound, kIo.
Result<SharedBytes> read_file(const std::filesystem::path& path);

/// Reads words and bytes one after the other; false, and nothing is taken, where there are not enough.
class ByteCursor {
 public:
  explicit ByteCursor(SharedBytes bytes) : bytes_(std::move(bytes)) {}
  bool words(std::span<std::uint64_t> out);
  bool bytes(std::uint64_t size, SharedBytes& out);
  /// Also over the padding to a multiple of 8, which may be missing at the end.
  bool padded(std::uint64_t size, SharedBytes& out);
  [[nodiscard]] std::uint64_t position() const { return position_; }
  void seek(std::uint64_t position) { position_ = position; }
  [[nodiscard]] std::uint64_t left() const { return bytes_.size() - position_; }

 private:
  SharedBytes bytes_;
  std::uint64_t position_ = 0;
};

}  // namespace nanduti
