#include "test/e2e/transport/raw_peer.h"

#include <array>
#include <charconv>
#include <fstream>

#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/check.h"

namespace nanduti {

namespace {

constexpr int kPatienceMs = 20'000;

}  // namespace

RawPeer::RawPeer(const std::string& endpoint) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
  const std::string port = endpoint.substr(endpoint.rfind(':') + 1);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
  NANDUTI_CHECK(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
}

RawPeer::~RawPeer() { ::close(fd_); }

bool RawPeer::send(std::string_view bytes) {
  while (!bytes.empty()) {
    pollfd item{fd_, POLLOUT | POLLRDHUP, 0};
    if (::poll(&item, 1, kPatienceMs) <= 0 || (item.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
      return false;
    const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

void RawPeer::shake_hands() {
  std::string greeting("\xFF\0\0\0\0\0\0\0\0\x7F\3\0NULL", 16);
  greeting.resize(64, '\0');
  const std::string ready("\4\x29\5READY\xBSocket-Type\0\0\0\6DEALER\x8Identity\0\0\0\0", 43);
  std::size_t heard = 0;
  NANDUTI_CHECK(send(greeting + ready));
  // The other side's greeting, then at least the head of its READY.
  while (heard < 64 + 8) {
    std::array<char, 256> bytes{};
    const auto got = ::recv(fd_, bytes.data(), bytes.size(), 0);
    NANDUTI_CHECK(got > 0, "the other side has no patience");
    heard += static_cast<std::size_t>(got);
  }
}

std::string wire_part(std::string_view part, bool more) {
  std::string bytes;
  if (part.size() <= 255) {
    bytes += more ? '\1' : '\0';
    bytes += static_cast<char>(part.size());
  } else {
    bytes += more ? '\3' : '\2';
    for (int shift = 56; shift >= 0; shift -= 8) bytes += static_cast<char>(part.size() >> shift & 0xFF);
  }
  return bytes.append(part);
}

bool RawPeer::send_part(std::string_view part, bool more) { return send(wire_part(part, more)); }

bool RawPeer::is_closed_within(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd item{fd_, POLLIN, 0};
    if (::poll(&item, 1, static_cast<int>(left.count())) <= 0) continue;
    std::array<char, 4096> bytes{};
    if (::recv(fd_, bytes.data(), bytes.size(), 0) <= 0) return true;
  }
}

ProcessMemory process_memory() {
  ProcessMemory memory;
  std::ifstream status("/proc/self/status");
  for (std::string name; status >> name;) {
    std::size_t kib = 0;
    if (name == "VmRSS:" && status >> kib) memory.resident = kib * 1024;
    if (name == "VmHWM:" && status >> kib) memory.peak = kib * 1024;
  }
  return memory;
}

void reset_peak_memory() {
  ::malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;
}

}  // namespace nanduti
