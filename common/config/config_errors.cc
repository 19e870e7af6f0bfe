#include "common/config/config_errors.h"

#include "common/config/text_check.h"

namespace nanduti {

void ConfigErrors::add(Rank rank, std::size_t line, std::string_view path, std::string_view found,
                       std::string_view allowed) {
  if (first_ && std::tie(first_->rank, first_->line) <= std::tie(rank, line)) return;
  first_ = First{rank, line,
                 fmt::format("{}:{}: {}{}found {}, allowed: {}", file_, line, path, path.empty() ? "" : ": ",
                             found, allowed)};
}

void ConfigErrors::add_wrong(const YamlNode& node, std::string_view path, std::string_view allowed) {
  add(Rank::kWrong, node.line, path, describe(node), allowed);
}

Status ConfigErrors::status() const {
  if (!first_) return {};
  return Error{ErrorCode::kInvalidArgument, first_->message};
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return (node.is_quoted ? "the quoted text " : "") + in_quotes(node.text);
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return {};
}

}  // namespace nanduti
