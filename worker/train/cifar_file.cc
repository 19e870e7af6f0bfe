#include "worker/train/cifar_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "common/base/check.h"

namespace nanduti {
namespace {

constexpr std::uint64_t kChunkRecords = 1024;

Result<std::uint64_t> count_records(const std::filesystem::path& file, std::uint64_t record_bytes) {
  std::error_code error;
  const auto type = std::filesystem::status(file, error).type();
  if (type == std::filesystem::file_type::not_found) return make_error(ErrorCode::kNotFound, "is not there");
  if (error) return make_error(ErrorCode::kIo, "cannot be examined: {}", error.message());
  if (type != std::filesystem::file_type::regular) return make_error(ErrorCode::kIo, "is not a regular file");
  const std::uint64_t bytes = std::filesystem::file_size(file, error);
  if (error) return make_error(ErrorCode::kIo, "cannot be examined: {}", error.message());
  if (bytes == 0) return make_error(ErrorCode::kCorrupt, "is empty: it has no bytes at all");
  if (bytes % record_bytes != 0) {
    return make_error(ErrorCode::kCorrupt, "has {} bytes: not a whole number of records of {}", bytes,
                      record_bytes);
  }
  return bytes / record_bytes;
}

/// Appends the file's records.
Status read_records(const std::filesystem::path& file, std::uint64_t count, std::uint32_t label_bytes,
                    std::vector<char>& pixels, std::vector<char>& labels) {
  const std::uint64_t record_bytes = label_bytes + kCifarPixels;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return make_error(ErrorCode::kIo, "cannot be opened: {}", std::strerror(errno));
  std::vector<char> chunk;
  while (count > 0) {
    const std::uint64_t records = std::min(count, kChunkRecords);
    chunk.resize(records * record_bytes);
    if (!stream.read(chunk.data(), static_cast<std::streamsize>(chunk.size())))
      return make_error(ErrorCode::kIo, "cannot be read to its end");
    for (std::uint64_t i = 0; i < records; ++i) {
      const char* record = chunk.data() + i * record_bytes;
      labels.push_back(record[label_bytes - 1]);
      pixels.insert(pixels.end(), record + label_bytes, record + record_bytes);
    }
    count -= records;
  }
  return {};
}

}  // namespace

Result<CifarImages> read_cifar_files(std::span<const std::filesystem::path> files,
                                     std::uint32_t label_bytes) {
  NANDUTI_CHECK(!files.empty() && (label_bytes == 1 || label_bytes == 2));
  CifarImages images;
  for (const std::filesystem::path& file : files) {
    const auto records = count_records(file, label_bytes + kCifarPixels);
    if (!records.ok()) return records.error().within(file.string());
    if (*records > kCifarBytesMax / kCifarPixels - images.count) {
      return make_error(ErrorCode::kExhausted, "{}: brings the set above the maximum of {} bytes",
                        file.string(), kCifarBytesMax);
    }
    images.file_counts.push_back(*records);
    images.count += *records;
  }
  std::vector<char> pixels, labels;
  pixels.reserve(images.count * kCifarPixels);
  labels.reserve(images.count);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const Status read = read_records(files[i], images.file_counts[i], label_bytes, pixels, labels);
    if (!read.ok()) return read.error().within(files[i].string());
  }
  images.pixels = SharedBytes::take(std::move(pixels));
  images.labels = SharedBytes::take(std::move(labels));
  return images;
}

}  // namespace nanduti
