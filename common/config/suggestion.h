#pragma once

#include <span>
#include <string>
#include <string_view>

namespace nanduti {

/// The word of `words` that `text` was probably meant to be: the fewest letters inserted, deleted, changed or
/// swapped, at most a third of the longer one; the earliest among equals. Empty if none is that close.
std::string closest_word(std::string_view text, std::span<const std::string> words);

}  // namespace nanduti
