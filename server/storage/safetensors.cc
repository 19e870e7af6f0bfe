#include "server/storage/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>

#include "common/model/resolved_model.h"
#include "server/storage/atomic_file.h"

namespace nanduti {
namespace {

static_assert(std::endian::native == std::endian::little, "the data are written as they lie in memory");

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kAlignment = 8;

/// Everything before the data.
std::string preamble(const ParameterSpace& space, SafetensorsMetadata metadata) {
  metadata.emplace("format", "pt");
  SafetensorsHeader header{std::move(metadata), {}};
  std::uint64_t offset = 0;
  for (const TensorPlace& place : space.tensors()) {
    const std::uint64_t end = offset + place.size() * sizeof(float);
    header.entries.push_back({place.name, place.shape, offset, end});
    offset = end;
  }
  std::string json = safetensors_header_to_json(header);
  json.resize((json.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  const std::uint64_t length = json.size();
  std::string result(kLengthBytes, '\0');
  std::memcpy(result.data(), &length, kLengthBytes);
  return result + json;
}

/// The preamble and each tensor's bytes, where they are.
std::vector<std::span<const std::byte>> pieces_of(const std::string& preamble, const ParameterSpace& space,
                                                  std::span<const float> values) {
  NANDUTI_CHECK(values.size() == space.size(), "{} values for {} parameters", values.size(), space.size());
  std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span(preamble))};
  for (const TensorPlace& place : space.tensors()) {
    pieces.push_back(std::as_bytes(values.subspan(place.offset, place.size())));
  }
  return pieces;
}

Error corrupt(std::string_view text) {
  return make_error(ErrorCode::kCorrupt, "not a safetensors file: {}", text);
}

}  // namespace

std::vector<std::byte> encode_safetensors(const ParameterSpace& space, std::span<const float> values,
                                          const SafetensorsMetadata& metadata) {
  const std::string start = preamble(space, metadata);
  std::vector<std::byte> bytes;
  for (const auto piece : pieces_of(start, space, values))
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  return bytes;
}

Status write_safetensors(const std::filesystem::path& path, const ParameterSpace& space,
                         std::span<const float> values, const SafetensorsMetadata& metadata) {
  const std::string start = preamble(space, metadata);
  return write_file_atomically(path, pieces_of(start, space, values));
}

Result<SafetensorsFile> decode_safetensors(std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes) return corrupt("shorter than 8 bytes");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  bytes = bytes.subspan(kLengthBytes);
  if (length > kSafetensorsHeaderBytesMax) {
    return corrupt(
        fmt::format("a header of {} bytes; the maximum is {}", length, kSafetensorsHeaderBytesMax));
  }
  if (length > bytes.size()) {
    return corrupt(fmt::format("a header of {} bytes, but {} follow", length, bytes.size()));
  }
  const auto data = bytes.subspan(length);
  const std::string_view json(reinterpret_cast<const char*>(bytes.data()), length);
  auto header = safetensors_header_from_json(json, data.size());
  if (!header.ok()) return header.error();
  SafetensorsFile file{std::move(header).value(), std::vector<float>(data.size() / sizeof(float))};
  if (!data.empty()) std::memcpy(file.values.data(), data.data(), data.size());
  return file;
}

Result<SafetensorsFile> read_safetensors(const std::filesystem::path& path) {
  constexpr std::uint64_t kFileBytesMax =
      kLengthBytes + kSafetensorsHeaderBytesMax + kModelParametersMax * sizeof(float);
  std::error_code error;
  const std::uint64_t size = std::filesystem::file_size(path, error);
  if (error) {
    const bool absent = error == std::errc::no_such_file_or_directory;
    return make_error(absent ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot read {}: {}", path.string(),
                      error.message());
  }
  if (size > kFileBytesMax) {
    return corrupt(fmt::format("{} bytes; the maximum is {}", size, kFileBytesMax)).within(path.string());
  }
  std::vector<std::byte> bytes(size);
  std::ifstream stream(path, std::ios::binary);
  if (!stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size))) {
    return make_error(ErrorCode::kIo, "cannot read {}: it ends early or cannot be opened", path.string());
  }
  auto file = decode_safetensors(bytes);
  if (!file.ok()) return file.error().within(path.string());
  return file;
}

Result<std::vector<float>> values_in_space(const SafetensorsFile& file, const ParameterSpace& space) {
  const auto& entries = file.header.entries;
  if (entries.size() != space.tensors().size()) {
    return make_error(ErrorCode::kInvalidArgument, "the file has {} tensors, the model {}", entries.size(),
                      space.tensors().size());
  }
  std::vector<float> values(space.size());
  for (const TensorPlace& place : space.tensors()) {
    const auto entry = std::find_if(entries.begin(), entries.end(),
                                    [&](const SafetensorsEntry& item) { return item.name == place.name; });
    if (entry == entries.end()) {
      return make_error(ErrorCode::kInvalidArgument, "the file has no tensor \"{}\"", place.name);
    }
    if (entry->shape != place.shape) {
      return make_error(ErrorCode::kInvalidArgument,
                        "tensor \"{}\": the file has the shape [{}], the model [{}]", place.name,
                        fmt::join(entry->shape, ", "), fmt::join(place.shape, ", "));
    }
    const auto first = file.values.begin() + static_cast<std::ptrdiff_t>(entry->begin / sizeof(float));
    std::copy_n(first, place.size(), values.begin() + static_cast<std::ptrdiff_t>(place.offset));
  }
  return values;
}

}  // namespace nanduti
