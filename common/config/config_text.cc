#include "common/config/config_text.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

namespace nanduti {
namespace {

Error system_error(const std::filesystem::path& path, int number) {
  const ErrorCode code = number == ENOENT || number == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
  return make_error(code, "{}: cannot be read: {}", path.string(), std::strerror(number));
}

/// Reads one byte more than is allowed at most, so that an endless file ends too.
Result<std::string> read_bounded(const std::filesystem::path& path, int descriptor) {
  std::string text(kConfigBytesMax + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t count = ::read(descriptor, text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(path, errno);
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  text.resize(size);
  return text;
}

}  // namespace

Result<ConfigText> read_config_file(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return system_error(path, errno);
  auto text = read_bounded(path, descriptor);
  ::close(descriptor);
  if (!text.ok()) return text.error();
  if (text->size() > kConfigBytesMax) {
    return make_error(ErrorCode::kInvalidArgument, "{}: found more than {} bytes, allowed: at most that many",
                      path.string(), kConfigBytesMax);
  }
  return ConfigText{path.string(), std::move(text).value()};
}

}  // namespace nanduti
