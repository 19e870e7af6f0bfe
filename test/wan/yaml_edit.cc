#include "test/wan/yaml_edit.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/config/scalar.h"

namespace nanduti::wan {
namespace {

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      out += c;
  }
  return out + '"';
}

/// Numbers are written anew where JSON is stricter than YAML (".5", "007").
std::string scalar_text(const YamlNode& node) {
  if (node.is_quoted) return json_string(node.text);
  if (node.text == "true" || node.text == "false" || parse_whole_number(node.text)) return node.text;
  if (const auto number = parse_real_number(node.text)) return fmt::format("{}", *number);
  return json_string(node.text);
}

std::string node_text(const YamlNode& node) {
  const bool is_map = node.kind == YamlNode::Kind::kMap;
  if (node.kind == YamlNode::Kind::kNull) return "null";
  if (node.kind == YamlNode::Kind::kScalar) return scalar_text(node);
  std::string out;
  for (const YamlNode::Entry& item : node.items) {
    if (!out.empty()) out += ", ";
    if (is_map) out += json_string(item.key) + ": ";
    out += node_text(item.value);
  }
  return is_map ? '{' + out + '}' : '[' + out + ']';
}

}  // namespace

void set_value(YamlNode& root, std::string_view path, std::string text) {
  const std::string_view key = path.substr(0, path.find('.'));
  auto entry = std::find_if(root.items.begin(), root.items.end(),
                            [&](const YamlNode::Entry& item) { return item.key == key; });
  if (entry == root.items.end()) entry = root.items.insert(entry, {std::string(key), root.line, {}});
  YamlNode& value = entry->value;
  if (key.size() < path.size()) {
    if (value.kind != YamlNode::Kind::kMap) value = {YamlNode::Kind::kMap, entry->line, {}, false, {}};
    return set_value(value, path.substr(key.size() + 1), std::move(text));
  }
  value = {YamlNode::Kind::kScalar, entry->line, std::move(text), false, {}};
}

std::string to_json_text(const YamlNode& root) {
  std::string out;
  for (const YamlNode::Entry& item : root.items) {
    out += out.empty() ? "{" : ",\n ";
    out += json_string(item.key) + ": " + node_text(item.value);
  }
  return out + "}\n";
}

}  // namespace nanduti::wan
