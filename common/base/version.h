#pragma once

#include <string_view>

namespace nanduti {

/// The release, as `--version` and hellos say it; CMakeLists.txt has the same.
inline constexpr std::string_view kProgramVersion = "0.1.0";

}  // namespace nanduti
