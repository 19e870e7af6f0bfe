#include "common/net/http_server.h"

#include <array>
#include <exception>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "common/base/log.h"

namespace nanduti {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using Code = boost::system::error_code;

/// Connections beyond connections_max that are told so; those beyond these are closed without a word.
constexpr std::size_t kRefusalsMax = 32;
/// What a client may still send after its last answer, before the connection is cut.
constexpr std::size_t kDiscardBytesMax = 4 * 1024 * 1024;
constexpr std::chrono::seconds kDiscardTimeout{2};
constexpr std::chrono::milliseconds kAcceptRetry{100};

/// `text` needs no escapes in JSON.
HttpResponse failure(unsigned status, std::string_view text) {
  return {status, "application/json", fmt::format("{{\"error\":\"{}\"}}\n", text), {}};
}

std::string place(const std::string& host, std::uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

/// What connections share. Touched by the server's thread only.
struct Shared {
  HttpServer::Handler handler;
  HttpLimits limits;
  bool loopback = true;
  std::size_t connections = 0;
  std::size_t event_streams = 0;
};

/// One client. Lives as long as an operation of its own is pending.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Shared& shared)
      : shared_(shared),
        stream_(std::move(socket)),
        timer_(stream_.get_executor()),
        buffer_(shared.limits.header_bytes_max + 64 * 1024) {
    ++shared_.connections;
  }
  ~Connection() {
    --shared_.connections;
    if (streaming_) --shared_.event_streams;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start() { wait_for_request(); }

  void refuse() {
    keep_alive_ = false;
    respond(failure(503, "too many connections"));
  }

 private:
  using Parser = http::request_parser<http::string_body>;

  void wait_for_request() {
    if (buffer_.size() > 0) return read_header();  // pipelined
    stream_.expires_after(shared_.limits.idle_timeout);
    stream_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](Code code, std::size_t count) {
      if (code) return self->close();
      self->buffer_.commit(count);
      self->read_header();
    });
  }

