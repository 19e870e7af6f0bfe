#include "common/base/named_count.h"

#include <fmt/format.h>

namespace nanduti {

std::string to_text(const std::vector<NamedCount>& counts) {
  std::string text;
  for (const NamedCount& count : counts)
    if (count.count != 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count.name, count.count);
  return text.empty() ? "nothing" : text;
}

}  // namespace nanduti
