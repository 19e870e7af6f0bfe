#include "worker/train/idx_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

namespace nanduti {
namespace {

constexpr std::size_t kDimensionsMax = 4;
constexpr std::size_t kPrefixBytes = 4;
constexpr std::size_t kChunkBytes = std::size_t{1} << 20;

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

/// Read-only pages of a file; unmapped with the last owner.
class Mapping {
 public:
  Mapping(void* base, std::size_t size) : base_(base), size_(size) {}
  ~Mapping() { ::munmap(base_, size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

 private:
  void* base_;
  std::size_t size_;
};

Error io_error(std::string_view what) {
  return make_error(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: {}", what,
                    std::strerror(errno));
}

struct Header {
  std::vector<std::uint32_t> dimensions;
  std::uint64_t header_bytes = 0;
  std::uint64_t value_bytes = 0;

  [[nodiscard]] std::string shape() const { return fmt::format("{}", fmt::join(dimensions, " x ")); }
};

/// The number of dimensions that the first four bytes promise.
Result<std::size_t> parse_prefix(std::span<const unsigned char> bytes) {
  if (bytes.size() < kPrefixBytes) {
    return make_error(ErrorCode::kCorrupt, "truncated: {} bytes, an IDX header has at least 8", bytes.size());
  }
  if (bytes[0] != 0 || bytes[1] != 0) {
    return make_error(
        ErrorCode::kCorrupt,
        "wrong magic 0x{:02x}{:02x}{:02x}{:02x}: an IDX file begins with 0x0000, a gzip file with "
        "0x1f8b",
        bytes[0], bytes[1], bytes[2], bytes[3]);
  }
  if (bytes[2] != 0x08) {
    return make_error(ErrorCode::kCorrupt,
                      "holds values of type 0x{:02x}: only unsigned bytes (0x08) are read", bytes[2]);
  }
  if (bytes[3] < 1 || bytes[3] > kDimensionsMax) {
    return make_error(ErrorCode::kCorrupt, "has {} dimensions: 1 to {} are read", bytes[3], kDimensionsMax);
  }
  return std::size_t{bytes[3]};
}

/// `bytes`: what follows the prefix, 4 for each dimension.
Result<Header> parse_dimensions(std::span<const unsigned char> bytes) {
  Header header;
  header.header_bytes = kPrefixBytes + bytes.size();
  header.value_bytes = 1;
  for (std::size_t i = 0; i < bytes.size(); i += 4) {
    const std::uint32_t extent = (std::uint32_t{bytes[i]} << 24) | (std::uint32_t{bytes[i + 1]} << 16) |
                                 (std::uint32_t{bytes[i + 2]} << 8) | bytes[i + 3];
    header.dimensions.push_back(extent);
  }
  for (const std::uint32_t extent : header.dimensions) {
    if (extent == 0) {
      return make_error(ErrorCode::kCorrupt, "is empty: its dimensions are {}", header.shape());
    }
    // Both factors are at most 2^33, so the product is checked before it can overflow.
    if (header.value_bytes > kIdxBytesMax / extent) {
      return make_error(ErrorCode::kExhausted, "declares {} values, above the maximum of {} bytes",
                        header.shape(), kIdxBytesMax);
    }
    header.value_bytes *= extent;
  }
  return header;
}

Error truncated(const Header& header, std::uint64_t got) {
  return make_error(ErrorCode::kCorrupt, "truncated: {} of the {} bytes that its header declares ({})", got,
                    header.value_bytes, header.shape());
}

Error trailing(const Header& header) {
  return make_error(ErrorCode::kCorrupt, "holds more than the {} bytes that its header declares ({})",
                    header.value_bytes, header.shape());
}

Result<IdxArray> map_plain(const File& file, std::uint64_t file_bytes) {
  void* base = ::mmap(nullptr, file_bytes, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (base == MAP_FAILED) return io_error("cannot be mapped");
  const auto owner = std::make_shared<const Mapping>(base, file_bytes);
  const std::span bytes(static_cast<const unsigned char*>(base), file_bytes);
  const auto count = parse_prefix(bytes);
  if (!count.ok()) return count.error();
  if (bytes.size() < kPrefixBytes + 4 * *count) {
    return make_error(ErrorCode::kCorrupt, "truncated: {} bytes, its header alone has {}", bytes.size(),
                      kPrefixBytes + 4 * *count);
  }
  auto header = parse_dimensions(bytes.subspan(kPrefixBytes, 4 * *count));
  if (!header.ok()) return header.error();
  const auto values = bytes.subspan(header->header_bytes);
  if (values.size() < header->value_bytes) return truncated(*header, values.size());
  if (values.size() > header->value_bytes) return trailing(*header);
  if (values.size() > kIdxCopiedBytesMax)
    return IdxArray{std::move(header->dimensions), SharedBytes(owner, std::as_bytes(values))};
  return IdxArray{std::move(header->dimensions),
                  SharedBytes::take(std::vector<unsigned char>(values.begin(), values.end()))};
}

/// A gzip stream that is read from front to back.
class GzipReader {
 public:
  /// Takes the file over.
  explicit GzipReader(File& file) : stream_(gzdopen(file.get(), "rb")) {
    if (stream_ != nullptr) (void)file.release();
  }
  ~GzipReader() {
    if (stream_ != nullptr) gzclose(stream_);
  }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  /// Fills `out` unless the stream ends first; returns how many bytes there were. At the end the checksum is
  /// verified.
  Result<std::size_t> read(std::span<unsigned char> out) {
    if (stream_ == nullptr) return broken(Z_MEM_ERROR);
    std::size_t done = 0;
    while (done < out.size()) {
      const auto wanted = static_cast<unsigned>(std::min(out.size() - done, kChunkBytes));
      const int got = gzread(stream_, out.data() + done, wanted);
      int code = Z_OK;
      if (got <= 0) (void)gzerror(stream_, &code);
      if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) return broken(code);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  /// After the last byte: whether the stream ends as it should, with its whole checksum.
  Status finish() {
    const int code = gzclose(std::exchange(stream_, nullptr));
    if (code != Z_OK) return broken(code);
    return {};
  }

 private:
  static Error broken(int code) {
    if (code == Z_MEM_ERROR) return make_error(ErrorCode::kExhausted, "no memory to unpack it");
    if (code == Z_ERRNO) return io_error("cannot be read");
    return make_error(ErrorCode::kCorrupt, "is not a whole gzip file: {}",
                      code == Z_BUF_ERROR ? "it ends too early" : "its data are damaged");
  }

  gzFile stream_;
};

Result<IdxArray> unpack_gzip(File& file) {
  GzipReader reader(file);
  std::array<unsigned char, kPrefixBytes + 4 * kDimensionsMax> head{};
  const auto prefix = std::span(head).first(kPrefixBytes);
  auto got = reader.read(prefix);
  if (!got.ok()) return got.error();
  const auto count = parse_prefix(prefix.first(*got));
  if (!count.ok()) return count.error();
  const auto rest = std::span(head).subspan(kPrefixBytes, 4 * *count);
  got = reader.read(rest);
  if (!got.ok()) return got.error();
  if (*got < rest.size()) return make_error(ErrorCode::kCorrupt, "truncated within its IDX header");
  auto header = parse_dimensions(rest);
  if (!header.ok()) return header.error();

  // Memory follows what is really there: a small file that declares much is found out early.
  std::vector<unsigned char> values;
  while (values.size() < header->value_bytes) {
    const std::size_t before = values.size();
    const std::size_t step =
        std::min<std::uint64_t>(std::max(before, kChunkBytes), header->value_bytes - before);
    values.resize(before + step);
    got = reader.read(std::span(values).subspan(before));
    if (!got.ok()) return got.error();
    if (*got < step) return truncated(*header, before + *got);
  }
  unsigned char beyond = 0;
  got = reader.read(std::span(&beyond, 1));
  if (!got.ok()) return got.error();
  if (*got > 0) return trailing(*header);
  NANDUTI_RETURN_IF_ERROR(reader.finish());
  return IdxArray{std::move(header->dimensions), SharedBytes::take(std::move(values))};
}

Result<IdxArray> read_unnamed(const std::filesystem::path& path) {
  // Not to wait for the writer of a pipe that a job names by mistake.
  File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return io_error("cannot be opened");
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return io_error("cannot be examined");
  if (!S_ISREG(about.st_mode)) return make_error(ErrorCode::kIo, "is not a regular file");
  if (about.st_size == 0) return make_error(ErrorCode::kCorrupt, "is empty: it has no bytes at all");
  std::array<unsigned char, 2> magic{};
  const auto got = ::pread(file.get(), magic.data(), magic.size(), 0);
  if (got < 0) return io_error("cannot be read");
  if (got == 2 && magic[0] == 0x1F && magic[1] == 0x8B) return unpack_gzip(file);
  return map_plain(file, static_cast<std::uint64_t>(about.st_size));
}

}  // namespace

Result<IdxArray> read_idx_file(const std::filesystem::path& path) {
  auto array = read_unnamed(path);
  if (!array.ok()) return array.error().within(path.string());
  return array;
}

}  // namespace nanduti
