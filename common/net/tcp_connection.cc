#include "common/net/tcp_connection.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/congestion_control.h"

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

std::optional<SendPace> TcpConnection::send_pace() const {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  if (size < offsetof(tcp_info, tcpi_delivery_rate) + sizeof info.tcpi_delivery_rate) return std::nullopt;
  SendPace pace;
  pace.bytes_per_second = static_cast<double>(info.tcpi_pacing_rate);
  pace.delivered_bytes_per_second = static_cast<double>(info.tcpi_delivery_rate);
  pace.unsent_bytes = info.tcpi_notsent_bytes;
  pace.round_trip = std::chrono::microseconds(info.tcpi_rtt);
  return pace;
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

/// A descriptor of our own, which cannot come to stand for another connection between the look and the act.
class TcpConnection::Own {
 public:
  explicit Own(const TcpConnection& connection) : fd_(::dup(connection.fd_)) {
    if (fd_ >= 0 && cookie_of(fd_) != connection.cookie_) ::close(std::exchange(fd_, -1));
  }
  ~Own() {
    if (fd_ >= 0) ::close(fd_);
  }
  Own(const Own&) = delete;
  Own& operator=(const Own&) = delete;
  /// Negative if the connection has ended.
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

bool TcpConnection::restart_congestion_control() const {
  const Own own(*this);
  if (own.fd() < 0 || congestion_control_of(own.fd()) != kBbr) return false;
  // The kernel takes the name of what is in force for nothing to do; reno is in every kernel.
  return set_congestion_control(own.fd(), "reno") && set_congestion_control(own.fd(), kBbr);
}

bool TcpConnection::shut_down() const {
  const Own own(*this);
  if (own.fd() < 0) return false;
  // With a reset, so that neither kernel keeps what was on its way.
  const linger at_once{1, 0};
  (void)::setsockopt(own.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  (void)::shutdown(own.fd(), SHUT_RDWR);
  return true;
}

}  // namespace nanduti
