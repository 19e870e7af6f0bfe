#pragma once

#include <optional>
#include <string>

#include <zmq.hpp>

namespace nanduti {

/// Hears what happens to the TCP connections of one ZeroMQ socket. One thread, the socket's.
class SocketMonitor {
 public:
  enum class Kind { kAccepted, kConnected, kClosed, kHandshakeFailed, kAcceptFailed };
  struct Event {
    Kind kind;
    int fd = -1;  ///< of the connection; kAccepted, kConnected, kClosed only
  };

  /// Before the socket is bound or connected. The socket outlives the monitor.
  SocketMonitor(zmq::context_t& context, zmq::socket_ref socket);
  ~SocketMonitor();
  SocketMonitor(const SocketMonitor&) = delete;
  SocketMonitor& operator=(const SocketMonitor&) = delete;

  /// To poll for reading; then next() until it gives nothing.
  [[nodiscard]] void* handle() { return events_.handle(); }
  /// Events come in the order in which they happened.
  std::optional<Event> next();

 private:
  zmq::socket_ref socket_;
  zmq::socket_t events_;
};

}  // namespace nanduti
