#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace nanduti {

/// A TCP connection that ZeroMQ owns, as the kernel knows it. Descriptors' numbers are given again as soon as
/// a connection is closed: the kernel's cookie tells one connection from the next with the same number.
/// Nothing here closes or keeps a descriptor.
class TcpConnection {
 public:
  /// The connection that `fd` stands for at this moment; nothing if it is none (any more).
  static std::optional<TcpConnection> of(int fd);

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::uint64_t cookie() const { return cookie_; }
  /// Bytes that this end's program has read from the kernel since the connection began, or a little less.
  [[nodiscard]] std::uint64_t consumed_bytes() const;
  /// The other end, "192.0.2.7:40312", for people.
  [[nodiscard]] std::string peer() const;
  /// Both directions end now, and whoever owns the descriptor hears of it. False, and nothing happens, if the
  /// descriptor stands for another connection by now.
  bool shut_down() const;

 private:
  TcpConnection(int fd, std::uint64_t cookie) : fd_(fd), cookie_(cookie) {}

  int fd_;
  std::uint64_t cookie_;
};

}  // namespace nanduti
