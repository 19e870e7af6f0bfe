#pragma once

#include <string>
#include <string_view>

namespace nanduti {

/// A peer's text for logs, terminals and JSON: control characters and bytes that are no valid UTF-8 become
/// '?', one each. The result is valid UTF-8.
std::string printable_text(std::string_view text);

}  // namespace nanduti
