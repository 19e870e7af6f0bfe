#include "common/config/endpoint.h"

#include <algorithm>

#include <arpa/inet.h>
#include <strings.h>

#include "common/config/scalar.h"

namespace nanduti {
namespace {

constexpr std::size_t kHostBytesMax = 253;
constexpr std::string_view kForm = "host:port or [ipv6]:port, port 0 to 65535";

Error wrong(std::string_view text) {
  return make_error(ErrorCode::kInvalidArgument, "\"{}\" is not {}", text, kForm);
}

bool is_ipv4_address(const std::string& host) {
  in_addr address{};
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1;
}

bool is_ipv6_address(const std::string& host) {
  in6_addr address{};
  return ::inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

/// A DNS name, or an IPv4 address; "300.1.1.1" and "1.2" are neither.
bool is_host(const std::string& host) {
  if (host.empty() || host.size() > kHostBytesMax || host.front() == '-') return false;
  const auto is_host_byte = [](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
           c == '_';
  };
  if (!std::all_of(host.begin(), host.end(), is_host_byte)) return false;
  if (host.front() == '.' || host.find("..") != std::string::npos) return false;
  const std::string last_label = host.substr(host.find_last_of('.') + 1);
  if (std::all_of(last_label.begin(), last_label.end(), is_digit)) return is_ipv4_address(host);
  return true;
}

}  // namespace

std::string Endpoint::host_and_port() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

bool Endpoint::is_loopback() const {
  in_addr ipv4{};
  if (::inet_pton(AF_INET, host.c_str(), &ipv4) == 1) return ntohl(ipv4.s_addr) >> 24 == 127;
  in6_addr ipv6{};
  if (::inet_pton(AF_INET6, host.c_str(), &ipv6) == 1) return IN6_IS_ADDR_LOOPBACK(&ipv6);
  return ::strcasecmp(host.c_str(), "localhost") == 0;
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong(text);
  const auto port = parse_whole_number(text.substr(colon + 1));
  if (!port || *port > 65535) return wrong(text);
  std::string host(text.substr(0, colon));
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    if (!is_ipv6_address(host)) return wrong(text);
  } else if (!is_host(host)) {
    return wrong(text);
  }
  return Endpoint{std::move(host), static_cast<std::uint16_t>(*port)};
}

bool is_ip_address(const std::string& host) { return is_ipv4_address(host) || is_ipv6_address(host); }

}  // namespace nanduti
