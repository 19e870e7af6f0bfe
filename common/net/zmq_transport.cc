#include "common/net/zmq_transport.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <thread>

#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.hpp>

#include "common/base/log.h"
#include "common/net/bounded_queue.h"
#include "common/net/congestion_control.h"
#include "common/net/pace_watch.h"
#include "common/net/socket_monitor.h"
#include "common/net/zmq_message.h"

namespace nanduti {

namespace {

constexpr int kLingerMs = 1000;
// A broken connection, or an attempt without an answer (DialRoute::answer_within), is made again after
// this and up to as much again. TCP asks a host that does not answer after 1, 3 and 7 s, ever more rarely: a
// new attempt asks at once.
constexpr int kReconnectMs = 100;
// A peer that has gone without a word: asked after 30 s of silence, three times, and given up a minute after
// it last took what it was sent. Sessions do not depend on it: they redial after seconds and are kept for
// minutes. It is what returns the connection's memory and descriptor.
constexpr int kKeepaliveIdleSeconds = 30;
constexpr int kKeepalivePeriodSeconds = 10;
constexpr int kKeepaliveCount = 3;
constexpr int kDeadPeerMs = 60'000;
// Three for each route that is dialled: itself and its monitor's two ends.
constexpr int kSocketsMax = 16'384;
constexpr int kFramesPerTurn = 64;  // of one socket, before the others have a turn
constexpr std::uint64_t kFirstDialledRoute = std::uint64_t{1} << 32;

/// A file descriptor that any thread can make readable.
class Wake {
 public:
  Wake() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { NANDUTI_CHECK(fd_ >= 0); }
  ~Wake() { ::close(fd_); }
  Wake(const Wake&) = delete;
  Wake& operator=(const Wake&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  void set() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(fd_, &one, sizeof one);
  }
  void clear() const {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(fd_, &count, sizeof count);
  }

 private:
  int fd_;
};

void set_common_options(zmq::socket_t& socket, const TransportOptions& options) {
  socket.set(zmq::sockopt::linger, kLingerMs);
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kTransportPartBytesMax));
  socket.set(zmq::sockopt::sndhwm, options.queue_frames_max);
  socket.set(zmq::sockopt::rcvhwm, options.queue_frames_max);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::tcp_keepalive_idle, kKeepaliveIdleSeconds);
  socket.set(zmq::sockopt::tcp_keepalive_intvl, kKeepalivePeriodSeconds);
  socket.set(zmq::sockopt::tcp_keepalive_cnt, kKeepaliveCount);
  socket.set(zmq::sockopt::tcp_maxrt, kDeadPeerMs);
  socket.set(zmq::sockopt::handshake_ivl, static_cast<int>(options.handshake_within.count()));
}

ConnectionLimits default_limits() {
  ConnectionLimits limits;
  limits.accepted_max = accepted_connections_max();
  return limits;
}

/// A ROUTER names its peers by a zero byte and a number; other names were chosen by the peer.
constexpr std::size_t kPeerNameBytes = 5;

std::optional<RouteId> route_of(const zmq::message_t& name) {
  const auto* bytes = static_cast<const unsigned char*>(name.data());
  if (name.size() != kPeerNameBytes || bytes[0] != 0) return std::nullopt;
  return RouteId(std::uint64_t{bytes[1]} << 24 | std::uint64_t{bytes[2]} << 16 |
                 std::uint64_t{bytes[3]} << 8 | std::uint64_t{bytes[4]});
}

std::array<unsigned char, kPeerNameBytes> peer_name(RouteId route) {
  const auto number = static_cast<std::uint32_t>(route.value());
  return {0, static_cast<unsigned char>(number >> 24), static_cast<unsigned char>(number >> 16),
          static_cast<unsigned char>(number >> 8), static_cast<unsigned char>(number)};
}

std::size_t bytes_of_frame(const TransmitFrame& request) {
  return sizeof(request) + request.frame.message_header.size() + request.frame.chunk.size();
}

