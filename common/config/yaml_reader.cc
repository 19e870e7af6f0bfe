#include "common/config/yaml_reader.h"

#include <algorithm>

#include "common/config/suggestion.h"
#include "common/config/text_check.h"

namespace nanduti {
namespace {

using Rank = ConfigErrors::Rank;

bool is_name_byte(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' || c == '-' ||
         c == '_';
}

/// A key as an error shows it: as it is if it is a plain word.
std::string shown(std::string_view key) {
  if (!key.empty() && key.size() <= kConfigNameBytesMax &&
      std::all_of(key.begin(), key.end(), is_name_byte)) {
    return std::string(key);
  }
  return in_quotes(key);
}

}  // namespace

YamlReader::YamlReader(const YamlNode& node, std::string path, ConfigErrors& errors)
    : path_(std::move(path)), errors_(errors) {
  (node.kind == YamlNode::Kind::kMap ? map_ : no_map_) = &node;
}

const YamlNode::Entry* YamlReader::entry(std::string_view key) const {
  if (map_ == nullptr) return nullptr;
  const auto found = std::find_if(map_->items.begin(), map_->items.end(),
                                  [&](const YamlNode::Entry& item) { return item.key == key; });
  return found == map_->items.end() ? nullptr : &*found;
}

const YamlNode* YamlReader::find(std::string_view key) {
  if (std::find(known_keys_.begin(), known_keys_.end(), key) == known_keys_.end())
    known_keys_.emplace_back(key);
  const YamlNode::Entry* found = entry(key);
  return found == nullptr ? nullptr : &found->value;
}

const YamlNode* YamlReader::scalar(std::string_view key, std::string_view allowed) {
  const YamlNode* node = find(key);
  if (node == nullptr || node->kind == YamlNode::Kind::kScalar) return node;
  reject(key, allowed);
  return nullptr;
}

std::vector<std::string> YamlReader::keys() const {
  std::vector<std::string> keys;
  if (map_ == nullptr) return keys;
  for (const YamlNode::Entry& item : map_->items) keys.push_back(item.key);
  return keys;
}

YamlReader YamlReader::map(std::string_view key) {
  const YamlNode* node = find(key);
  if (node != nullptr) return YamlReader(*node, path_of(key), errors_);
  return YamlReader(path_of(key), errors_);
}

void YamlReader::require(std::string_view key, std::string_view allowed) {
  if (find(key) != nullptr || map_ == nullptr) return;
  errors_.add(Rank::kMissing, map_->line, path_of(key), "nothing", allowed);
}

bool YamlReader::read_whole_number(std::string_view key, std::uint64_t min, std::uint64_t max,
                                   std::uint64_t& out) {
  const std::string allowed = fmt::format("a whole number from {} to {}", min, max);
  const YamlNode* node = scalar(key, allowed);
  if (node == nullptr) return false;
  const auto value = parse_whole_number(node->text);
  if (node->is_quoted || !value || *value < min || *value > max) {
    reject(key, allowed);
    return false;
  }
  out = *value;
  return true;
}

void YamlReader::real_number(std::string_view key, bool (*accepts)(double), std::string_view allowed,
                             double& out) {
  const YamlNode* node = scalar(key, allowed);
  if (node == nullptr) return;
  const auto value = parse_real_number(node->text);
  if (node->is_quoted || !value || !accepts(*value)) return reject(key, allowed);
  out = *value;
}

void YamlReader::boolean(std::string_view key, bool& out) {
  constexpr std::string_view kAllowed = "true or false";
  const YamlNode* node = scalar(key, kAllowed);
  if (node == nullptr) return;
  if (node->is_quoted || (node->text != "true" && node->text != "false")) return reject(key, kAllowed);
  out = node->text == "true";
}

void YamlReader::duration(std::string_view key, Duration min, Duration max, Duration& out) {
  const std::string allowed =
      fmt::format("a duration from {} to {}, with its unit (ms, s, min or h), such as 10 s",
                  format_duration(min), format_duration(max));
  const YamlNode* node = scalar(key, allowed);
  if (node == nullptr) return;
  const auto value = parse_duration(node->text);
  if (!value || *value < min || *value > max) return reject(key, allowed);
  out = *value;
}

void YamlReader::name(std::string_view key, std::string& out) {
  const std::string allowed =
      fmt::format("1 to {} letters, digits, dots, hyphens and underscores", kConfigNameBytesMax);
  const YamlNode* node = scalar(key, allowed);
  if (node == nullptr) return;
  const std::string& text = node->text;
  if (text.empty() || text.size() > kConfigNameBytesMax ||
      !std::all_of(text.begin(), text.end(), is_name_byte)) {
    return reject(key, allowed);
  }
  out = text;
}

void YamlReader::path_text(std::string_view key, std::string_view allowed, std::string& out) {
  const YamlNode* node = scalar(key, allowed);
  if (node == nullptr) return;
  if (node->text.empty() || node->text.size() > kConfigPathBytesMax) return reject(key, allowed);
  out = node->text;
}

std::size_t YamlReader::read_choice(std::string_view key, const std::vector<std::string_view>& words,
                                    std::initializer_list<std::string_view> later) {
  std::string allowed;
  for (std::size_t i = 0; i < words.size(); ++i) {
    allowed += i == 0 ? "" : i + 1 == words.size() ? " or " : ", ";
    allowed += words[i];
  }
  const YamlNode* node = scalar(key, allowed);
  if (node == nullptr) return words.size();
  const auto found = std::find(words.begin(), words.end(), node->text);
  if (found == words.end()) {
    const bool is_later = std::find(later.begin(), later.end(), node->text) != later.end();
    is_later ? reject_not_yet(key, allowed) : reject(key, allowed);
  }
  return static_cast<std::size_t>(found - words.begin());
}

void YamlReader::reject(std::string_view key, std::string_view allowed) {
  errors_.add_wrong(entry(key)->value, path_of(key), allowed);
}

void YamlReader::reject_not_yet(std::string_view key, std::string_view allowed) {
  const YamlNode& node = entry(key)->value;
  errors_.add(Rank::kWrong, node.line, path_of(key), describe(node) + ", which is not available yet",
              allowed);
}

void YamlReader::conflict(std::string_view key, std::string_view found, std::string_view allowed) {
  if (const YamlNode::Entry* item = entry(key)) {
    errors_.add(Rank::kConflict, item->value.line, path_of(key), found, allowed);
  } else if (map_ != nullptr) {
    errors_.add(Rank::kConflict, map_->line, path_of(key), found, allowed);
  } else {
    errors_.add(Rank::kConflict, 1, path_of(key), found, allowed);
  }
}

void YamlReader::finish() {
  const std::string keys = fmt::format("{}", fmt::join(known_keys_, ", "));
  if (no_map_ != nullptr)
    errors_.add_wrong(*no_map_, path_, "a map, keys: " + (keys.empty() ? "none" : keys));
  if (map_ == nullptr) return;
  for (const YamlNode::Entry& item : map_->items) {
    if (std::find(known_keys_.begin(), known_keys_.end(), item.key) != known_keys_.end()) continue;
    std::string found = "an unknown key";
    const std::string close = closest_word(item.key, known_keys_);
    if (!close.empty()) found += fmt::format(" (did you mean \"{}\"?)", close);
    errors_.add(Rank::kWrong, item.line, path_of(shown(item.key)), found,
                keys.empty() ? "no keys here" : keys);
  }
}

std::string YamlReader::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

}  // namespace nanduti
