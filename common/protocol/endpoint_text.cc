#include "common/protocol/endpoint_text.h"

namespace nanduti {

namespace {

constexpr std::string_view kScheme = "tcp://";

/// The host of "tcp://HOST:PORT", with the brackets of an IPv6 address; empty if the text is none.
std::string_view host_of(std::string_view endpoint) {
  const std::size_t colon = endpoint.rfind(':');
  if (!endpoint.starts_with(kScheme) || colon == std::string_view::npos || colon < kScheme.size()) return {};
  return endpoint.substr(kScheme.size(), colon - kScheme.size());
}

}  // namespace

std::string dialable(std::string_view endpoint, std::string_view seen_at) {
  const std::string_view host = host_of(endpoint);
  const std::string_view other = host_of(seen_at);
  const bool is_wildcard = host == "0.0.0.0" || host == "[::]" || host == "*";
  if (!is_wildcard || other.empty()) return std::string(endpoint);
  const std::string_view port = endpoint.substr(kScheme.size() + host.size());
  return std::string(kScheme).append(other).append(port);
}

}  // namespace nanduti
