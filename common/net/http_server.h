#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/net/http_message.h"

namespace nanduti {

/// What a client can make the server hold and wait for, at most.
struct HttpLimits {
  std::size_t body_bytes_max = 512 * 1024;   ///< of a request, also in chunks; more is a 413
  std::size_t header_bytes_max = 16 * 1024;  ///< request line and headers; more is a 431
  std::size_t connections_max = 128;         ///< open at one time; more get a 503
  std::size_t event_streams_max = 64;        ///< among those; more get a 503
  std::chrono::milliseconds idle_timeout = std::chrono::seconds(60);  ///< between requests: closes
  /// From a request's first byte to its last: closes. This is what stops clients that send a byte a second.
  std::chrono::milliseconds request_timeout = std::chrono::seconds(20);
  std::chrono::milliseconds write_timeout =
      std::chrono::seconds(20);  ///< a client that does not read: closes
  std::chrono::milliseconds event_period = std::chrono::milliseconds(500);  ///< between pulls of a stream
  /// A comment is sent on a stream that has nothing new for so long.
  std::chrono::milliseconds event_keep_alive = std::chrono::seconds(10);
};

/// An HTTP/1.1 server on a thread of its own. One instance owns its port and its connections.
/// Bound to a loopback address it answers only to requests whose Host is an address or localhost, so that no
/// web page can reach it under a name of its own (DNS rebinding).
class HttpServer {
 public:
  /// Called on the server's thread, one request at a time; pulls of event streams too. It may block for a
  /// moment. What it throws becomes a 500.
  using Handler = std::function<HttpAnswer(const HttpRequest&)>;

  /// Listens on `host` (a name or an address) and `port` (0: any that is free).
  /// Errors: kUnavailable if the port is in use or the address is not this machine's, kIo otherwise.
  static Result<std::unique_ptr<HttpServer>> start(const std::string& host, std::uint16_t port,
                                                   Handler handler, const HttpLimits& limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  /// Closes everything, also open event streams, and joins the thread. Waits for a handler that is running.
  /// Not from a handler. A second call does nothing.
  void stop();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
  std::uint16_t port_;
};

}  // namespace nanduti
