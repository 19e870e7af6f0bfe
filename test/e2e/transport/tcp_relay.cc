#include "test/e2e/transport/tcp_relay.h"

#include <array>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/check.h"

namespace nanduti {

namespace {

constexpr int kTickMs = 10;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

}  // namespace

TcpRelay::TcpRelay(const std::string& target)
    : target_port_(static_cast<std::uint16_t>(std::stoi(target.substr(target.rfind(':') + 1)))),
      listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  NANDUTI_CHECK(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), size) == 0);
  NANDUTI_CHECK(::listen(listener_, 64) == 0);
  NANDUTI_CHECK(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::jthread([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      pollfd item{listener_, POLLIN, 0};
      if (::poll(&item, 1, kTickMs) > 0) accept();
    }
  });
}

TcpRelay::~TcpRelay() {
  acceptor_ = {};
  cut();
  ::close(listener_);
}

std::string TcpRelay::endpoint() const { return "tcp://127.0.0.1:" + std::to_string(port_); }

void TcpRelay::accept() {
  const int dialler = ::accept(listener_, nullptr, nullptr);
  if (dialler < 0) return;
  const sockaddr_in address = loopback(target_port_);
  const int target = ::socket(AF_INET, SOCK_STREAM, 0);
  if (!lets_in_ || ::connect(target, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(target);
    ::close(dialler);
    return;
  }
  const std::lock_guard lock(mutex_);
  ++count_;
  Pair& pair = pairs_.emplace_back();
  pair.dialler = dialler;
  pair.target = target;
  pair.there = std::jthread(
      [this, dialler, target](const std::stop_token& stop) { pump(dialler, target, false, stop); });
  pair.back = std::jthread(
      [this, dialler, target](const std::stop_token& stop) { pump(target, dialler, true, stop); });
}

void TcpRelay::pump(int from, int to, bool answers, const std::stop_token& stop) {
  std::array<char, 65536> bytes{};
  while (!stop.stop_requested()) {
    if (answers && holds_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kTickMs));
      continue;
    }
    pollfd item{from, POLLIN, 0};
    if (::poll(&item, 1, kTickMs) <= 0) continue;
    const auto got = ::recv(from, bytes.data(), bytes.size(), 0);
    if (got <= 0) break;
    for (ssize_t sent = 0; sent < got;) {
      const auto more = ::send(to, bytes.data() + sent, static_cast<std::size_t>(got - sent), MSG_NOSIGNAL);
      if (more <= 0) return;
      sent += more;
    }
  }
  ::shutdown(to, SHUT_RDWR);
}

void TcpRelay::cut() {
  std::list<Pair> cut;
  {
    const std::lock_guard lock(mutex_);
    cut.swap(pairs_);
  }
  for (Pair& pair : cut) {
    ::shutdown(pair.dialler, SHUT_RDWR);
    ::shutdown(pair.target, SHUT_RDWR);
    pair.there = {};
    pair.back = {};
    ::close(pair.dialler);
    ::close(pair.target);
  }
}

}  // namespace nanduti