  void read_header() {
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(shared_.limits.header_bytes_max));
    parser_->body_limit(shared_.limits.body_bytes_max);
    head_ = false;
    keep_alive_ = true;
    stream_.expires_after(shared_.limits.request_timeout);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](Code code, std::size_t) { self->on_header(code); });
  }

  void on_header(Code code) {
    if (code) return on_read_error(code);
    const std::string expect = lower_case(std::string_view(parser_->get()[http::field::expect]));
    if (expect.empty() || parser_->is_done()) return read_body();
    if (expect != "100-continue") {
      keep_alive_ = false;
      return respond(failure(417, "unknown expectation"));
    }
    output_ = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(stream_, asio::buffer(output_),
                      [self = shared_from_this()](Code write_code, std::size_t) {
                        if (write_code) return self->close();
                        self->read_body();
                      });
  }

  void read_body() {
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](Code code, std::size_t) {
      if (code) return self->on_read_error(code);
      self->handle();
    });
  }

  void on_read_error(Code code) {
    keep_alive_ = false;
    if (code == http::error::end_of_stream || code == http::error::partial_message) return close();
    if (code == http::error::body_limit)
      return respond(
          failure(413, fmt::format("a request's body has at most {} bytes", shared_.limits.body_bytes_max)));
    if (code == http::error::header_limit || code == http::error::buffer_overflow)
      return respond(failure(
          431, fmt::format("a request's header has at most {} bytes", shared_.limits.header_bytes_max)));
    if (code.category() == make_error_code(http::error::end_of_stream).category())
      return respond(failure(400, "not an HTTP request: " + code.message()));
    close();  // timed out, reset
  }

  void handle() {
    auto message = parser_->release();
    keep_alive_ = message.keep_alive();
    HttpRequest request;
    request.method = std::string(std::string_view(message.method_string()));
    head_ = request.method == "HEAD";
    if (head_) request.method = "GET";
    for (const auto& field : message) {
      const std::string name = lower_case(std::string_view(field.name_string()));
      const std::string value{std::string_view(field.value())};
      const auto [it, is_new] = request.headers.emplace(name, value);
      if (!is_new) it->second += ", " + value;
    }
    request.body = std::move(message.body());
    Result<HttpTarget> target = parse_http_target(std::string_view(message.target()));
    if (!target.ok()) return respond(failure(400, target.error().message));
    request.target = std::move(target->path);
    request.query = std::move(target->query);
    if (message.version() >= 11 && request.headers.count("host") == 0)
      return respond(failure(400, "the Host header is missing"));
    const std::string host = host_without_port(request.header("host"));
    if (shared_.loopback && request.headers.count("host") > 0 && !is_address_or_localhost(host))
      return respond(failure(403, "the Host header has to be an address or localhost here"));
    try {
      HttpAnswer answer = shared_.handler(request);
      if (auto* response = std::get_if<HttpResponse>(&answer)) return respond(*response);
      begin_events(std::move(std::get<HttpEventStream>(answer)));
    } catch (const std::exception& thrown) {
      log_error("{} {}: {}", request.method, request.target, thrown.what());
      respond(failure(500, "the server has failed to answer"));
    }
  }

  void respond(const HttpResponse& response) {
    output_ = fmt::format("HTTP/1.1 {} {}\r\n", response.status, http_reason(response.status));
    for (const auto& [name, value] : response.headers) output_ += fmt::format("{}: {}\r\n", name, value);
    if (response.status != 204)
      output_ += fmt::format("Content-Type: {}\r\nContent-Length: {}\r\n", response.content_type,
                             response.body.size());
    output_ += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";
    output_ += keep_alive_ ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
    if (!head_ && response.status != 204) output_ += response.body;
    stream_.expires_after(shared_.limits.write_timeout);
    asio::async_write(stream_, asio::buffer(output_), [self = shared_from_this()](Code code, std::size_t) {
      if (code) return self->close();
      self->keep_alive_ ? self->wait_for_request() : self->finish();
    });
  }

  /// Ends the connection such that the last answer arrives: closing with input unread would reset it.
  void finish() {
    Code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(kDiscardTimeout);
    discard(0);
  }
  void discard(std::size_t discarded) {
    stream_.async_read_some(asio::buffer(scratch_),
                            [self = shared_from_this(), discarded](Code code, std::size_t count) {
                              if (code || discarded > kDiscardBytesMax) return self->close();
                              self->discard(discarded + count);
                            });
  }

  // ---- server-sent events ----

  void begin_events(HttpEventStream events) {
    keep_alive_ = false;
    if (shared_.event_streams >= shared_.limits.event_streams_max)
      return respond(failure(503, "too many event streams"));
    if (head_) return respond({200, "text/event-stream", {}, {}});
    streaming_ = true;
    ++shared_.event_streams;
    events_ = std::move(events);
    stream_.expires_never();
    watch(0);
    output_ =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";
    pull();
  }

  /// Sees a client that goes away, and one that keeps talking.
  void watch(std::size_t discarded) {
    stream_.async_read_some(asio::buffer(scratch_),
                            [self = shared_from_this(), discarded](Code code, std::size_t count) {
                              if (code || discarded > kDiscardBytesMax) return self->close();
                              self->watch(discarded + count);
                            });
  }

  /// Appends the next event to output_ and sends what is there.
  void pull() {
    std::optional<std::string> data;
    try {
      data = events_.next();
    } catch (const std::exception& thrown) {
      log_error("event stream: {}", thrown.what());
    }
    if (data && data != last_data_) {
      append_event(*data);
      last_data_ = data;
    } else if (data && std::chrono::steady_clock::now() - last_sent_ >= shared_.limits.event_keep_alive &&
               output_.empty()) {
      output_ = ": nothing new\n\n";
    }
    const bool ends = !data;
    if (output_.empty()) return ends ? close() : pull_later();
    last_sent_ = std::chrono::steady_clock::now();
    stream_.expires_after(shared_.limits.write_timeout);
    asio::async_write(stream_, asio::buffer(output_),
                      [self = shared_from_this(), ends](Code code, std::size_t) {
                        self->output_.clear();
                        code || ends ? self->close() : self->pull_later();
                      });
  }

  void append_event(std::string_view data) {
    while (true) {
      const std::size_t end = data.find('\n');
      output_ += "data: ";
      output_ += data.substr(0, end);
      output_ += '\n';
      if (end == std::string_view::npos) break;
      data.remove_prefix(end + 1);
    }
    output_ += '\n';
  }

  void pull_later() {
    if (closed_) return;
    timer_.expires_after(shared_.limits.event_period);
    timer_.async_wait([self = shared_from_this()](Code code) {
      if (!code && !self->closed_) self->pull();
    });
  }

  void close() {
    closed_ = true;
    timer_.cancel();
    stream_.close();
  }

  Shared& shared_;
  beast::tcp_stream stream_;
  asio::steady_timer timer_;
  beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  std::string output_;
  std::array<char, 4096> scratch_;
  HttpEventStream events_;
  std::optional<std::string> last_data_;
  std::chrono::steady_clock::time_point last_sent_;
  bool head_ = false;
  bool keep_alive_ = true;
  bool streaming_ = false;
  bool closed_ = false;
};

}  // namespace

