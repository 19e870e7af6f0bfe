#include "common/config/endpoint_keys.h"

#include "common/config/text_check.h"

namespace nanduti {
namespace {

constexpr std::string_view kTcp = "tcp://";

std::string_view allowed_form(EndpointUse use) {
  switch (use) {
    case EndpointUse::kListenData:
      return "host:port or tcp://host:port, port 0 (any free one) to 65535, such as 127.0.0.1:7070";
    case EndpointUse::kListenHttp:
      return "host:port, port 0 (any free one) to 65535, such as 127.0.0.1:7080";
    case EndpointUse::kConnect:
      return "host:port or tcp://host:port, port 1 to 65535, such as 127.0.0.1:7070";
  }
  return {};
}

}  // namespace

void read_endpoint(YamlReader& reader, std::string_view key, EndpointUse use, Endpoint& out) {
  const YamlNode* node = reader.scalar(key, allowed_form(use));
  if (node == nullptr) return;
  std::string_view text = node->text;
  if (use != EndpointUse::kListenHttp && text.starts_with(kTcp)) text.remove_prefix(kTcp.size());
  auto endpoint = parse_endpoint(text);
  if (!endpoint.ok() || (use == EndpointUse::kConnect && endpoint->port == 0)) {
    return reader.reject(key, allowed_form(use));
  }
  out = std::move(endpoint).value();
}

void read_security(YamlReader& root, Security& out) {
  root.choice<Security>("security", {{"none", Security::kNone}}, {"curve"}, out);
}

void check_security(YamlReader& reader, std::string_view key, const Endpoint& endpoint, Security security) {
  if (security == Security::kNone || endpoint.is_loopback()) return;
  reader.conflict(key, fmt::format("{} without \"security: none\"", in_quotes(endpoint.host_and_port())),
                  "a loopback address, or any with \"security: none\" written out: connections are neither "
                  "encrypted nor authenticated yet");
}

}  // namespace nanduti
