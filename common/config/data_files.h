#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "common/base/result.h"

namespace nanduti {

/// Finds a file that a job names: absolute, or relative to one of `roots` (the first that has it wins). The
/// path returned has its symbolic links followed, is a regular file and lies below a root; nothing else may
/// be opened for a job. Errors: kNotFound, kRefused; they name the file and the roots.
Result<std::filesystem::path> resolve_data_file(std::span<const std::filesystem::path> roots,
                                                std::string_view file);

}  // namespace nanduti
