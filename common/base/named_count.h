#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nanduti {

/// One counter as people see it. The name is static text in snake_case, the same in code, JSON and logs.
struct NamedCount {
  std::string_view name;
  std::uint64_t count = 0;
};

/// "frames_in 12, frames_out 3" for the log: those that are not 0; "nothing" where all are.
std::string to_text(const std::vector<NamedCount>& counts);

}  // namespace nanduti
