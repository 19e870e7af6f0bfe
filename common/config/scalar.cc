#include "common/config/scalar.h"

#include <charconv>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

namespace nanduti {
namespace {

struct Unit {
  std::string_view name;
  Duration length;
};
constexpr Unit kUnits[] = {{"h", std::chrono::hours(1)},
                           {"min", std::chrono::minutes(1)},
                           {"s", std::chrono::seconds(1)},
                           {"ms", std::chrono::milliseconds(1)}};

}  // namespace

std::optional<std::uint64_t> parse_whole_number(std::string_view text) {
  if (text.empty() || !is_digit(text[0]) || (text[0] == '0' && text.size() > 1)) return std::nullopt;
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

std::optional<double> parse_real_number(std::string_view text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<Duration> parse_duration(std::string_view text) {
  std::size_t digits = 0;
  while (digits < text.size() && (is_digit(text[digits]) || text[digits] == '.')) ++digits;
  const auto number = parse_real_number(text.substr(0, digits));
  if (!number) return std::nullopt;
  text.remove_prefix(digits);
  if (text.starts_with(' ')) text.remove_prefix(1);
  for (const Unit& unit : kUnits) {
    if (text != unit.name) continue;
    const double nanoseconds = *number * static_cast<double>(unit.length.count());
    if (nanoseconds > static_cast<double>(Duration(std::chrono::years(1)).count())) return std::nullopt;
    return Duration(std::llround(nanoseconds));
  }
  return std::nullopt;
}

std::string format_duration(Duration duration) {
  const Unit* unit = std::begin(kUnits);
  while (unit + 1 != std::end(kUnits) && duration % unit->length != Duration::zero()) ++unit;
  return fmt::format("{} {}", duration / unit->length, unit->name);
}

}  // namespace nanduti
