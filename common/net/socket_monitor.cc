#include "common/net/socket_monitor.h"

#include <atomic>
#include <cstring>

#include <fmt/format.h>
#include <zmq.h>

#include "common/base/check.h"

namespace nanduti {

namespace {

constexpr int kFailedHandshakes = ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                  ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
constexpr int kEvents = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED | ZMQ_EVENT_CONNECTED |
                        ZMQ_EVENT_DISCONNECTED | kFailedHandshakes;

std::string new_endpoint() {
  static std::atomic<std::uint64_t> count{0};
  return fmt::format("inproc://socket-monitor-{}", ++count);
}

}  // namespace

SocketMonitor::SocketMonitor(zmq::context_t& context, zmq::socket_ref socket)
    : socket_(socket), events_(context, zmq::socket_type::pair) {
  const std::string endpoint = new_endpoint();
  NANDUTI_CHECK(::zmq_socket_monitor(socket_.handle(), endpoint.c_str(), kEvents) == 0,
                "zmq_socket_monitor: {}", ::zmq_strerror(::zmq_errno()));
  // ZeroMQ's I/O thread waits where a monitor's queue is full. It may not: events are a few bytes, and the
  // thread that reads them never waits for anything.
  events_.set(zmq::sockopt::rcvhwm, 0);
  events_.set(zmq::sockopt::linger, 0);
  events_.connect(endpoint);
}

SocketMonitor::~SocketMonitor() {
  // Before events_ closes: the I/O thread would wait for a reader.
  ::zmq_socket_monitor(socket_.handle(), nullptr, 0);
}

std::optional<SocketMonitor::Event> SocketMonitor::next() {
  for (;;) {
    zmq::message_t what, where;
    if (!events_.recv(what, zmq::recv_flags::dontwait)) return std::nullopt;
    if (what.more()) (void)events_.recv(where, zmq::recv_flags::dontwait);
    std::uint16_t event = 0;
    std::int32_t value = 0;
    if (what.size() != sizeof event + sizeof value) continue;
    std::memcpy(&event, what.data(), sizeof event);
    std::memcpy(&value, static_cast<const char*>(what.data()) + sizeof event, sizeof value);
    if (event == ZMQ_EVENT_ACCEPTED) return Event{Kind::kAccepted, value};
    if (event == ZMQ_EVENT_CONNECTED) return Event{Kind::kConnected, value};
    if (event == ZMQ_EVENT_DISCONNECTED) return Event{Kind::kClosed, value};
    if (event == ZMQ_EVENT_ACCEPT_FAILED) return Event{Kind::kAcceptFailed};
    if ((event & kFailedHandshakes) != 0) return Event{Kind::kHandshakeFailed};
  }
}

}  // namespace nanduti
