#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "common/base/result.h"
#include "common/config/yaml_tree.h"

namespace nanduti {

/// What is wrong with one config file. Readers add all they find and go on; the operator is shown one error:
/// the first line's, where something wrong comes before something missing (it may be its misspelling), and
/// before keys that do not go together.
class ConfigErrors {
 public:
  enum class Rank { kWrong, kMissing, kConflict };

  explicit ConfigErrors(std::string file) : file_(std::move(file)) {}

  /// "FILE:LINE: PATH: found FOUND, allowed: ALLOWED"; PATH is empty for the file as a whole.
  void add(Rank rank, std::size_t line, std::string_view path, std::string_view found,
           std::string_view allowed);
  /// The same for a value that has the wrong form or is out of range.
  void add_wrong(const YamlNode& node, std::string_view path, std::string_view allowed);

  /// kInvalidArgument if anything was added.
  [[nodiscard]] Status status() const;

 private:
  struct First {
    Rank rank;
    std::size_t line;
    std::string message;
  };

  std::string file_;
  std::optional<First> first_;
};

/// What a value is, in words: "zero", the quoted text "64", nothing, a list, a map.
std::string describe(const YamlNode& node);

}  // namespace nanduti
