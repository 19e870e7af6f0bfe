#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/config/config_text.h"

namespace nanduti {

/// Checks what has to hold before YAML is read: at most kConfigBytesMax bytes of UTF-8, no control
/// characters, no tabs in the indentation. Errors: kInvalidArgument, "NAME:LINE: found ..., allowed: ...".
Status check_config_text(const ConfigText& source);

/// `text` in quotes for an error message: cut after 60 bytes, control characters as \xNN. `text` must be
/// UTF-8.
std::string in_quotes(std::string_view text);

/// Bytes of the UTF-8 sequence that `text` begins with: 1 to 4, or 0 if it is not UTF-8 (overlong forms,
/// surrogates and what lies above U+10FFFF are not). Precondition: `text` is not empty.
std::size_t utf8_sequence_bytes(std::string_view text);

}  // namespace nanduti
