#include "common/net/zmq_transport.h"

#include <array>
#include <cerrno>
#include <map>
#include <mutex>
#include <thread>

#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.hpp>

#include "common/base/log.h"

namespace nanduti {

namespace {

constexpr int kLingerMs = 1000;
constexpr int kReconnectMs = 100;
constexpr int kReconnectMsMax = 2000;
constexpr int kConnectTimeoutMs = 5000;
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

SharedBytes bytes_of(zmq::message_t message) {
  auto owner = std::make_shared<zmq::message_t>(std::move(message));
  const std::span<const std::byte> view(static_cast<const std::byte*>(owner->data()), owner->size());
  return {std::move(owner), view};
}

/// Small parts are copied into the message, large ones are lent to ZeroMQ until it has sent them.
zmq::message_t message_of(const SharedBytes& bytes) {
  constexpr std::size_t kCopyBytesMax = 1024;
  if (bytes.size() <= kCopyBytesMax) return zmq::message_t(bytes.data(), bytes.size());
  auto* lent = new SharedBytes(bytes);
  return zmq::message_t(
      const_cast<std::byte*>(bytes.data()), bytes.size(),
      [](void*, void* hint) { delete static_cast<SharedBytes*>(hint); }, lent);
}

void set_common_options(zmq::socket_t& socket, const TransportOptions& options) {
  socket.set(zmq::sockopt::linger, kLingerMs);
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kTransportPartBytesMax));
  socket.set(zmq::sockopt::sndhwm, options.queue_frames_max);
  socket.set(zmq::sockopt::rcvhwm, options.queue_frames_max);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  // A connection that never completes its greeting is closed.
  socket.set(zmq::sockopt::handshake_ivl, kConnectTimeoutMs);
}

}  // namespace

struct ZmqTransport::Impl {
  explicit Impl(const TransportOptions& transport_options) : options(transport_options) {}

  TransportOptions options;
  zmq::context_t context{1};
  Wake wake;
  std::string endpoint;

  std::mutex outbox_mutex;  // the next two
  std::vector<std::pair<std::uint32_t, TransportRequest>> outbox;
  bool stopping = false;
  std::mutex receivers_mutex;
  std::map<std::uint32_t, Receiver> receivers;
  mutable std::mutex counters_mutex;
  Counters counters;

  // The transport's thread only, once it runs.
  struct Dialled {
    std::uint32_t owner;
    RouteId route;
    zmq::socket_t socket;
  };
  std::optional<zmq::socket_t> router;
  std::map<std::pair<std::uint32_t, RouteId>, Dialled> dialled;
  std::vector<zmq::pollitem_t> items;
  std::vector<Dialled*> polled;  // items[2 + i], or items[1 + i] without a router
  bool items_stale = true;
  Counters counted;  // copied to `counters` after each turn

  std::thread thread;

