#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/protocol_time.h"
#include "common/net/tcp_connection.h"
#include "common/protocol/frame.h"

namespace nanduti {

/// Largest ZeroMQ part that is accepted: a chunk, or a frame header with a job's text inside.
inline constexpr std::size_t kTransportPartBytesMax = std::size_t{4} << 20;
/// Of a connection, taken in and not yet a finished message: the largest honest one is a header part and a
/// chunk; as much room again as a part that has been read but not yet been counted, and a handshake.
inline constexpr std::size_t kUnfinishedBytesMax = kTransportPartBytesMax + kChunkBytesMax + (256 * 1024);
/// Of all connections together; beyond, those that owe the most go.
inline constexpr std::size_t kUnfinishedBytesTotalMax = std::size_t{256} << 20;
/// Accepted at once by this process: a worker has one to a coordinator and kStreamsMax to each shard.
inline constexpr std::size_t kAcceptedConnectionsMax = 16384;
/// Descriptors that are left to other things than accepted connections.
inline constexpr std::size_t kDescriptorsKept = 128;

struct ConnectionLimits {
  std::size_t accepted_max = kAcceptedConnectionsMax;
  std::size_t unfinished_bytes_max = kUnfinishedBytesMax;
  std::size_t unfinished_bytes_total_max = kUnfinishedBytesTotalMax;
  /// An accepted connection brings its first frame by then.
  Duration first_frame_within = std::chrono::seconds(10);
  /// How often connections are looked at while bytes arrive.
  Duration check_period = std::chrono::milliseconds(10);
};

/// Limits what ZeroMQ leaves without a limit, on the TCP connections below it. ZeroMQ buffers all parts of a
/// message that is not finished, however many they are: here, bytes that the kernel has handed over are
/// compared with bytes of finished messages that came out, and who owes too much is shut down. So are
/// connections beyond a maximum, and accepted ones that bring no frame. A connection that nothing arrives on
/// costs no wake-up: `activity_fd` becomes readable when that changes.
///
/// `socket` below names a ZeroMQ socket, by any pointer that is its alone. One thread.
class ConnectionWatch {
 public:
  explicit ConnectionWatch(const ConnectionLimits& limits);
  ~ConnectionWatch();
  ConnectionWatch(const ConnectionWatch&) = delete;
  ConnectionWatch& operator=(const ConnectionWatch&) = delete;

  // What the socket's monitor says.
  void opened(ProtocolTime now, const void* socket, const TcpConnection& connection, bool accepted);
  void closed(const void* socket, int fd);
  /// It was opened, and has ended before it could be looked at.
  void missed(bool accepted);
  /// The socket is closed, with all its connections.
  void forget(const void* socket);

  /// All that have not ended.
  [[nodiscard]] std::vector<TcpConnection> connections() const;

  /// Whether a message that names this descriptor and route can be counted. If not, the socket's monitor has
  /// news that have to be heard first.
  [[nodiscard]] bool knows(const void* socket, int fd, RouteId route) const;
  /// A finished message came out of the socket; `wire_bytes` with ZeroMQ's own framing.
  void finished(const void* socket, int fd, RouteId route, std::size_t wire_bytes);
  /// It was a well-formed frame.
  void brought_frame(const void* socket, int fd);
  /// It was a message that no honest peer sends: the connection is shut down.
  void condemn(const void* socket, int fd, std::string_view reason);
  /// No finished message is left in the socket.
  void drained(const void* socket);

  [[nodiscard]] int activity_fd() const { return epoll_; }
  void on_activity(ProtocolTime now);
  void on_deadline(ProtocolTime now);
  [[nodiscard]] ProtocolTime next_deadline() const;
  /// Connections are waiting for a verdict: take messages from every socket, and call drained() for each that
  /// has none left.
  [[nodiscard]] bool wants_drained() const { return !pending_.empty(); }

  struct Counters {
    std::uint64_t accepted = 0, dialled = 0, closed = 0;
    std::uint64_t shut_down_unfinished = 0;    ///< too much of a message that does not end
    std::uint64_t shut_down_condemned = 0;     ///< a message that no honest peer sends
    std::uint64_t shut_down_silent = 0;        ///< no first frame
    std::uint64_t shut_down_over_maximum = 0;  ///< too many connections
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  using Id = std::uint64_t;  // of a connection; never reused
  struct Connection {
    const void* socket;
    TcpConnection tcp;
    bool accepted;
    bool shut_down = false;
    RouteId route{};                  // 0 until it is known
    ProtocolTime silent_at = kNever;  // kNever once it has brought a frame
    bool silence_seen = false;        // at the sweep before
    std::uint64_t consumed = 0;       // when last looked at
    std::uint64_t finished = 0;       // bytes of messages that came out
    bool finished_since = false;      // one came out since the last verdict
    std::uint64_t finished_at = 0;    // the socket's messages then
    std::uint64_t looked_at = 0;      // the socket's messages then
    std::uint64_t owed = 0;           // unfinished bytes at the last verdict
  };

  struct Socket {
    std::uint64_t messages = 0;  // finished ones
    std::size_t connections = 0;
  };

  Connection* find(const void* socket, int fd);
  void erase(Id id);
  void purge();
  void arm(Id id, const Connection& connection, bool again) const;
  void look(Id id, Connection& connection);
  void judge(Connection& connection);
  void judge_total();
  void sweep(ProtocolTime now);
  bool shut_down(Connection& connection, std::string_view reason);

  ConnectionLimits limits_;
  int epoll_;
  Id next_id_ = 1;
  std::map<Id, Connection> connections_;
  std::map<std::pair<const void*, int>, Id> by_fd_;
  std::size_t accepted_ = 0;  // of connections_, without those shut down
  std::size_t silent_ = 0;    // of connections_: no frame yet
  std::map<const void*, Socket> sockets_;
  std::set<Id> active_;                           // bytes came since they were last looked at
  std::set<std::pair<const void*, Id>> pending_;  // of active_: looked at, verdict after drained()
  std::uint64_t owed_ = 0;                        // of all connections that are not shut down
  ProtocolTime check_at_ = kNever;
  ProtocolTime sweep_at_ = kNever;
  ProtocolTime now_{};       // as last told
  ProtocolTime log_from_{};  // shut-downs are logged again from then on
  std::uint64_t unlogged_ = 0;
  Counters counters_;
};

/// The maximum, or what this process's limit of open files leaves room for.
std::size_t accepted_connections_max();

}  // namespace nanduti
