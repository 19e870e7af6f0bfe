#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/tensor/parameter_space.h"
#include "server/storage/safetensors_header.h"

namespace nanduti {

/// The parameters as a safetensors file: tensors under PyTorch's names and with its layouts, in the order of
/// `space`, without the parameter space's gaps. `values` is float32, shape [space.size()]. The same arguments
/// give the same bytes. {"format": "pt"} is added to the metadata.
std::vector<std::byte> encode_safetensors(const ParameterSpace& space, std::span<const float> values,
                                          const SafetensorsMetadata& metadata);

/// The same, written atomically (write_file_atomically) without a copy of the values.
Status write_safetensors(const std::filesystem::path& path, const ParameterSpace& space,
                         std::span<const float> values, const SafetensorsMetadata& metadata);

/// A file's tensors. `values` are those of all tensors one after the other: entry e has floats
/// [e.begin / 4, e.end / 4).
struct SafetensorsFile {
  SafetensorsHeader header;
  std::vector<float> values;
};

/// Errors: kCorrupt, where `bytes` are not a whole safetensors file of float32 tensors.
Result<SafetensorsFile> decode_safetensors(std::span<const std::byte> bytes);

/// Reads a file of at most kModelParametersMax parameters. Errors: kNotFound, kIo, kCorrupt; all name the
/// file.
Result<SafetensorsFile> read_safetensors(const std::filesystem::path& path);

/// The file's values in the parameter space, shape [space.size()], with zeros in the gaps. kInvalidArgument
/// unless the file has exactly the tensors of `space`, by name and shape.
Result<std::vector<float>> values_in_space(const SafetensorsFile& file, const ParameterSpace& space);

}  // namespace nanduti