  Status bind() {
    if (!options.listen) return {};
    try {
      router.emplace(context, zmq::socket_type::router);
      set_common_options(*router, options);
      router->set(zmq::sockopt::ipv6, options.listen->find('[') != std::string::npos);
      // A frame to a connection that is gone is an error to count, not silence.
      router->set(zmq::sockopt::router_mandatory, true);
      router->bind(*options.listen);
      endpoint = router->get(zmq::sockopt::last_endpoint);
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
        zmq::poll(items, std::chrono::milliseconds(-1));
      } catch (const zmq::error_t& error) {
        if (error.num() == EINTR) continue;
        NANDUTI_CHECK(false, "zmq_poll: {}", error.what());
      }
      if (items[0].revents != 0) {
        wake.clear();
        if (!carry_out_requests()) return;
      }
      if (items_stale) continue;  // what is readable stays so
      std::size_t next = 1;
      if (router && items[next++].revents != 0) receive(*router, nullptr);
      for (std::size_t i = 0; i < polled.size(); ++i)
        if (items[next + i].revents != 0) receive(polled[i]->socket, polled[i]);
      publish_counters();
    }
  }

  void make_items() {
    items.clear();
    polled.clear();
    items.push_back({nullptr, wake.fd(), ZMQ_POLLIN, 0});
    if (router) items.push_back({router->handle(), 0, ZMQ_POLLIN, 0});
    for (auto& [key, connection] : dialled) {
      items.push_back({connection.socket.handle(), 0, ZMQ_POLLIN, 0});
      polled.push_back(&connection);
    }
    items_stale = false;
  }

  /// False when it is time to stop.
  bool carry_out_requests() {
    std::vector<std::pair<std::uint32_t, TransportRequest>> requests;
    bool stop = false;
    {
      const std::lock_guard lock(outbox_mutex);
      requests.swap(outbox);
      stop = stopping;
    }
    for (auto& [owner, request] : requests) {
      if (auto* dial = std::get_if<DialRoute>(&request)) {
        dial_route(owner, *dial);
      } else if (auto* hang_up = std::get_if<HangUpRoute>(&request)) {
        if (dialled.erase({owner, hang_up->route}) > 0) items_stale = true;
      } else {
        transmit(owner, std::get<TransmitFrame>(request));
      }
    }
    publish_counters();
    return !stop;
  }

  void dial_route(std::uint32_t owner, const DialRoute& request) {
    log_debug("dialling {} for {}", request.endpoint, request.bulk ? "bulk" : "control");
    try {
      zmq::socket_t socket(context, zmq::socket_type::dealer);
      set_common_options(socket, options);
      socket.set(zmq::sockopt::reconnect_ivl, kReconnectMs);
      socket.set(zmq::sockopt::reconnect_ivl_max, kReconnectMsMax);
      socket.set(zmq::sockopt::connect_timeout, kConnectTimeoutMs);
      socket.set(zmq::sockopt::ipv6, true);  // also where a name has both kinds of address
      socket.connect(request.endpoint);
      dialled.insert_or_assign({owner, request.route}, Dialled{owner, request.route, std::move(socket)});
      items_stale = true;
    } catch (const zmq::error_t& error) {
      log_error("cannot connect to {}: {}", request.endpoint, error.what());
    }
  }

  void transmit(std::uint32_t owner, const TransmitFrame& request) {
    zmq::socket_t* socket = nullptr;
    if (request.route.value() >= kFirstDialledRoute) {
      const auto connection = dialled.find({owner, request.route});
      if (connection != dialled.end()) socket = &connection->second.socket;
    } else if (router) {
      socket = &*router;
    }
    if (socket == nullptr) {
      ++counted.dropped_no_route;
      return;
    }
    const EncodedFrame encoded = encode_frame(request.frame);
    try {
      bool sent = true;
      if (request.route.value() < kFirstDialledRoute) {
        const auto identity = static_cast<std::uint32_t>(request.route.value());
        std::array<unsigned char, 5> name{
            0, static_cast<unsigned char>(identity >> 24), static_cast<unsigned char>(identity >> 16),
            static_cast<unsigned char>(identity >> 8), static_cast<unsigned char>(identity)};
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
      ++counted.frames_out;
      counted.bytes_out += encoded.header.size() + encoded.chunk.size();
    } catch (const zmq::error_t&) {  // EHOSTUNREACH: that connection has ended
      ++counted.dropped_no_route;
    }
  }

  void receive(zmq::socket_t& socket, const Dialled* from) {
    for (int i = 0; i < kFramesPerTurn; ++i) {
      std::array<zmq::message_t, 3> parts;
      std::size_t count = 0;
      bool more = true;
      bool too_many = false;
      while (more) {
        zmq::message_t part;
        if (!socket.recv(part, zmq::recv_flags::dontwait)) return;  // parts arrive all or none
        more = part.more();
        if (count < parts.size())
          parts[count++] = std::move(part);
        else
          too_many = true;
      }
      std::size_t first = 0;
      std::uint32_t owner = 0;
      RouteId route;
      bool good = !too_many;
      if (from == nullptr) {
        // A ROUTER's own names for its peers are a zero byte and a number; others were chosen by the peer.
        const auto* name = static_cast<const unsigned char*>(parts[0].data());
        good = good && parts[0].size() == 5 && name[0] == 0;
        if (good)
          route = RouteId(std::uint64_t{name[1]} << 24 | std::uint64_t{name[2]} << 16 |
                          std::uint64_t{name[3]} << 8 | std::uint64_t{name[4]});
        first = 1;
      } else {
        route = from->route;
        owner = from->owner;
      }
      good = good && (count == first + 1 || count == first + 2);
      if (!good) {
        ++counted.dropped_malformed;
        continue;
      }
      EncodedFrame encoded;
      encoded.header = bytes_of(std::move(parts[first]));
      if (count == first + 2) encoded.chunk = bytes_of(std::move(parts[first + 1]));
      Result<Frame> frame = decode_frame(encoded);
      if (!frame.ok()) {
        ++counted.dropped_malformed;
        continue;
      }
      ++counted.frames_in;
      counted.bytes_in += encoded.header.size() + encoded.chunk.size();
      if (from == nullptr) owner = frame->destination;
      const std::lock_guard lock(receivers_mutex);
      const auto receiver = receivers.find(owner);
      if (receiver == receivers.end())
        ++counted.dropped_no_receiver;
      else
        receiver->second(route, std::move(*frame));
    }
  }

  void publish_counters() {
    const std::lock_guard lock(counters_mutex);
    counters = counted;
  }
};

ZmqTransport::ZmqTransport(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([this] { impl_->run(); });
}

Result<std::unique_ptr<ZmqTransport>> ZmqTransport::start(const TransportOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  NANDUTI_RETURN_IF_ERROR(impl->bind());
  return std::unique_ptr<ZmqTransport>(new ZmqTransport(std::move(impl)));
}

ZmqTransport::~ZmqTransport() {
  {
    const std::lock_guard lock(impl_->outbox_mutex);
    impl_->stopping = true;
  }
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
  if (requests.empty()) return;
  bool was_empty = false;
  {
    const std::lock_guard lock(impl_->outbox_mutex);
    was_empty = impl_->outbox.empty();
    for (TransportRequest& request : requests) impl_->outbox.emplace_back(owner, std::move(request));
  }
  if (was_empty) impl_->wake.set();
}

const std::string& ZmqTransport::endpoint() const { return impl_->endpoint; }

ZmqTransport::Counters ZmqTransport::counters() const {
  const std::lock_guard lock(impl_->counters_mutex);
  return impl_->counters;
}

std::string ZmqTransport::summary() const {
  const Counters c = counters();
  return fmt::format(
      "transport: {} frames ({} bytes) in, {} ({}) out; dropped: {} malformed, {} for nobody here, {} at "
      "full "
      "queues, {} to connections that had ended",
      c.frames_in, c.bytes_in, c.frames_out, c.bytes_out, c.dropped_malformed, c.dropped_no_receiver,
      c.dropped_queue_full, c.dropped_no_route);
}

}  // namespace nanduti
