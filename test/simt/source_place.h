#pragma once

#include <source_location>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace nanduti::simt {

/// For people: "select.cuh:120".
inline std::string name(std::source_location at) {
  const std::string_view path = at.file_name();
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), at.line());
}

inline bool same_place(std::source_location a, std::source_location b) {
  return a.line() == b.line() && a.column() == b.column() && std::string_view(a.file_name()) == b.file_name();
}

}  // namespace nanduti::simt
