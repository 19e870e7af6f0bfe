// Goal: sessions between cores work over real ZeroMQ on loopback: bulk and control, a server that restarts,
// hellos that are refused, hostile bytes. Method: two runners with small cores that record what they hear.
#include <atomic>
#include <chrono>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.hpp>

#include "test/e2e/transport/node.h"

using namespace nanduti;

namespace {

/// This machine's own ports with a connection to that one that nobody has answered yet.
std::vector<std::string> ports_asking_for(std::uint16_t port) {
  std::vector<std::string> ports;
  const std::string target = fmt::format(":{:04X}", port);
  for (const char* path : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      std::istringstream fields(line);
      std::string number, own, other, state;
      fields >> number >> own >> other >> state;
      if (state == "02" && other.ends_with(target)) ports.push_back(own);  // SYN_SENT
    }
  }
  return ports;
}

}  // namespace

TEST_CASE("bulk of 20 MB comes back byte for byte while control passes beside it") {
  Node server("tcp://127.0.0.1:*", 3, true);
  Node client(std::nullopt, 0, false);
  client.runner->post(OpenPeer{kServer, server.transport->endpoint(), 3, good_hello(), kPayloadBytesMax});
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.connected == 1; }));

  const SharedBytes payload = pattern(20'000'000);
  client.runner->post(SendMessage{kServer, StreamIndex(1), CutValues{JobId(1), CutId(7), payload}, 42});
  client.runner->post(SendMessage{kServer, StreamIndex(0), FetchCut{JobId(1), CutId(9)}, 43});
  REQUIRE(client.wait_for([](const RecordingCore& core) { return !core.messages.empty(); }));
  client.runner->run([&](RecordingCore& core, ProtocolTime) {
    const auto* back = std::get_if<CutValues>(&core.messages.at(0));
    REQUIRE(back != nullptr);
    REQUIRE(std::ranges::equal(back->payload.view(), payload.view()));
  });
  server.runner->run([&](RecordingCore& core, ProtocolTime) { REQUIRE(core.messages.size() == 2); });
}

TEST_CASE("control does not wait behind bulk") {
  Node server("tcp://127.0.0.1:*", 3, false);
  Node client(std::nullopt, 0, false);
  client.runner->post(OpenPeer{kServer, server.transport->endpoint(), 3, good_hello(), kPayloadBytesMax});
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.connected == 1; }));
  const SharedBytes payload = pattern(200'000'000);
  client.runner->post(SendMessage{kServer, StreamIndex(1), CutValues{JobId(1), CutId(7), payload}, 42});
  client.runner->post(SendMessage{kServer, StreamIndex(0), FetchCut{JobId(1), CutId(9)}, 43});
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.last_acked == 43; }));  // before 42
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.last_acked == 42; }));
  server.runner->run([&](RecordingCore& core, ProtocolTime) {
    REQUIRE(core.messages.size() == 2);
    CHECK(std::holds_alternative<FetchCut>(core.messages[0]));
  });
}

TEST_CASE("where nobody answers, not even with a refusal, a new attempt is made every two seconds or so") {
  // A listener with a full backlog leaves what asks for a connection without an answer, as an outage does.
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(listener, reinterpret_cast<const sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listener, 0) == 0);
  REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  const int first = ::socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(::connect(first, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);

  SessionOptions patient;  // it is the transport that is watched
  patient.redial_after = 1h;
  Node client(std::nullopt, 0, false, patient);
  Hello hello = good_hello();
  hello.stream_count = 1;
  client.runner->post(
      OpenPeer{kServer, fmt::format("tcp://127.0.0.1:{}", ntohs(address.sin_port)), 0, hello});
  std::set<std::string> attempts;
  const auto end = std::chrono::steady_clock::now() + 8s;
  while (std::chrono::steady_clock::now() < end) {
    for (const std::string& port : ports_asking_for(ntohs(address.sin_port))) attempts.insert(port);
    std::this_thread::sleep_for(20ms);
  }
  CHECK(attempts.size() >= 3);
  CHECK(attempts.size() <= 8);
  ::close(first);
  ::close(listener);
}

