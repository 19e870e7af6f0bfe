#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/protocol_time.h"

namespace nanduti {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// A decimal number without sign, separators or leading zeros; empty if it is anything else or above 2^64
/// - 1.
std::optional<std::uint64_t> parse_whole_number(std::string_view text);

/// A finite decimal number: 3, -0.5, 1e-4; empty if it is anything else.
std::optional<double> parse_real_number(std::string_view text);

/// A number of at least 0 and a unit, ms, s, min or h, with or without a space: "10 s", "1.5h". Empty if it
/// is anything else or longer than a year.
std::optional<Duration> parse_duration(std::string_view text);

/// In the largest unit that divides it: "90 s", "2 min". Precondition: whole milliseconds.
std::string format_duration(Duration duration);

}  // namespace nanduti
