// Goal: the HTTP server answers what is sound, survives what is not, and every limit of HttpLimits holds.
// Method: clients made of bare sockets on loopback, against a server on a free port. Limits are set small.
#include "common/net/http_server.h"

#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/random.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

/// A blocking client that sends and receives bytes.
class Client {
 public:
  explicit Client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // Catch2's macros are for one thread only.
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      throw std::runtime_error("cannot connect");
  }
  Client(Client&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  Client& operator=(Client&&) = delete;
  ~Client() {
    if (socket_ >= 0) ::close(socket_);
  }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  /// Reads until `received` ends, or holds `text` from `from` on. False if it never did (10 s).
  bool read_until(std::string_view text, std::size_t from = 0) {
    while (received.find(text, from) == std::string::npos)
      if (!read_some()) return false;
    return true;
  }
  /// Reads until the server closes. False if it did not (10 s).
  bool read_to_end() {
    while (read_some()) {
    }
    return closed;
  }
  std::size_t count(std::string_view text) const {
    std::size_t found = 0;
    for (std::size_t at = received.find(text); at != std::string::npos; at = received.find(text, at + 1))
      ++found;
    return found;
  }

  std::string received;
  bool closed = false;

 private:
  bool read_some() {
    pollfd ready{socket_, POLLIN, 0};
    if (::poll(&ready, 1, 10'000) <= 0) return false;
    char bytes[4096];
    const ssize_t count = ::recv(socket_, bytes, sizeof(bytes), 0);
    if (count > 0) received.append(bytes, static_cast<std::size_t>(count));
    if (count <= 0) closed = true;
    return count > 0;
  }
  int socket_;
};

HttpAnswer echo(const HttpRequest& request) {
  if (request.target == "/throw") throw std::runtime_error("as planned");
  if (request.target == "/empty") return HttpResponse{204, {}, {}, {{"Allow", "GET"}}};
  return HttpResponse{200,
                      "text/plain",
                      request.method + " " + request.target + " ?" + request.query + " " + request.body,
                      {}};
}

std::unique_ptr<HttpServer> serve(HttpServer::Handler handler = echo, const HttpLimits& limits = {}) {
  Result<std::unique_ptr<HttpServer>> server = HttpServer::start("127.0.0.1", 0, std::move(handler), limits);
  if (!server.ok()) FAIL(server.error().message);
  return std::move(server).value();
}

const std::string kHost = "Host: localhost\r\n";

/// The whole answer to one request on a connection of its own.
std::string answer_to(const HttpServer& server, const std::string& request) {
  Client client(server.port());
  client.send(request);
  REQUIRE(client.read_to_end());
  return client.received;
}

std::string status_of(const std::string& answer) { return answer.substr(0, answer.find("\r\n")); }

std::string body_of(const std::string& answer) { return answer.substr(answer.find("\r\n\r\n") + 4); }

std::string get(const std::string& target) {
  return "GET " + target + " HTTP/1.1\r\n" + kHost + "Connection: close\r\n\r\n";
}

}  // namespace

TEST_CASE("a request reaches the handler and its answer comes back") {
  const auto server = serve();
  const std::string answer = answer_to(*server, get("/v1/a%20b?x=1"));
  CHECK(status_of(answer) == "HTTP/1.1 200 OK");
  CHECK(body_of(answer) == "GET /v1/a b ?x=1 ");
  CHECK(answer.find("Content-Length: 17\r\n") != std::string::npos);
  CHECK(answer.find("Connection: close\r\n") != std::string::npos);
  CHECK(status_of(answer_to(*server, "GET / HTTP/1.0\r\n\r\n")) == "HTTP/1.1 200 OK");
}

TEST_CASE("headers arrive in lower case, repeated ones joined") {
  const auto server = serve([](const HttpRequest& request) {
    return HttpResponse{200, "text/plain", std::string(request.header("x-a")), {}};
  });
  CHECK(body_of(answer_to(*server, "GET / HTTP/1.0\r\nX-A: 1\r\nx-a: 2\r\n\r\n")) == "1, 2");
}

TEST_CASE("a body comes by its length, in chunks and after 100-continue") {
  const auto server = serve();
  const std::string head = "POST /p HTTP/1.1\r\n" + kHost + "Connection: close\r\n";
  CHECK(body_of(answer_to(*server, head + "Content-Length: 3\r\n\r\nabc")) == "POST /p ? abc");
  CHECK(body_of(answer_to(*server,
                          head + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n")) ==
        "POST /p ? abc");
  Client client(server->port());
  client.send(head + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  REQUIRE(client.read_until("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send("abc");
  REQUIRE(client.read_to_end());
  CHECK(client.received.ends_with("POST /p ? abc"));
  CHECK(status_of(answer_to(*server, head + "Expect: 200-maybe\r\nContent-Length: 3\r\n\r\n")) ==
        "HTTP/1.1 417 Expectation Failed");
}

TEST_CASE("a connection is kept, and pipelined requests are answered in order") {
  const auto server = serve();
  Client client(server->port());
  std::string requests;
  for (int i = 0; i < 50; ++i)
    requests += "POST /" + std::to_string(i) + " HTTP/1.1\r\n" + kHost + "Content-Length: 1\r\n\r\nx";
  client.send(requests + get("/last"));
  REQUIRE(client.read_to_end());
  CHECK(client.count("HTTP/1.1 200 OK") == 51);
  std::size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    at = client.received.find("POST /" + std::to_string(i) + " ", at);
    REQUIRE(at != std::string::npos);
  }
}

TEST_CASE("HEAD has the headers of GET and no body; 204 has neither body nor length") {
  const auto server = serve();
  const std::string head = answer_to(*server, "HEAD /x HTTP/1.1\r\n" + kHost + "Connection: close\r\n\r\n");
  CHECK(status_of(head) == "HTTP/1.1 200 OK");
  CHECK(head.find("Content-Length: 9\r\n") != std::string::npos);
  CHECK(body_of(head).empty());
  const std::string empty = answer_to(*server, get("/empty"));
  CHECK(status_of(empty) == "HTTP/1.1 204 No Content");
  CHECK(empty.find("Allow: GET\r\n") != std::string::npos);
  CHECK(empty.find("Content-Length") == std::string::npos);
  CHECK(body_of(answer_to(*server, "OPTIONS * HTTP/1.1\r\n" + kHost + "Connection: close\r\n\r\n")) ==
        "OPTIONS * ? ");
}

TEST_CASE("what the handler throws becomes a 500 and the server lives on") {
  const auto server = serve();
  CHECK(status_of(answer_to(*server, get("/throw"))) == "HTTP/1.1 500 Internal Server Error");
  CHECK(status_of(answer_to(*server, get("/"))) == "HTTP/1.1 200 OK");
}

TEST_CASE("what is not HTTP is told so and closed") {
  const auto server = serve();
  for (const std::string& request : {
           std::string("hello\r\n\r\n"),
           std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting\r\n\r\n"),
           std::string("GET / HTTP/9.9\r\n\r\n"),
           std::string("GET  / HTTP/1.1\r\n\r\n"),
           "GET / HTTP/1.1\r\n" + kHost + "no colon here\r\n\r\n",
           "GET / HTTP/1.1\r\n" + kHost + "bad name : x\r\n\r\n",
           "POST / HTTP/1.1\r\n" + kHost + "Content-Length: -1\r\n\r\n",
           "POST / HTTP/1.1\r\n" + kHost + "Content-Length: 99999999999999999999999\r\n\r\n",
           "POST / HTTP/1.1\r\n" + kHost + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
           "POST / HTTP/1.1\r\n" + kHost + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\n" + kHost + "Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
           "GET /%00 HTTP/1.1\r\n" + kHost + "Connection: close\r\n\r\n",
           "GET nowhere HTTP/1.1\r\n" + kHost + "Connection: close\r\n\r\n",
           std::string("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
       }) {
    INFO(request);
    CHECK(status_of(answer_to(*server, request)) == "HTTP/1.1 400 Bad Request");
  }
  CHECK(status_of(answer_to(*server, get("/"))) == "HTTP/1.1 200 OK");
}

TEST_CASE("flipped and cut bytes never hurt the server") {
  HttpLimits limits;
  limits.request_timeout = 50ms;  // a request that seems incomplete ends soon
  const auto server = serve(echo, limits);
  const std::string sound = "POST /v1/jobs?a HTTP/1.1\r\n" + kHost +
                            "Transfer-Encoding: chunked\r\nX-A: b\r\n\r\n2\r\nab\r\n0\r\n\r\n";
  RandomStream random(7);
  for (int i = 0; i < 200; ++i) {
    std::string hostile = sound + sound;
    for (std::uint64_t flips = 1 + random.below(4); flips > 0; --flips)
      hostile[random.below(hostile.size())] = static_cast<char>(random.below(256));
    hostile.resize(random.below(hostile.size() + 1));
    Client client(server->port());
    client.send(hostile);
    if (i % 8 == 0) {
      // It closes by itself: unsound, timed out, or idle after two sound ones.
      client.send(get("/end") + "\r\n\r\n");
      CHECK(client.read_to_end());
    }
  }
  CHECK(status_of(answer_to(*server, get("/"))) == "HTTP/1.1 200 OK");
}

TEST_CASE("bound to loopback, a Host that is a foreign name is refused") {
  const auto server = serve();
  const auto with_host = [&](const std::string& host) {
    return status_of(answer_to(*server, "GET / HTTP/1.1\r\nConnection: close\r\nHost: " + host + "\r\n\r\n"));
  };
  CHECK(with_host("evil.example:7080") == "HTTP/1.1 403 Forbidden");
  CHECK(with_host("") == "HTTP/1.1 403 Forbidden");
  CHECK(with_host("127.0.0.1:7080") == "HTTP/1.1 200 OK");
  CHECK(with_host("[::1]:7080") == "HTTP/1.1 200 OK");
  const auto open = HttpServer::start("0.0.0.0", 0, echo);
  REQUIRE(open.ok());
  CHECK(status_of(answer_to(**open, "GET / HTTP/1.1\r\nConnection: close\r\nHost: nyc.example\r\n\r\n")) ==
        "HTTP/1.1 200 OK");
}

TEST_CASE("a body beyond the limit is a 413, announced, in chunks, and with more on its way") {
  HttpLimits limits;
  limits.body_bytes_max = 1000;
  const auto server = serve(echo, limits);
  const std::string head = "POST / HTTP/1.1\r\n" + kHost + "Connection: close\r\n";
  const std::string too_large = "HTTP/1.1 413 Payload Too Large";
  CHECK(status_of(answer_to(*server, head + "Content-Length: 1000\r\n\r\n" + std::string(1000, 'x'))) ==
        "HTTP/1.1 200 OK");
  CHECK(status_of(answer_to(*server, head + "Content-Length: 1001\r\n\r\n")) == too_large);
  CHECK(status_of(answer_to(*server, head + "Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")) ==
        too_large);
  CHECK(status_of(answer_to(*server, head + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" +
                                         std::string(1001, 'x') + "\r\n0\r\n\r\n")) == too_large);
  CHECK(status_of(answer_to(*server, head + "Content-Length: 300000\r\n\r\n" + std::string(300'000, 'x'))) ==
        too_large);
}

TEST_CASE("a header beyond the limit is a 431") {
  HttpLimits limits;
  limits.header_bytes_max = 1000;
  const auto server = serve(echo, limits);
  const auto with_header = [&](std::size_t size) {
    return status_of(answer_to(*server, "GET / HTTP/1.1\r\nConnection: close\r\n" + kHost +
                                            "X-A: " + std::string(size, 'x') + "\r\n\r\n"));
  };
  CHECK(with_header(800) == "HTTP/1.1 200 OK");
  CHECK(with_header(1000) == "HTTP/1.1 431 Request Header Fields Too Large");
  CHECK(with_header(200'000) == "HTTP/1.1 431 Request Header Fields Too Large");
  CHECK(status_of(answer_to(*server, "GET /" + std::string(5000, 'x') + " HTTP/1.1\r\n" + kHost + "\r\n")) ==
        "HTTP/1.1 431 Request Header Fields Too Large");
}

TEST_CASE("connections beyond the limit get a 503 and room comes back") {
  HttpLimits limits;
  limits.connections_max = 4;
  const auto server = serve(echo, limits);
  {
    std::vector<Client> open;
    for (int i = 0; i < 4; ++i) {
      open.emplace_back(server->port());
      open.back().send("GET / HTTP/1.1\r\n" + kHost + "\r\n");
      REQUIRE(open.back().read_until("GET / ? "));
    }
    CHECK(status_of(answer_to(*server, get("/"))) == "HTTP/1.1 503 Service Unavailable");
    // Far beyond it nobody is told, but everybody is closed.
    std::vector<Client> crowd;
    for (int i = 0; i < 100; ++i) crowd.emplace_back(server->port());
    CHECK(crowd.back().read_to_end());
    CHECK(crowd.back().received.empty());
    open[0].send("GET /again HTTP/1.1\r\n" + kHost + "\r\n");
    CHECK(open[0].read_until("/again"));
  }
  std::string answer;
  for (int i = 0; i < 1000 && status_of(answer) != "HTTP/1.1 200 OK"; ++i)
    answer = answer_to(*server, get("/"));
  CHECK(status_of(answer) == "HTTP/1.1 200 OK");
}

TEST_CASE("many clients at once are all answered") {
  const auto server = serve();
  std::vector<std::thread> threads;
  std::atomic<int> answered{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        Client client(server->port());
        client.send(get("/"));
        if (client.read_to_end() && status_of(client.received) == "HTTP/1.1 200 OK") ++answered;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(answered == 200);
}

TEST_CASE("a client that is idle, sends a byte at a time or does not finish is cut off") {
  HttpLimits limits;
  limits.idle_timeout = 100ms;
  limits.request_timeout = 200ms;
  const auto server = serve(echo, limits);
  Client idle(server->port());
  CHECK(idle.read_to_end());
  CHECK(idle.received.empty());

  Client after_one(server->port());
  after_one.send("GET / HTTP/1.1\r\n" + kHost + "\r\n");
  CHECK(after_one.read_to_end());
  CHECK(after_one.count("HTTP/1.1 200 OK") == 1);

  Client slow(server->port());
  bool sent = true;
  for (int i = 0; i < 500 && sent; ++i) {  // each byte comes well within any time-out
    sent = slow.send(i == 0 ? "GET /" : "x");
    std::this_thread::sleep_for(10ms);
  }
  CHECK_FALSE(sent);

  Client cut(server->port());
  cut.send("POST / HTTP/1.1\r\n" + kHost + "Content-Length: 10\r\n\r\nabc");
  CHECK(cut.read_to_end());
  CHECK(cut.received.empty());
}

TEST_CASE("an event stream sends what is new, keeps quiet clients alive and ends") {
  HttpLimits limits;
  limits.event_period = 5ms;
  limits.event_keep_alive = 60ms;
  std::atomic<int> phase{0};
  const auto server = serve(
      [&](const HttpRequest&) {
        return HttpEventStream{[&]() -> std::optional<std::string> {
          if (phase == 2) return std::nullopt;
          return phase == 0 ? "one" : "two\nlines";
        }};
      },
      limits);
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\n" + kHost + "\r\n");
  REQUIRE(client.read_until(": nothing new\n\n"));
  CHECK(status_of(client.received) == "HTTP/1.1 200 OK");
  CHECK(client.received.find("Content-Type: text/event-stream\r\n") != std::string::npos);
  CHECK(client.count("data: one\n\n") == 1);  // a dozen pulls, one event
  phase = 1;
  REQUIRE(client.read_until("data: two\ndata: lines\n\n"));
  phase = 2;
  CHECK(client.read_to_end());
}

TEST_CASE("event streams have a limit of their own, and a client that leaves makes room at once") {
  HttpLimits limits;
  limits.event_streams_max = 2;
  limits.event_period = 1h;  // so that only watching the connection can notice
  std::atomic<int> pulls{0};
  const auto server = serve(
      [&](const HttpRequest& request) -> HttpAnswer {
        if (request.target == "/plain") return HttpResponse{200, "text/plain", "plain", {}};
        return HttpEventStream{[&]() -> std::optional<std::string> { return std::to_string(++pulls); }};
      },
      limits);
  auto first = std::make_unique<Client>(server->port());
  Client second(server->port());
  for (Client* client : {first.get(), &second}) {
    client->send("GET / HTTP/1.1\r\n" + kHost + "\r\n");
    REQUIRE(client->read_until("data: "));
  }
  CHECK(status_of(answer_to(*server, get("/"))) == "HTTP/1.1 503 Service Unavailable");
  CHECK(body_of(answer_to(*server, get("/plain"))) == "plain");
  first.reset();
  bool room = false;
  for (int i = 0; i < 1000 && !room; ++i) {
    Client client(server->port());
    client.send("GET / HTTP/1.1\r\n" + kHost + "\r\n");
    REQUIRE(client.read_until("\r\n\r\n"));
    room = status_of(client.received) == "HTTP/1.1 200 OK";
  }
  CHECK(room);
}

TEST_CASE("a follower that does not read is cut off") {
  HttpLimits limits;
  limits.event_period = 1ms;
  limits.write_timeout = 100ms;
  std::atomic<int> pulls{0};
  std::atomic<bool> gone{false};
  std::shared_ptr<void> guard(&gone, [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; });
  const auto server = serve(
      [&](const HttpRequest&) {
        return HttpEventStream{
            [&pulls, held = std::exchange(guard, nullptr)]() -> std::optional<std::string> {
              return std::to_string(++pulls) + std::string(1 << 20, 'x');
            }};
      },
      limits);
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\n" + kHost + "\r\n");
  for (int i = 0; i < 1000 && !gone; ++i) std::this_thread::sleep_for(10ms);
  CHECK(gone);
}

TEST_CASE("stop returns soon with open streams, idle connections and half a request") {
  auto server = serve([](const HttpRequest&) {
    return HttpEventStream{[]() -> std::optional<std::string> { return "again"; }};
  });
  std::vector<Client> clients;
  for (int i = 0; i < 12; ++i) {
    clients.emplace_back(server->port());
    if (i % 3 == 0) clients.back().send("GET / HTTP/1.1\r\n" + kHost + "\r\n");
    if (i % 3 == 0) REQUIRE(clients.back().read_until("data: again\n\n"));
    if (i % 3 == 1) clients.back().send("GET / HT");
  }
  const auto before = std::chrono::steady_clock::now();
  server->stop();
  CHECK(std::chrono::steady_clock::now() - before < 5s);
  for (Client& client : clients) CHECK(client.read_to_end());
  server->stop();  // once more does nothing
  const auto again = HttpServer::start("127.0.0.1", server->port(), echo);
  CHECK(again.ok());  // the port is free at once
}

TEST_CASE("a port in use and an address of another machine are said plainly") {
  const auto server = serve();
  const auto second = HttpServer::start("127.0.0.1", server->port(), echo);
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().code == ErrorCode::kUnavailable);
  CHECK(second.error().message ==
        "127.0.0.1:" + std::to_string(server->port()) + " is in use by another program");
  const auto elsewhere = HttpServer::start("192.0.2.1", 0, echo);
  REQUIRE_FALSE(elsewhere.ok());
  CHECK(elsewhere.error().message == "192.0.2.1 is not an address of this machine");
  const auto nowhere = HttpServer::start("no.such.host.invalid", 0, echo);
  REQUIRE_FALSE(nowhere.ok());
  CHECK(nowhere.error().message.starts_with("cannot find the host 'no.such.host.invalid'"));
}

TEST_CASE("a server with idle connections and streams uses no processor") {
  const auto server = serve([](const HttpRequest&) {
    return HttpEventStream{[]() -> std::optional<std::string> { return "same"; }};
  });
  std::vector<Client> clients;
  for (int i = 0; i < 20; ++i) {
    clients.emplace_back(server->port());
    if (i % 2 == 0) clients.back().send("GET / HTTP/1.1\r\n" + kHost + "\r\n");
    if (i % 2 == 0) REQUIRE(clients.back().read_until("data: same"));
  }
  const std::clock_t before = std::clock();  // processor time of this process
  std::this_thread::sleep_for(1500ms);
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  CHECK(used < 0.3);  // one that spins takes all of it
}
