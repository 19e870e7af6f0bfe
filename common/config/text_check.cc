#include "common/config/text_check.h"

#include <algorithm>
#include <cstdint>

namespace nanduti {
namespace {

constexpr std::size_t kExcerptBytesMax = 60;

bool is_control(unsigned char c) { return c < 0x20 || c == 0x7F; }

Error wrong(const ConfigText& source, std::size_t line, std::string_view found, std::string_view allowed) {
  return make_error(ErrorCode::kInvalidArgument, "{}:{}: found {}, allowed: {}", source.name, line, found,
                    allowed);
}

}  // namespace

std::size_t utf8_sequence_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const std::uint8_t second = byte(1);
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
  if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
  return size;
}

Status check_config_text(const ConfigText& source) {
  const std::string_view text = source.text;
  if (text.size() > kConfigBytesMax) {
    return make_error(ErrorCode::kInvalidArgument, "{}: found {} bytes, allowed: at most {}", source.name,
                      text.size(), kConfigBytesMax);
  }
  std::size_t line = 1;
  bool indentation = true;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t size = utf8_sequence_bytes(text.substr(i));
    const auto c = static_cast<unsigned char>(text[i]);
    if (size == 0) return wrong(source, line, fmt::format("the byte 0x{:02X}", c), "text in UTF-8");
    if (c == '\t' && indentation) return wrong(source, line, "a tab in the indentation", "spaces");
    if (is_control(c) && c != '\t' && c != '\n' && c != '\r') {
      return wrong(source, line, fmt::format("the control character 0x{:02X}", c), "text");
    }
    if (c == '\n') ++line;
    indentation = c == '\n' || (indentation && c == ' ');
    i += size;
  }
  return {};
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  std::size_t i = 0;
  while (i < text.size()) {
    const std::size_t size = std::max<std::size_t>(1, utf8_sequence_bytes(text.substr(i)));
    if (i + size > kExcerptBytesMax) break;
    const auto c = static_cast<unsigned char>(text[i]);
    if (is_control(c)) {
      result += fmt::format("\\x{:02X}", c);
    } else {
      result += text.substr(i, size);
    }
    i += size;
  }
  result += i < text.size() ? "...\"" : "\"";
  return result;
}

}  // namespace nanduti
