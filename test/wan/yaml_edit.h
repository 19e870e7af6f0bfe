#pragma once

#include <string>
#include <string_view>

#include "common/config/yaml_tree.h"

namespace nanduti::wan {

/// Sets the key at `path` ("training.seed": one below another) to a plain scalar; makes what is missing, and
/// maps of what was none. Precondition: `root` is a map.
void set_value(YamlNode& root, std::string_view path, std::string text);

/// JSON, which is YAML too and reads back to the same tree, except that text which looks like no number, true
/// or false is quoted. One line for each key of the top level.
std::string to_json_text(const YamlNode& root);

}  // namespace nanduti::wan
