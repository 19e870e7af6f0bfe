#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "common/base/protocol_time.h"
#include "common/net/tcp_connection.h"

namespace nanduti {

/// Whether one connection's congestion control has lost sight of its path. bbr sends as fast as it has seen
/// bytes arrive in the last ten round trips. After a loss it sends for one round trip no more than is in
/// flight, which for a sender of now and then a small message is next to nothing; and this little it then
/// takes for the path's rate: seen over 180 ms with 1 % of loss, 5 to 20 kB/s where 2.5 MB/s were free, with
/// messages of 20 kB that came seconds late. Pure.
class PaceCheck {
 public:
  /// A quarter of the best rate so far or less, and with more to send than that carries in a round trip.
  /// Once: what is best is learnt anew then, so that a path which has in truth become slower is left alone.
  bool is_starved(const SendPace& pace);

 private:
  double best_ = 0;  // bytes per second
};

/// How all connections send, by the kernel's cookie of each.
using SendPaces = std::map<std::uint64_t, SendPace>;

/// Lets congestion control begin anew on connections that are starved by it: those of this process must be
/// allowed to have bbr. One thread.
class PaceWatch {
 public:
  /// Between looks, while anything is sent.
  static constexpr Duration kPeriod = std::chrono::milliseconds(200);

  /// Those that are starved, of all that there are.
  std::vector<std::uint64_t> find_starved(const SendPaces& paces);
  /// The same, and restarts them. True if a connection has more to send than its kernel has sent.
  bool look(const std::vector<TcpConnection>& connections);
  [[nodiscard]] std::uint64_t restarts() const { return restarts_; }

 private:
  std::map<std::uint64_t, PaceCheck> checks_;
  std::uint64_t restarts_ = 0;
};

}  // namespace nanduti