struct HttpServer::Impl {
  Impl(Handler handler, const HttpLimits& limits) : acceptor(context), accept_retry(context) {
    shared.handler = std::move(handler);
    shared.limits = limits;
  }

  Status listen(const std::string& host, std::uint16_t wanted) {
    Code code;
    tcp::resolver resolver(context);
    const auto found = resolver.resolve(host, std::to_string(wanted),
                                        tcp::resolver::passive | tcp::resolver::numeric_service, code);
    if (code)
      return make_error(ErrorCode::kUnavailable, "cannot find the host '{}': {}", host, code.message());
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor.open(endpoint.protocol(), code);
    if (!code) acceptor.set_option(tcp::acceptor::reuse_address(true), code);
    if (!code) acceptor.bind(endpoint, code);
    if (!code) acceptor.listen(asio::socket_base::max_listen_connections, code);
    if (code == asio::error::address_in_use)
      return make_error(ErrorCode::kUnavailable, "{} is in use by another program", place(host, wanted));
    if (code == boost::system::errc::address_not_available)
      return make_error(ErrorCode::kUnavailable, "{} is not an address of this machine", host);
    if (code)
      return make_error(ErrorCode::kIo, "cannot listen on {}: {}", place(host, wanted), code.message());
    port = acceptor.local_endpoint().port();
    shared.loopback = endpoint.address().is_loopback();
    return {};
  }

  void accept() {
    acceptor.async_accept([this](Code code, tcp::socket socket) {
      if (code == asio::error::operation_aborted) return;
      if (code) {  // out of file descriptors, for one: they do not come back at once
        accept_retry.expires_after(kAcceptRetry);
        accept_retry.async_wait([this](Code timer_code) {
          if (!timer_code) accept();
        });
        return;
      }
      serve(std::move(socket));
      accept();
    });
  }

  void serve(tcp::socket socket) {
    if (shared.connections >= shared.limits.connections_max + kRefusalsMax) return;
    const bool refused = shared.connections >= shared.limits.connections_max;
    Code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    const auto connection = std::make_shared<Connection>(std::move(socket), shared);
    refused ? connection->refuse() : connection->start();
  }

  Shared shared;  // outlives the connections, which go with the context
  asio::io_context context{1};
  tcp::acceptor acceptor;
  asio::steady_timer accept_retry;
  std::uint16_t port = 0;
  std::thread thread;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)), port_(impl_->port) {}

HttpServer::~HttpServer() { stop(); }

Result<std::unique_ptr<HttpServer>> HttpServer::start(const std::string& host, std::uint16_t port,
                                                      Handler handler, const HttpLimits& limits) {
  auto impl = std::make_unique<Impl>(std::move(handler), limits);
  NANDUTI_RETURN_IF_ERROR(impl->listen(host, port));
  impl->accept();
  impl->thread = std::thread([context = &impl->context] { context->run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

void HttpServer::stop() {
  if (!impl_) return;
  impl_->context.stop();
  impl_->thread.join();
  impl_.reset();  // and with it the port and all connections
}

}  // namespace nanduti
