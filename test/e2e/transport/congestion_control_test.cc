// Goal: both ends of a session send with the congestion control that their configs name, whatever the
// system's own. Method: two transports in one process; the kernel is asked about each of their connections.
#include "common/net/congestion_control.h"

#include <fstream>

#include <netinet/in.h>
#include <sys/socket.h>

#include "test/e2e/transport/node.h"

using namespace nanduti;

namespace {

std::string word_of(const char* path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

/// Two different ones that this process may use; fewer if there are no two.
std::vector<std::string> usable() {
  std::ifstream file("/proc/sys/net/ipv4/tcp_available_congestion_control");
  std::vector<std::string> names;
  for (std::string name; file >> name;)
    if (choose_congestion_control(name).ok()) names.push_back(name);
  return names;
}

struct InForce {
  std::vector<std::string> accepted, dialled;
};

/// On this process's open connections with this port of its own.
InForce in_force(std::uint16_t port) {
  InForce all;
  for (int fd = 3; fd < 2000; ++fd) {
    sockaddr_storage own{}, other{};
    socklen_t own_size = sizeof own, other_size = sizeof other;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) != 0 ||
        (own.ss_family != AF_INET && own.ss_family != AF_INET6) ||
        ::getpeername(fd, reinterpret_cast<sockaddr*>(&other), &other_size) != 0)
      continue;
    // In the same place for both families.
    const auto port_of = [](const sockaddr_storage& address) {
      return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
    };
    if (port_of(own) == port) all.accepted.push_back(congestion_control_of(fd));
    if (port_of(other) == port) all.dialled.push_back(congestion_control_of(fd));
  }
  return all;
}

TransportOptions options(std::optional<std::string> listen, const std::string& congestion_control) {
  TransportOptions options;
  options.listen = std::move(listen);
  options.congestion_control = congestion_control;
  return options;
}

void check(const std::string& server_has, const std::string& client_has, const std::string& accepted,
           const std::string& dialled) {
  Node server(options("tcp://127.0.0.1:*", server_has), 3, true);
  Node client(options(std::nullopt, client_has), 0, false);
  const std::string endpoint = server.transport->endpoint();
  client.runner->post(OpenPeer{kServer, endpoint, 3, good_hello(), kPayloadBytesMax});
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.connected == 1; }));
  const auto port = static_cast<std::uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
  const InForce found = in_force(port);
  CHECK(found.accepted == std::vector<std::string>(2, accepted));
  CHECK(found.dialled == std::vector<std::string>(2, dialled));
}

}  // namespace

TEST_CASE("each end's connections have the congestion control that it names") {
  const std::vector<std::string> names = usable();
  if (names.size() < 2) {
    WARN("skipped: this process may use one congestion control only");
    return;
  }
  check(names[0], names[1], names[0], names[1]);
  check(names[1], names[0], names[1], names[0]);
}

TEST_CASE("auto is bbr where the kernel has it, and the system's own elsewhere") {
  const bool has_bbr = choose_congestion_control("bbr").ok();
  const std::string expected = has_bbr ? "bbr" : word_of("/proc/sys/net/ipv4/tcp_congestion_control");
  CHECK(choose_congestion_control("auto").value() == (has_bbr ? "bbr" : ""));
  check("auto", "auto", expected, expected);
}

TEST_CASE("a congestion control that the kernel does not have is an error that names those it has") {
  const Result<std::unique_ptr<ZmqTransport>> started = ZmqTransport::start(options(std::nullopt, "warp9"));
  REQUIRE_FALSE(started.ok());
  CHECK(started.error().message.find(
            "transport.congestion_control: this kernel does not offer warp9; it offers auto, ") == 0);
  for (const std::string& name : usable()) CHECK(started.error().message.find(name) != std::string::npos);
}
