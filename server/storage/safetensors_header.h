#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

/// The JSON header of a safetensors file, Hugging Face's format:
///   bytes 0..7   length of the header, little-endian
///   then         the header: {"__metadata__": {text: text}, NAME: {"dtype": "F32", "shape": [..],
///                "data_offsets": [begin, end]}}, padded with spaces so that the data are 8-byte aligned
///   then         the tensors, row by row; offsets count from here, in bytes, without gaps
namespace nanduti {

inline constexpr std::size_t kSafetensorsHeaderBytesMax = std::size_t{16} << 20;

/// Text about the model, not about its tensors.
using SafetensorsMetadata = std::map<std::string, std::string>;

/// A float32 tensor in the file.
struct SafetensorsEntry {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  ///< bytes [begin, end) of the data
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  SafetensorsMetadata metadata;
  std::vector<SafetensorsEntry> entries;  ///< in the order of their data
};

/// The header's JSON, in the given order, without the padding.
std::string safetensors_header_to_json(const SafetensorsHeader& header);

/// Reads and checks it: every tensor is F32, as large as its shape says, and together they cover exactly
/// [0, data_bytes). Errors: kCorrupt.
Result<SafetensorsHeader> safetensors_header_from_json(std::string_view json, std::uint64_t data_bytes);

}  // namespace nanduti
