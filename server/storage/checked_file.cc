#include "server/storage/checked_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/storage/file_descriptor.h"

namespace nanduti {

Hash hash_of(std::span<const std::uint64_t> words, std::span<const std::span<const std::byte>> pieces) {
  crypto_generichash_state state;
  NANDUTI_CHECK(crypto_generichash_init(&state, nullptr, 0, sizeof(Hash)) == 0);
  const auto add = [&](std::span<const std::byte> bytes) {
    crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  };
  add(std::as_bytes(words));
  for (const std::span<const std::byte> piece : pieces) add(piece);
  Hash hash{};
  crypto_generichash_final(&state, reinterpret_cast<unsigned char*>(hash.data()), sizeof hash);
  return hash;
}

bool write_at(int descriptor, std::uint64_t offset, std::span<const std::span<const std::byte>> pieces) {
  for (std::span<const std::byte> piece : pieces) {
    while (!piece.empty()) {
      const ssize_t count = ::pwrite(descriptor, piece.data(), piece.size(), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return false;
      piece = piece.subspan(static_cast<std::size_t>(count));
      offset += static_cast<std::uint64_t>(count);
    }
  }
  return true;
}

Result<SharedBytes> read_file(const std::filesystem::path& path) {
  const auto failed = [&](int number) {
    return make_error(number == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot read {}: {}",
                      path.string(), std::strerror(number));
  };
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file.is_open() || ::fstat(file.get(), &status) != 0) return failed(errno);
  if (!S_ISREG(status.st_mode)) return failed(EISDIR);
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count = ::read(file.get(), bytes.data() + filled, bytes.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(errno);
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
  }
  bytes.resize(filled);
  return SharedBytes::take(std::move(bytes));
}

bool ByteCursor::words(std::span<std::uint64_t> out) {
  if (left() < out.size_bytes()) return false;
  std::memcpy(out.data(), bytes_.data() + position_, out.size_bytes());
  position_ += out.size_bytes();
  return true;
}

bool ByteCursor::bytes(std::uint64_t size, SharedBytes& out) {
  if (left() < size) return false;
  out = bytes_.slice(position_, size);
  position_ += size;
  return true;
}

bool ByteCursor::padded(std::uint64_t size, SharedBytes& out) {
  if (!bytes(size, out)) return false;
  position_ += std::min<std::uint64_t>(padded_to_8(size) - size, left());
  return true;
}

}  // namespace nanduti
