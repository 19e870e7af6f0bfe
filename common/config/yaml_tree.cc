// The one place that knows yaml-cpp; its exceptions stop here.
#include "common/config/yaml_tree.h"

#include <algorithm>
#include <exception>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "common/config/text_check.h"

namespace nanduti {
namespace {

/// Leaves yaml-cpp's parser from within one of its callbacks.
struct Refusal : std::exception {
  Refusal(std::size_t line_number, std::string what_is_wrong)
      : line(line_number), text(std::move(what_is_wrong)) {}
  [[nodiscard]] const char* what() const noexcept override { return text.c_str(); }
  std::size_t line;
  std::string text;
};

std::size_t line_of(const YAML::Mark& mark) {
  return mark.line < 0 ? 1 : static_cast<std::size_t>(mark.line) + 1;
}

/// Builds the tree from the parser's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) throw Refusal(line_of(mark), "found a second document, allowed: one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    add({YamlNode::Kind::kNull, line_of(mark), {}, false, {}});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark, 1); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    add({YamlNode::Kind::kScalar, line_of(mark), value, tag == "!", {}});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(mark, tag, anchor, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { end(); }

 private:
  /// A list or map whose end has not come yet.
  struct Open {
    YamlNode node;
    bool has_key = false;  ///< of a map: the next value belongs to the last entry's key
  };

  static void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) throw Refusal(line_of(mark), "found an anchor or alias (& or *), allowed: plain values");
  }
  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw Refusal(line_of(mark), "found a tag (!), allowed: plain values");
  }

  [[nodiscard]] bool expects_key() const {
    return !open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap && !open_.back().has_key;
  }

  void begin(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (expects_key()) throw Refusal(line_of(mark), "found a list or map as a key, allowed: a name");
    if (open_.size() >= kYamlDepthMax) {
      throw Refusal(line_of(mark),
                    fmt::format("found more than {} levels, allowed: at most that many", kYamlDepthMax));
    }
    open_.push_back({{kind, line_of(mark), {}, false, {}}, false});
  }
  void end() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back({{}, node.line, std::move(node)});
    } else if (!parent.has_key) {
      add_key(parent, node);
    } else {
      YamlNode::Entry& entry = parent.node.items.back();
      // The parser places "nothing" where it noticed, and a block behind its key.
      if (node.kind != YamlNode::Kind::kScalar) node.line = entry.line;
      entry.value = std::move(node);
      parent.has_key = false;
    }
  }

  void add_key(Open& parent, const YamlNode& key) {
    if (key.kind != YamlNode::Kind::kScalar)
      throw Refusal(key.line, "found a key of nothing, allowed: a name");
    for (const YamlNode::Entry& entry : parent.node.items) {
      if (entry.key != key.text) continue;
      throw Refusal(key.line, fmt::format("{}: found a second time (first in line {}), allowed: once",
                                          path_to(key.text), entry.line));
    }
    if (parent.node.items.size() >= kKeysMax) {
      throw Refusal(key.line,
                    fmt::format("found more than {} keys in one map, allowed: at most that many", kKeysMax));
    }
    parent.node.items.push_back({key.text, key.line, {}});
    parent.has_key = true;
  }

  /// "training.seed": the names of all maps that are open, then this key.
  [[nodiscard]] std::string path_to(const std::string& key) const {
    std::string path;
    for (std::size_t i = 0; i + 1 < open_.size(); ++i) {
      const YamlNode& node = open_[i].node;
      if (node.kind == YamlNode::Kind::kList) {
        path += fmt::format("[{}]", node.items.size());
      } else {
        path += (path.empty() ? "" : ".") + node.items.back().key;
      }
    }
    return path.empty() ? key : path + "." + key;
  }

  /// Above any map's number of known keys; bounds the search for duplicates.
  static constexpr std::size_t kKeysMax = 256;

  YamlNode root_;
  std::vector<Open> open_;
  std::size_t documents_ = 0;
};

}  // namespace

Result<YamlNode> parse_yaml(const ConfigText& source) {
  NANDUTI_RETURN_IF_ERROR(check_config_text(source));
  const auto error = [&](std::size_t line, const std::string& text) {
    return make_error(ErrorCode::kInvalidArgument, "{}:{}: {}", source.name, line, text);
  };
  try {
    // With a line end behind it, yaml-cpp 0.7 takes a quote that is never closed for a closed one.
    std::istringstream stream(source.text.substr(0, source.text.find_last_not_of(" \r\n") + 1));
    YAML::Parser parser(stream);
    TreeBuilder builder;
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.take_root();
  } catch (const Refusal& refusal) {
    return error(refusal.line, refusal.text);
  } catch (const YAML::Exception& exception) {
    return error(line_of(exception.mark), "not valid YAML: " + exception.msg);
  } catch (const std::exception& exception) {
    return error(1, std::string("not valid YAML: ") + exception.what());
  }
}

}  // namespace nanduti
