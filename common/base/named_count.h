#pragma once

#include <cstdint>
#include <string_view>

namespace nanduti {

/// One counter as people see it. The name is static text in snake_case, the same in code, JSON and logs.
struct NamedCount {
  std::string_view name;
  std::uint64_t count = 0;
};

}  // namespace nanduti
