#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/protocol_time.h"
#include "common/config/config_errors.h"
#include "common/config/scalar.h"
#include "common/config/yaml_tree.h"

namespace nanduti {

inline constexpr std::size_t kConfigNameBytesMax = 64;
inline constexpr std::size_t kConfigPathBytesMax = 4096;

/// A word that a key may have, and what it stands for.
template <class T>
struct Choice {
  std::string_view word;
  T value;
};

/// Reads the keys of one map. Every read function leaves `out` alone where the key is absent or wrong, and
/// adds what is wrong to the errors. Keys that nobody has asked for by the time of finish() are errors. The
/// tree and the errors outlive the reader.
class YamlReader {
 public:
  /// `node` at `path`, which is empty for a whole file. If it is not a map, finish() says so.
  YamlReader(const YamlNode& node, std::string path, ConfigErrors& errors);

  /// There is a map at all. Without one, every key is absent and none is missed.
  [[nodiscard]] bool is_present() const { return map_ != nullptr; }
  /// The key's value, or nullptr. The key counts as known.
  const YamlNode* find(std::string_view key);
  /// The value if it is a scalar; nullptr if it is absent or, which is an error, anything else.
  const YamlNode* scalar(std::string_view key, std::string_view allowed);
  /// Of the map, in its order; none without a map. For maps whose keys are names of the job's own.
  [[nodiscard]] std::vector<std::string> keys() const;
  /// The map below `key`; without it, a reader that has no keys.
  YamlReader map(std::string_view key);
  /// An error unless the key is there.
  void require(std::string_view key, std::string_view allowed);

  template <class Whole>
  void whole_number(std::string_view key, std::uint64_t min, std::uint64_t max, Whole& out) {
    std::uint64_t value = 0;
    if (read_whole_number(key, min, max, value)) out = static_cast<Whole>(value);
  }
  /// `allowed` says in words what `accepts` accepts.
  void real_number(std::string_view key, bool (*accepts)(double), std::string_view allowed, double& out);
  void boolean(std::string_view key, bool& out);
  void duration(std::string_view key, Duration min, Duration max, Duration& out);
  /// Letters, digits, dots, hyphens and underscores; at most kConfigNameBytesMax.
  void name(std::string_view key, std::string& out);
  /// Text that is not empty and at most kConfigPathBytesMax long.
  void path_text(std::string_view key, std::string_view allowed, std::string& out);
  /// One of `choices`. The words in `later` are features to come, and refused as such.
  template <class T>
  void choice(std::string_view key, const std::vector<Choice<T>>& choices,
              std::initializer_list<std::string_view> later, T& out) {
    std::vector<std::string_view> words;
    for (const Choice<T>& choice : choices) words.push_back(choice.word);
    const std::size_t index = read_choice(key, words, later);
    if (index < words.size()) out = choices[index].value;
  }

  /// The key's value is wrong. Precondition: it is there.
  void reject(std::string_view key, std::string_view allowed);
  /// The same for a value that names a feature to come.
  void reject_not_yet(std::string_view key, std::string_view allowed);
  /// Does not go with another key; the error is about this map as a whole if `key` is not there.
  void conflict(std::string_view key, std::string_view found, std::string_view allowed);
  /// Adds an error for every key that nobody has asked for. The last call.
  void finish();

  [[nodiscard]] std::string path_of(std::string_view key) const;
  [[nodiscard]] ConfigErrors& errors() { return errors_; }

 private:
  [[nodiscard]] const YamlNode::Entry* entry(std::string_view key) const;
  bool read_whole_number(std::string_view key, std::uint64_t min, std::uint64_t max, std::uint64_t& out);
  /// The index of the word found, or words.size().
  std::size_t read_choice(std::string_view key, const std::vector<std::string_view>& words,
                          std::initializer_list<std::string_view> later);

  YamlReader(std::string path, ConfigErrors& errors) : path_(std::move(path)), errors_(errors) {}

  const YamlNode* map_ = nullptr;
  const YamlNode* no_map_ = nullptr;  ///< what stands where the map should
  std::string path_;
  ConfigErrors& errors_;
  std::vector<std::string> known_keys_;
};

}  // namespace nanduti