ProtocolTime steady_now() {
  return ProtocolTime(
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

}  // namespace

struct ZmqTransport::Impl {
  explicit Impl(const TransportOptions& transport_options)
      : options(transport_options), watch(options.connections ? *options.connections : default_limits()) {
    context.set(zmq::ctxopt::max_sockets, kSocketsMax);
  }

  TransportOptions options;
  zmq::context_t context{1};
  Wake wake;
  std::string endpoint;

  BoundedQueue<std::pair<std::uint32_t, TransportRequest>> outbox{{kOutboxFramesMax, kOutboxBytesMax}};
  std::atomic<bool> stopping = false;
  std::string congestion_control;  // empty: the system's own
  std::mutex receivers_mutex;
  std::map<std::uint32_t, Receiver> receivers;
  mutable std::mutex counters_mutex;
  Counters counters;

  // The transport's thread only, once it runs.
  /// A ZeroMQ socket with the monitor of its connections, which ends first.
  struct Socket {
    Socket(zmq::context_t& zmq_context, zmq::socket_type type)
        : zmq(zmq_context, type), monitor(zmq_context, zmq) {}
    zmq::socket_t zmq;
    SocketMonitor monitor;
    // Dialled ones only.
    std::uint32_t owner = 0;
    RouteId route;
  };
  ConnectionWatch watch;
  PaceWatch pace;
  ProtocolTime pace_at = kNever;  // the next look; none while nothing is sent
  std::unique_ptr<Socket> router;
  std::map<std::pair<std::uint32_t, RouteId>, std::unique_ptr<Socket>> dialled;
  std::vector<zmq::pollitem_t> items;  // kFixedItems, then two for each of `polled`: messages, monitor
  static constexpr std::size_t kFixedItems = 2;
  std::vector<Socket*> polled;
  bool items_stale = true;
  std::array<std::string, 2> logged_congestion_control;  // accepted, dialled
  Counters counted;                                      // copied to `counters` after each turn

  std::thread thread;

  Status bind() {
    if (!options.listen) return {};
    try {
      router = std::make_unique<Socket>(context, zmq::socket_type::router);
      set_common_options(router->zmq, options);
      router->zmq.set(zmq::sockopt::ipv6, options.listen->find('[') != std::string::npos);
      // A frame to a connection that is gone is an error to count, not silence.
      router->zmq.set(zmq::sockopt::router_mandatory, true);
      router->zmq.bind(*options.listen);
      endpoint = router->zmq.get(zmq::sockopt::last_endpoint);
    } catch (const zmq::error_t& error) {
      if (error.num() == EADDRINUSE)
        return make_error(ErrorCode::kUnavailable,
                          "{} is in use by another program: stop it, or choose another port in listen.data",
                          *options.listen);
      if (error.num() == ENODEV)
        return make_error(ErrorCode::kUnavailable,
                          "cannot listen at {}: no address or network interface of this machine",
                          *options.listen);
      return make_error(error.num() == EINVAL ? ErrorCode::kInvalidArgument : ErrorCode::kUnavailable,
                        "cannot listen at {}: {}", *options.listen, error.what());
    }
    return {};
  }

  void run() {
    for (;;) {
      if (items_stale) make_items();
      try {
        zmq::poll(items, until(std::min(watch.next_deadline(), pace_at)));
      } catch (const zmq::error_t& error) {
        if (error.num() == EINTR) continue;
        NANDUTI_CHECK(false, "zmq_poll: {}", error.what());
      }
      if (items[0].revents != 0) {
        wake.clear();
        if (!carry_out_requests()) return;
      }
      if (items_stale) continue;  // what is readable stays so
      const ProtocolTime now = steady_now();
      for (std::size_t i = 0; i < polled.size(); ++i)
        if (items[kFixedItems + 2 * i + 1].revents != 0) hear_monitor(now, *polled[i]);
      if (items[1].revents != 0) watch.on_activity(now);
      if (watch.next_deadline() <= now) watch.on_deadline(now);
      if (pace_at <= now) pace_at = pace.look(watch.connections()) ? now + PaceWatch::kPeriod : kNever;
      const bool wants_drained = watch.wants_drained();
      for (std::size_t i = 0; i < polled.size(); ++i)
        if ((wants_drained || items[kFixedItems + 2 * i].revents != 0) && receive(*polled[i]))
          watch.drained(polled[i]);
      publish_counters();
    }
  }

  /// For zmq_poll, which counts in whole milliseconds.
  static std::chrono::milliseconds until(ProtocolTime deadline) {
    if (deadline == kNever) return std::chrono::milliseconds(-1);
    return std::chrono::ceil<std::chrono::milliseconds>(std::max(deadline - steady_now(), Duration(0)));
  }

  void make_items() {
    items.clear();
    polled.clear();
    items.push_back({nullptr, wake.fd(), ZMQ_POLLIN, 0});
    items.push_back({nullptr, watch.activity_fd(), ZMQ_POLLIN, 0});
    const auto add = [&](Socket& socket) {
      items.push_back({socket.zmq.handle(), 0, ZMQ_POLLIN, 0});
      items.push_back({socket.monitor.handle(), 0, ZMQ_POLLIN, 0});
      polled.push_back(&socket);
    };
    if (router) add(*router);
    for (auto& [key, socket] : dialled) add(*socket);
    items_stale = false;
  }

  void hear_monitor(ProtocolTime now, Socket& socket) {
    struct News {
      SocketMonitor::Event event;
      std::optional<TcpConnection> connection;
    };
    std::vector<News> news;
    std::map<int, std::size_t> last_closed;  // of a descriptor, by place in `news`
    while (const std::optional<SocketMonitor::Event> event = socket.monitor.next()) {
      if (event->kind == SocketMonitor::Kind::kClosed) last_closed[event->fd] = news.size();
      news.push_back({*event, TcpConnection::of(event->fd)});
    }
    // A descriptor that is closed in later news may have stood for anything by the time it was looked at.
    const bool accepts = &socket == router.get();
    for (std::size_t i = 0; i < news.size(); ++i) {
      const auto& [event, connection] = news[i];
      switch (event.kind) {
        case SocketMonitor::Kind::kAccepted:
        case SocketMonitor::Kind::kConnected: {
          const auto closed = last_closed.find(event.fd);
          if (connection && (closed == last_closed.end() || closed->second < i)) {
            watch.opened(now, &socket, *connection, accepts);
            control_congestion(event.fd, accepts);
          } else {
            watch.missed(accepts);
          }
          break;
        }
        case SocketMonitor::Kind::kClosed:
          watch.closed(&socket, event.fd);
          break;
        case SocketMonitor::Kind::kHandshakeFailed:
          ++counted.handshakes_failed;
          break;
        case SocketMonitor::Kind::kAcceptFailed:
          ++counted.accepts_failed;
          break;
      }
    }
  }

  /// Of what this side sends on a new connection. Kinds of connections are logged as they are first seen.
  void control_congestion(int fd, bool accepted) {
    if (!congestion_control.empty()) (void)set_congestion_control(fd, congestion_control);
    std::string in_force = congestion_control_of(fd);
    std::string& logged = logged_congestion_control[accepted ? 0 : 1];
    if (in_force == logged) return;
    log_info("TCP connections that are {} use {}", accepted ? "accepted" : "dialled", in_force);
    logged = std::move(in_force);
  }

  /// False when it is time to stop.
  bool carry_out_requests() {
    const bool stop = stopping;  // before the last requests are taken
    for (auto& [owner, request] : outbox.take()) {
      if (auto* dial = std::get_if<DialRoute>(&request)) {
        dial_route(owner, *dial);
      } else if (auto* hang_up = std::get_if<HangUpRoute>(&request)) {
        hang_up_route({owner, hang_up->route});
      } else {
        transmit(owner, std::get<TransmitFrame>(request));
      }
    }
    publish_counters();
    return !stop;
  }

  void dial_route(std::uint32_t owner, const DialRoute& request) {
    log_debug("dialling {} for {}", request.endpoint, request.bulk ? "bulk" : "control");
    hang_up_route({owner, request.route});
    try {
      auto socket = std::make_unique<Socket>(context, zmq::socket_type::dealer);
      socket->owner = owner;
      socket->route = request.route;
      set_common_options(socket->zmq, options);
      socket->zmq.set(zmq::sockopt::reconnect_ivl, kReconnectMs);
      socket->zmq.set(
          zmq::sockopt::connect_timeout,
          static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(request.answer_within).count()));
      socket->zmq.set(zmq::sockopt::ipv6, true);  // also where a name has both kinds of address
      socket->zmq.connect(request.endpoint);
      dialled.emplace(std::pair(owner, request.route), std::move(socket));
      items_stale = true;
    } catch (const zmq::error_t& error) {
      ++counted.dials_failed;
      log_error("cannot connect to {}: {}", request.endpoint, error.what());
    }
  }

  void hang_up_route(const std::pair<std::uint32_t, RouteId>& key) {
    const auto it = dialled.find(key);
    if (it == dialled.end()) return;
    watch.forget(it->second.get());
    dialled.erase(it);
    items_stale = true;
  }

  void transmit(std::uint32_t owner, const TransmitFrame& request) {
    zmq::socket_t* socket = nullptr;
    if (request.route.value() >= kFirstDialledRoute) {
      const auto connection = dialled.find({owner, request.route});
      if (connection != dialled.end()) socket = &connection->second->zmq;
    } else if (router) {
      socket = &router->zmq;
    }
    if (socket == nullptr) {
      ++counted.dropped_no_route;
      return;
    }
    const EncodedFrame encoded = encode_frame(request.frame);
    try {
      bool sent = true;
      if (request.route.value() < kFirstDialledRoute) {
        const auto name = peer_name(request.route);
        sent = socket
                   ->send(zmq::buffer(name.data(), name.size()),
                          zmq::send_flags::sndmore | zmq::send_flags::dontwait)
                   .has_value();
      }
      // Once the first part is taken, the others of the same message are too.
      const bool has_chunk = !encoded.chunk.empty();
      const auto last = zmq::send_flags::dontwait;
      if (sent)
        sent = socket->send(message_of(encoded.header), has_chunk ? last | zmq::send_flags::sndmore : last)
                   .has_value();
      if (sent && has_chunk) sent = socket->send(message_of(encoded.chunk), last).has_value();
      if (!sent) {
        ++counted.dropped_queue_full;
        return;
      }
      if (pace_at == kNever && congestion_control == kBbr) pace_at = steady_now() + PaceWatch::kPeriod;
      ++counted.frames_out;
      counted.bytes_out += encoded.header.size() + encoded.chunk.size();
    } catch (const zmq::error_t&) {  // EHOSTUNREACH: that connection has ended
      ++counted.dropped_no_route;
    }
  }

  /// Whether no message is left.
  bool receive(Socket& socket) {
    const bool is_router = &socket == router.get();
    for (int i = 0; i < kFramesPerTurn; ++i) {
      std::optional<ZmqParts> message = receive_parts(socket.zmq, is_router);
      if (!message) return true;
      std::optional<RouteId> route = socket.route;
      if (is_router) route = route_of(message->parts[0]);
      // A peer that names itself is nobody's; its connection brings no frame.
      const RouteId known = route.value_or(RouteId());
      if (!watch.knows(&socket, message->fd, known)) hear_monitor(steady_now(), socket);
      watch.finished(&socket, message->fd, known, message->wire_bytes);
      if (route)
        take(socket, *route, std::move(*message), is_router ? 1 : 0);
      else
        ++counted.dropped_named_peer;
    }
    return false;
  }

  /// `first`: the part that begins the frame.
  void take(Socket& socket, RouteId route, ZmqParts message, std::size_t first) {
    if (message.count > first + 2) {
      ++counted.dropped_too_many_parts;
      watch.condemn(&socket, message.fd, "a message of too many parts");
      return;
    }
    EncodedFrame encoded;
    encoded.header = bytes_of(std::move(message.parts[first]));
    if (message.count == first + 2) encoded.chunk = bytes_of(std::move(message.parts[first + 1]));
    const std::size_t bytes = encoded.header.size() + encoded.chunk.size();
    Result<Frame> frame = decode_frame(encoded);
    if (!frame.ok()) {
      ++counted.dropped_malformed;
      return;
    }
    watch.brought_frame(&socket, message.fd);
    ++counted.frames_in;
    counted.bytes_in += bytes;
    const std::uint32_t owner = first == 0 ? socket.owner : frame->destination;
    const std::lock_guard lock(receivers_mutex);
    const auto receiver = receivers.find(owner);
    if (receiver == receivers.end())
      ++counted.dropped_no_receiver;
    else
      receiver->second(route, std::move(*frame), sizeof(Frame) + bytes);
  }

  void publish_counters() {
    const ConnectionWatch::Counters& connections = watch.counters();
    counted.connections_accepted = connections.accepted;
    counted.connections_dialled = connections.dialled;
    counted.connections_closed = connections.closed;
    counted.shut_down_unfinished = connections.shut_down_unfinished;
    counted.shut_down_too_many_parts = connections.shut_down_condemned;
    counted.shut_down_silent = connections.shut_down_silent;
    counted.shut_down_over_maximum = connections.shut_down_over_maximum;
    counted.congestion_restarts = pace.restarts();
    const std::lock_guard lock(counters_mutex);
    counters = counted;
  }
};

