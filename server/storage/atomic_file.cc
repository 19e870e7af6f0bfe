#include "server/storage/atomic_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "server/storage/file_descriptor.h"

namespace nanduti {
namespace {

bool write_all(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

/// False with errno.
bool write_and_sync(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces) {
  FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!file.is_open()) return false;
  for (const std::span<const std::byte> piece : pieces) {
    if (!write_all(file.get(), piece)) return false;
  }
  return ::fsync(file.get()) == 0 && file.close();
}

}  // namespace

Status write_file_atomically(const std::filesystem::path& path,
                             std::span<const std::span<const std::byte>> pieces) {
  std::filesystem::path temporary = path;
  temporary += kTemporarySuffix;
  if (!write_and_sync(temporary, pieces) || ::rename(temporary.c_str(), path.c_str()) != 0) {
    const int number = errno;
    ::unlink(temporary.c_str());
    return make_error(ErrorCode::kIo, "cannot write {}: {}", path.string(), std::strerror(number));
  }
  return sync_folder(path.parent_path());
}

Status write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  const std::span<const std::byte> pieces[] = {std::as_bytes(std::span(text))};
  return write_file_atomically(path, pieces);
}

Status sync_folder(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder.empty() ? "." : folder;
  const FileDescriptor descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open() || ::fsync(descriptor.get()) != 0) {
    return make_error(ErrorCode::kIo, "cannot sync the folder {}: {}", path.string(), std::strerror(errno));
  }
  return {};
}

}  // namespace nanduti
