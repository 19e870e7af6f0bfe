#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/config/config_text.h"

namespace nanduti {

inline constexpr std::size_t kYamlDepthMax = 16;

/// One value of a YAML file. A map's keys are unique.
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  struct Entry;

  Kind kind = Kind::kNull;
  std::size_t line = 1;      ///< where it begins, from 1; that of its key for lists, maps and nothing
  std::string text;          ///< of a scalar
  bool is_quoted = false;    ///< a scalar that is text whatever it looks like
  std::vector<Entry> items;  ///< of a list (keys empty) or map, in the file's order
};

struct YamlNode::Entry {
  std::string key;
  std::size_t line = 1;  ///< the key's
  YamlNode value;
};

/// Reads the one document in `source`; the subset of YAML without anchors, aliases, tags and complex keys, at
/// most kYamlDepthMax deep. Errors: kInvalidArgument, with file, line, what was found and what is allowed.
Result<YamlNode> parse_yaml(const ConfigText& source);

}  // namespace nanduti
