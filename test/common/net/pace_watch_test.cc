// Goal: a connection that its congestion control starves begins anew, once, and no other does. Method: paces
// made up by hand; and a real connection over loopback, whose bbr is asked what it believes.
#include "common/net/pace_watch.h"

#include <algorithm>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/congestion_control.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

using std::chrono::milliseconds;

SendPace pace(double kilobytes_per_second, std::size_t unsent_bytes, double delivered_kilobytes = 0) {
  return {kilobytes_per_second * 1e3, delivered_kilobytes * 1e3, unsent_bytes, milliseconds(200)};
}

TEST_CASE("a connection is starved at a quarter of its best rate, if more waits than a round trip carries") {
  PaceCheck check;
  CHECK(check.is_starved(pace(10, 50'000, 400)));
  PaceCheck other;
  CHECK(!other.is_starved(pace(800, 500'000, 400)));
  CHECK(!other.is_starved(pace(101, 500'000)));  // a path that is only slower
  CHECK(!other.is_starved(pace(100, 0)));
  CHECK(!other.is_starved(pace(100, 20'000)));  // gone in a round trip
  CHECK(other.is_starved(pace(100, 20'001)));
}

TEST_CASE("a path that has become slower restarts its connection once; one that proves fast does so again") {
  PaceCheck check;
  CHECK(!check.is_starved(pace(400, 0, 400)));
  CHECK(check.is_starved(pace(10, 50'000, 10)));
  for (int look = 0; look < 100; ++look) CHECK(!check.is_starved(pace(10, 50'000, 10)));
  CHECK(!check.is_starved(pace(300, 50'000, 200)));
  CHECK(check.is_starved(pace(10, 50'000, 10)));
}

TEST_CASE("a short round trip does not make a queue of some milliseconds a long one") {
  PaceCheck check;
  SendPace near = pace(100, 4'999, 1'000);
  near.round_trip = milliseconds(1);
  CHECK(!check.is_starved(near));
  near.unsent_bytes = 5'001;
  CHECK(check.is_starved(near));
}

/// Two ends of a connection over loopback.
struct Loopback {
  explicit Loopback(const std::string& congestion_control) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(listener, 1) == 0);
    REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    from = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    can = set_congestion_control(from, congestion_control);
    REQUIRE(::connect(from, reinterpret_cast<sockaddr*>(&address), size) == 0);
    to = ::accept(listener, nullptr, nullptr);
    REQUIRE(to >= 0);
    ::close(listener);
  }
  ~Loopback() {
    ::close(from);
    ::close(to);
  }
  void carry(std::size_t bytes) const {
    std::thread reader([&] {
      std::vector<char> buffer(1 << 16);
      for (std::size_t got = 0; got < bytes;) {
        const auto n = ::read(to, buffer.data(), buffer.size());
        if (n <= 0) return;
        got += static_cast<std::size_t>(n);
      }
    });
    const std::vector<char> buffer(1 << 16);
    for (std::size_t sent = 0; sent < bytes;) {
      const auto n = ::write(from, buffer.data(), std::min(buffer.size(), bytes - sent));
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
    reader.join();
  }
  /// What bbr has taken the path for, in bytes per second.
  [[nodiscard]] std::uint64_t believed() const {
    tcp_cc_info info{};
    socklen_t size = sizeof info;
    REQUIRE(::getsockopt(from, IPPROTO_TCP, TCP_CC_INFO, &info, &size) == 0);
    return std::uint64_t{info.bbr.bbr_bw_hi} << 32 | info.bbr.bbr_bw_lo;
  }
  int from = -1, to = -1;
  bool can = false;
};

TEST_CASE("bbr that is restarted has forgotten the path, stays bbr, and the connection goes on") {
  const Loopback connection(kBbr);
  if (!connection.can) {
    WARN("this kernel has no bbr for this process: not tested");
    return;
  }
  const std::optional<TcpConnection> tcp = TcpConnection::of(connection.from);
  REQUIRE(tcp);
  connection.carry(8 << 20);
  CHECK(connection.believed() > 0);
  CHECK(tcp->restart_congestion_control());
  CHECK(connection.believed() == 0);
  CHECK(congestion_control_of(connection.from) == kBbr);
  connection.carry(8 << 20);
  CHECK(connection.believed() > 0);
}

TEST_CASE("another congestion control is left alone, and a descriptor that is another connection's by now") {
  std::optional<TcpConnection> tcp;
  int fd = -1;
  {
    const Loopback connection("reno");
    fd = connection.from;
    tcp = TcpConnection::of(fd);
    REQUIRE(tcp);
    CHECK(!tcp->restart_congestion_control());
    CHECK(congestion_control_of(fd) == "reno");
    REQUIRE(tcp->send_pace().has_value());
    connection.carry(8 << 20);
    CHECK(tcp->send_pace()->delivered_bytes_per_second > 1e6);
    CHECK(tcp->send_pace()->round_trip > Duration(0));
    CHECK(tcp->send_pace()->round_trip < std::chrono::seconds(1));
    CHECK(tcp->send_pace()->unsent_bytes == 0);
  }
  const Loopback next(kBbr);
  REQUIRE(next.from == fd);  // the lowest number that is free
  if (next.can) CHECK(!tcp->restart_congestion_control());
  CHECK(!TcpConnection::of(-1).has_value());
}

TEST_CASE("a watch knows each connection by its own past, as long as it is there") {
  PaceWatch watch;
  using Cookies = std::vector<std::uint64_t>;
  CHECK(watch.find_starved({{1, pace(800, 0, 400)}, {2, pace(10, 0, 10)}}).empty());
  CHECK(watch.find_starved({{1, pace(10, 50'000)}, {2, pace(10, 50'000)}}) == Cookies{1});
  CHECK(watch.find_starved({{1, pace(10, 50'000, 10)}, {2, pace(1, 50'000)}}) == Cookies{2});
  CHECK(watch.find_starved({{3, pace(800, 0, 400)}}).empty());
  CHECK(watch.find_starved({}).empty());
  CHECK(watch.find_starved({{3, pace(10, 50'000, 10)}}).empty());  // another one with this cookie
}

TEST_CASE("a watch tells whether anything waits to be sent, of the connections there are") {
  PaceWatch watch;
  CHECK(!watch.look({}));
  const Loopback connection("reno");
  const std::vector<TcpConnection> all = {*TcpConnection::of(connection.from)};
  CHECK(!watch.look(all));
  // Nobody reads: what the receiver has no room for waits here.
  const std::vector<char> buffer(1 << 20);
  while (::send(connection.from, buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) {
  }
  CHECK(watch.look(all));
  CHECK(watch.restarts() == 0);
}

}  // namespace
}  // namespace nanduti