ZmqTransport::ZmqTransport(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([this] { impl_->run(); });
}

Result<std::unique_ptr<ZmqTransport>> ZmqTransport::start(const TransportOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  Result<std::string> chosen = choose_congestion_control(options.congestion_control);
  if (!chosen.ok()) return chosen.error();
  impl->congestion_control = std::move(chosen).value();
  NANDUTI_RETURN_IF_ERROR(impl->bind());
  return std::unique_ptr<ZmqTransport>(new ZmqTransport(std::move(impl)));
}

ZmqTransport::~ZmqTransport() {
  impl_->stopping = true;
  impl_->wake.set();
  impl_->thread.join();
}

void ZmqTransport::attach(std::uint32_t destination, Receiver receiver) {
  const std::lock_guard lock(impl_->receivers_mutex);
  impl_->receivers.insert_or_assign(destination, std::move(receiver));
}

void ZmqTransport::detach(std::uint32_t destination) {
  const std::lock_guard lock(impl_->receivers_mutex);
  impl_->receivers.erase(destination);
}

void ZmqTransport::submit(std::uint32_t owner, std::vector<TransportRequest> requests) {
  using Pushed = decltype(impl_->outbox)::Pushed;
  bool wake = false;
  for (TransportRequest& request : requests) {
    const auto* frame = std::get_if<TransmitFrame>(&request);
    const std::size_t bytes = frame != nullptr ? bytes_of_frame(*frame) : 0;
    std::pair entry(owner, std::move(request));
    const Pushed pushed = frame != nullptr ? impl_->outbox.push(std::move(entry), bytes)
                                           : impl_->outbox.push_always(std::move(entry));
    wake = wake || pushed == Pushed::kFirst;
  }
  if (wake) impl_->wake.set();
}

const std::string& ZmqTransport::endpoint() const { return impl_->endpoint; }

ZmqTransport::Counters ZmqTransport::counters() const {
  const std::lock_guard lock(impl_->counters_mutex);
  Counters counters = impl_->counters;
  counters.dropped_outbox_full = impl_->outbox.counters().dropped;
  return counters;
}

}  // namespace nanduti
