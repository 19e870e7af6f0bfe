#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "common/base/result.h"

namespace nanduti {

inline constexpr std::size_t kConfigBytesMax = 256 * 1024;

/// Where a config came from: the name that errors give it, and its YAML.
struct ConfigText {
  std::string name;  ///< a path as the operator wrote it, or "job" for one that came over HTTP
  std::string text;
};

/// Reads a config file of at most kConfigBytesMax bytes. The error names the file: kNotFound, kIo, or
/// kInvalidArgument where it is too large.
Result<ConfigText> read_config_file(const std::filesystem::path& path);

/// `security:` as written. Connections are neither encrypted nor authenticated yet: `none` says that the
/// operator knows, and is asked for wherever another machine is involved.
enum class Security { kUnset, kNone };

}  // namespace nanduti
