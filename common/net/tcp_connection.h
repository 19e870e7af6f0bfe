#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "common/base/protocol_time.h"

namespace nanduti {

/// How a connection sends.
struct SendPace {
  double bytes_per_second = 0;            ///< what its congestion control allows now
  double delivered_bytes_per_second = 0;  ///< what has arrived, as the kernel measured last
  std::size_t unsent_bytes = 0;           ///< written to it, and waiting for that
  Duration round_trip{0};
};

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
  /// Nothing if it has ended, or if the kernel does not say.
  [[nodiscard]] std::optional<SendPace> send_pace() const;
  /// If that is bbr, which this process may set: it forgets what it has taken its path for, and begins as on
  /// a new connection. False, and nothing happens, if it is another one, or if the descriptor stands for
  /// another connection by now.
  bool restart_congestion_control() const;
  /// The other end, "192.0.2.7:40312", for people.
  [[nodiscard]] std::string peer() const;
  /// Both directions end now, and whoever owns the descriptor hears of it. False, and nothing happens, if the
  /// descriptor stands for another connection by now.
  bool shut_down() const;

 private:
  class Own;

  TcpConnection(int fd, std::uint64_t cookie) : fd_(fd), cookie_(cookie) {}

  int fd_;
  std::uint64_t cookie_;
};

}  // namespace nanduti
