#include "common/net/tcp_connection.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nanduti {

namespace {

std::optional<std::uint64_t> cookie_of(int fd) {
  int protocol = 0;
  socklen_t size = sizeof protocol;
  if (::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0 || protocol != IPPROTO_TCP)
    return std::nullopt;
  std::uint64_t cookie = 0;
  size = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return std::nullopt;
  return cookie;
}

}  // namespace

std::optional<TcpConnection> TcpConnection::of(int fd) {
  const std::optional<std::uint64_t> cookie = cookie_of(fd);
  if (!cookie) return std::nullopt;
  return TcpConnection(fd, *cookie);
}

std::uint64_t TcpConnection::consumed_bytes() const {
  // In this order, what arrives in between makes the answer smaller, never larger.
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  if (size < offsetof(tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received) return 0;
  int unread = 0;
  if (::ioctl(fd_, FIONREAD, &unread) != 0 || unread < 0) return 0;
  const std::uint64_t received = info.tcpi_bytes_received;
  return received - std::min(received, static_cast<std::uint64_t>(unread));
}

std::string TcpConnection::peer() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getpeername(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host.data(), host.size(), port.data(),
                    port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "a peer that has gone";
  return std::string(host.data()) + ":" + port.data();
}

bool TcpConnection::shut_down() const {
  // A descriptor of our own cannot come to stand for another connection between the look and the act.
  const int own = ::dup(fd_);
  if (own < 0) return false;
  const bool same = cookie_of(own) == cookie_;
  if (same) {
    // With a reset, so that neither kernel keeps what was on its way.
    const linger at_once{1, 0};
    (void)::setsockopt(own, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    (void)::shutdown(own, SHUT_RDWR);
  }
  ::close(own);
  return same;
}

}  // namespace nanduti
