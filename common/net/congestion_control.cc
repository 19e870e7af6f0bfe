#include "common/net/congestion_control.h"

#include <array>
#include <fstream>
#include <string_view>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nanduti {

namespace {

constexpr std::string_view kAuto = "auto";
constexpr std::size_t kNameBytesMax = 16;  // the kernel's TCP_CA_NAME_MAX

/// Whether the kernel takes it for a new socket.
bool is_usable(const std::string& name) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool usable = set_congestion_control(fd, name);
  ::close(fd);
  return usable;
}

/// For people.
std::string usable_names() {
  std::ifstream file("/proc/sys/net/ipv4/tcp_available_congestion_control");
  std::string names;
  for (std::string name; file >> name;)
    if (is_usable(name)) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none that this process may use" : names;
}

}  // namespace

Result<std::string> choose_congestion_control(const std::string& wanted) {
  if (wanted == kAuto) return std::string(is_usable(kBbr) ? kBbr : "");
  if (is_usable(wanted)) return wanted;
  return make_error(ErrorCode::kUnavailable,
                    "transport.congestion_control: this kernel does not offer {}; it offers auto, {}", wanted,
                    usable_names());
}

bool set_congestion_control(int fd, const std::string& name) {
  return ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0;
}

std::string congestion_control_of(int fd) {
  std::array<char, kNameBytesMax + 1> name{};
  socklen_t size = kNameBytesMax;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size) != 0) return "unknown";
  return name.data();
}

}  // namespace nanduti
