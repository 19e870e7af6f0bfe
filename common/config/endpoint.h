#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace nanduti {

/// A host and a TCP port.
struct Endpoint {
  std::string host;        ///< a name or an address; IPv6 without its brackets
  std::uint16_t port = 0;  ///< where a server listens, 0 stands for any free port

  /// "127.0.0.1:7080", "[::1]:7080".
  [[nodiscard]] std::string host_and_port() const;
  /// "tcp://127.0.0.1:7070", as ZeroMQ spells it.
  [[nodiscard]] std::string tcp() const { return "tcp://" + host_and_port(); }
  /// Nobody on another machine can reach it: localhost, 127.0.0.0/8 or ::1.
  [[nodiscard]] bool is_loopback() const;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

/// "host:port" or "[ipv6]:port"; the port is 0 to 65535 in decimal. Errors: kInvalidArgument.
Result<Endpoint> parse_endpoint(std::string_view text);

/// An IPv4 or IPv6 address in figures.
bool is_ip_address(const std::string& host);

}  // namespace nanduti
