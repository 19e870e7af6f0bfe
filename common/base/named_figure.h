#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace nanduti {

/// A figure under the name that it has in JSON; empty: not known.
struct NamedFigure {
  std::string_view name;  ///< of static storage
  std::optional<double> value;
};
using NamedFigures = std::vector<NamedFigure>;

}  // namespace nanduti