TEST_CASE("a peer finds a server that comes later, and one that comes back") {
  SessionOptions quick;
  quick.heartbeat = 50ms;
  quick.redial_after = 300ms;
  auto first = std::make_unique<Node>("tcp://127.0.0.1:*", 0, true);
  const std::string endpoint = first->transport->endpoint();
  first.reset();

  Node client(std::nullopt, 0, false, quick);
  client.runner->post(OpenPeer{kServer, endpoint, 0, good_hello()});
  std::this_thread::sleep_for(200ms);
  auto second = std::make_unique<Node>(endpoint, 0, true);
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.connected == 1; }));
  second.reset();
  auto third = std::make_unique<Node>(endpoint, 0, true);  // knows nothing of the session
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.connected == 2; }));
}

TEST_CASE("another protocol version is refused in words that name both") {
  Node server("tcp://127.0.0.1:*", 0, true);
  Node client(std::nullopt, 0, false);
  Hello hello = good_hello();
  hello.protocol_version = 99;
  client.runner->post(OpenPeer{kServer, server.transport->endpoint(), 0, hello});
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.closed == 1; }));
  client.runner->run([](RecordingCore& core, ProtocolTime) {
    REQUIRE(
        core.reason ==
        fmt::format("this server speaks protocol version {}, the worker 'dialler' (program test) version 99: "
                    "run the same release on both sides",
                    kProtocolVersion));
  });
}

TEST_CASE("a port in use is an error that says so") {
  Node server("tcp://127.0.0.1:*", 0, true);
  const std::string endpoint = server.transport->endpoint();
  const Result<std::unique_ptr<ZmqTransport>> second = ZmqTransport::start({endpoint});
  REQUIRE_FALSE(second.ok());
  REQUIRE(second.error().message ==
          endpoint + " is in use by another program: stop it, or choose another port in listen.data");
}

TEST_CASE("bytes that are no frames are counted and change nothing") {
  Node server("tcp://127.0.0.1:*", 0, true);
  zmq::context_t context;
  zmq::socket_t stranger(context, zmq::socket_type::dealer);
  stranger.set(zmq::sockopt::linger, 0);
  stranger.connect(server.transport->endpoint());
  stranger.send(zmq::buffer(std::string("not a frame")), zmq::send_flags::none);
  zmq::socket_t wordy(context, zmq::socket_type::dealer);
  wordy.set(zmq::sockopt::linger, 0);
  wordy.connect(server.transport->endpoint());
  for (int i = 0; i < 9; ++i) wordy.send(zmq::buffer(std::string("many parts")), zmq::send_flags::sndmore);
  wordy.send(zmq::buffer(std::string("the last")), zmq::send_flags::none);
  Frame frame;  // well-formed, for a core that is not here
  frame.destination = 77;
  const EncodedFrame encoded = encode_frame(frame);
  stranger.send(zmq::buffer(encoded.header.data(), encoded.header.size()), zmq::send_flags::none);
  zmq::socket_t named(context, zmq::socket_type::dealer);  // chooses its own ZeroMQ identity
  named.set(zmq::sockopt::linger, 0);
  named.set(zmq::sockopt::routing_id, "somebody");
  named.connect(server.transport->endpoint());
  named.send(zmq::buffer(encoded.header.data(), encoded.header.size()), zmq::send_flags::none);

  REQUIRE(server.wait_for_counters([](const TransportCounters& counters) {
    return counters.dropped_malformed == 1 && counters.dropped_too_many_parts == 1 &&
           counters.shut_down_too_many_parts == 1 && counters.dropped_named_peer == 1 &&
           counters.dropped_no_receiver == 1;
  }));
  server.runner->run([](RecordingCore& core, ProtocolTime) { REQUIRE(core.connected == 0); });
}

TEST_CASE("what a loop slept through is not part of its time, and its time never goes back") {
  EventLoop loop("sleeper");
  std::atomic<bool> served = false;
  std::atomic<bool> good = false;
  loop.start([&] { served = true; });
  loop.post([&] {
    const ProtocolTime before = loop.now();
    loop.set_deadline(before + 50ms);
    std::this_thread::sleep_for(1500ms);  // as a stopped process would
    const ProtocolTime after = loop.now();
    good = after >= before && after - before <= 60ms && loop.now() >= after;
  });
  for (int i = 0; i < 400 && !served; ++i) std::this_thread::sleep_for(10ms);
  loop.stop();
  CHECK(served);
  CHECK(good);
}
