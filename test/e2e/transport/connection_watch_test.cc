// Goal: the watch's verdicts are right about the right connection. Method: TCP on loopback without ZeroMQ:
// the test says what came out; time is the test's.
#include "common/net/connection_watch.h"

#include <array>

#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/check.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

/// Two ends of a TCP connection; `here` is the one that is watched.
struct TcpPair {
  TcpPair() {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    NANDUTI_CHECK(::bind(listener, reinterpret_cast<const sockaddr*>(&address), size) == 0);
    NANDUTI_CHECK(::listen(listener, 1) == 0);
    NANDUTI_CHECK(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    there = ::socket(AF_INET, SOCK_STREAM, 0);
    NANDUTI_CHECK(::connect(there, reinterpret_cast<const sockaddr*>(&address), size) == 0);
    here = ::accept(listener, nullptr, nullptr);
    ::close(listener);
  }
  ~TcpPair() {
    ::close(here);
    ::close(there);
  }
  TcpPair(const TcpPair&) = delete;
  TcpPair& operator=(const TcpPair&) = delete;

  /// So many bytes are sent there and read here.
  void carry(std::size_t bytes) const {
    std::array<char, 1000> buffer{};
    for (; bytes > 0; bytes -= std::min(bytes, buffer.size())) {
      const std::size_t count = std::min(bytes, buffer.size());
      NANDUTI_CHECK(::send(there, buffer.data(), count, 0) == static_cast<ssize_t>(count));
      NANDUTI_CHECK(::recv(here, buffer.data(), count, MSG_WAITALL) == static_cast<ssize_t>(count));
    }
  }
  [[nodiscard]] bool is_open() const {
    char byte = 0;
    return ::recv(there, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
  }

  int here = -1, there = -1;
};

constexpr RouteId kRoute{5};
constexpr ProtocolTime kStart{1h};

ConnectionLimits small_limits() {
  ConnectionLimits limits;
  limits.unfinished_bytes_max = 10'000;
  return limits;
}

/// A watch that is told of one connection.
struct Bench {
  explicit Bench(const ConnectionLimits& limits = small_limits()) : watch(limits) {
    watch.opened(now, this, *TcpConnection::of(pair.here), true);
  }
  /// Bytes arrive, and the watch looks at them.
  void carry_and_look(std::size_t bytes) { carry_and_look(bytes, pair); }
  void carry_and_look(std::size_t bytes, const TcpPair& on) {
    NANDUTI_CHECK(::send(on.there, "!", 1, 0) == 1);  // there when the watch looks for activity
    int waiting = 0;
    while (::ioctl(on.here, FIONREAD, &waiting) == 0 && waiting == 0) {
    }
    watch.on_activity(now);
    char byte = 0;
    NANDUTI_CHECK(::recv(on.here, &byte, 1, 0) == 1);
    on.carry(bytes - 1);
    look();
  }
  void look() {
    now += 10ms;
    watch.on_deadline(now);
  }
  void finish(std::size_t bytes) { watch.finished(this, pair.here, kRoute, bytes); }

  TcpPair pair;
  ConnectionWatch watch;
  ProtocolTime now = kStart;
};

}  // namespace

TEST_CASE(
    "who has taken in more than the maximum without a message is shut down once nothing waits to come out") {
  Bench bench;
  bench.carry_and_look(10'001);
  CHECK(bench.watch.wants_drained());
  CHECK(bench.pair.is_open());
  bench.watch.drained(&bench);
  CHECK_FALSE(bench.pair.is_open());
  CHECK(bench.watch.counters().shut_down_unfinished == 1);
}

TEST_CASE("messages that come out late, but before nothing is left, count") {
  Bench bench;
  bench.carry_and_look(50'000);
  bench.finish(45'000);
  bench.watch.drained(&bench);
  CHECK(bench.pair.is_open());
  bench.carry_and_look(4'000);
  bench.watch.drained(&bench);
  CHECK(bench.pair.is_open());
  bench.carry_and_look(1'001);
  bench.watch.drained(&bench);
  CHECK_FALSE(bench.pair.is_open());
}

TEST_CASE("where all connections owe too much together, those that owe the most go") {
  ConnectionLimits limits = small_limits();
  limits.unfinished_bytes_total_max = 12'000;
  Bench bench(limits);
  TcpPair other;
  bench.watch.opened(bench.now, &other, *TcpConnection::of(other.here), true);
  bench.carry_and_look(7'000);
  bench.watch.drained(&bench);
  CHECK(bench.pair.is_open());
  bench.carry_and_look(5'001, other);
  bench.watch.drained(&other);
  CHECK_FALSE(bench.pair.is_open());
  CHECK(other.is_open());
  CHECK(bench.watch.counters().shut_down_unfinished == 1);
  bench.carry_and_look(4'999, other);  // what the first one owed is gone with it
  bench.watch.drained(&other);
  CHECK(other.is_open());
}

TEST_CASE("bytes that belong to no message do not add up while messages come out") {
  Bench bench;
  for (int i = 0; i < 20; ++i) {
    bench.carry_and_look(5'000);  // of which a message accounts for 1000: the rest is not its framing
    bench.watch.drained(&bench);
    REQUIRE(bench.pair.is_open());
    bench.finish(1'000);
  }
  CHECK(bench.pair.is_open());
  CHECK(bench.watch.counters().shut_down_unfinished == 0);
}

TEST_CASE("other connections' messages without end do not put the verdict off") {
  Bench bench;
  TcpPair busy;
  bench.watch.opened(bench.now, &bench, *TcpConnection::of(busy.here), true);
  bench.carry_and_look(10'001);
  for (int i = 0; i < 200; ++i) bench.watch.finished(&bench, busy.here, RouteId(6), 0);
  bench.look();
  CHECK(bench.pair.is_open());  // its turn may not have come
  for (int i = 0; i < 200; ++i) bench.watch.finished(&bench, busy.here, RouteId(6), 0);
  bench.look();
  CHECK_FALSE(bench.pair.is_open());
  CHECK(busy.is_open());
}

TEST_CASE("messages of other sockets, however many, say nothing about whose turn it was") {
  Bench bench;
  TcpPair busy;
  const int other_socket = 0;
  bench.watch.opened(bench.now, &other_socket, *TcpConnection::of(busy.here), false);
  bench.carry_and_look(50'000);  // finished messages among them, which wait while the other socket is served
  for (int i = 0; i < 10'000; ++i) bench.watch.finished(&other_socket, busy.here, RouteId(6), 100);
  bench.watch.drained(&other_socket);
  bench.look();
  CHECK(bench.pair.is_open());
  bench.finish(45'000);
  bench.watch.drained(&bench);
  CHECK(bench.pair.is_open());
  CHECK_FALSE(bench.watch.wants_drained());
}

TEST_CASE("a connection that nothing arrives on has no deadline") {
  ConnectionLimits limits = small_limits();
  limits.first_frame_within = 8s;
  Bench bench(limits);
  CHECK(bench.watch.next_deadline() == kStart + 1s);  // it has brought no frame
  bench.watch.brought_frame(&bench, bench.pair.here);
  bench.now += 1s;
  bench.watch.on_deadline(bench.now);
  CHECK(bench.watch.next_deadline() == kNever);
  bench.carry_and_look(100);
  CHECK(bench.watch.next_deadline() == bench.now + 10ms);
  bench.watch.drained(&bench);
  bench.look();
  CHECK(bench.watch.next_deadline() == kNever);
}

TEST_CASE("a descriptor that stands for another connection by now is left alone") {
  auto first = std::make_unique<TcpPair>();
  const TcpConnection old = *TcpConnection::of(first->here);
  TcpPair second;
  REQUIRE(::dup2(second.here, first->here) == first->here);  // the number is given again
  CHECK_FALSE(old.shut_down());
  CHECK(second.is_open());
  CHECK(TcpConnection::of(first->here)->shut_down());
  CHECK_FALSE(second.is_open());
  CHECK_FALSE(TcpConnection::of(STDIN_FILENO).has_value());
}

TEST_CASE("silence is only held against a connection at the second look") {
  ConnectionLimits limits = small_limits();
  limits.first_frame_within = 8s;
  Bench bench(limits);
  bench.now += 1h;  // the process was stopped
  bench.watch.on_deadline(bench.now);
  CHECK(bench.pair.is_open());
  bench.now += 1s;
  bench.watch.on_deadline(bench.now);
  CHECK_FALSE(bench.pair.is_open());
  CHECK(bench.watch.counters().shut_down_silent == 1);
}
