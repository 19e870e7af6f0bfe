// Goal: sessions between cores work over real ZeroMQ on loopback: bulk and control, a server that restarts,
// hellos that are refused, hostile bytes. Method: two runners with small cores that record what they hear.
#include <atomic>
#include <chrono>
#include <thread>

#include <zmq.hpp>

#include "common/net/core_runner.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

/// Counts what it hears, and answers every CutValues with one on the same stream.
class RecordingCore {
 public:
  using Event = std::variant<PeerConnected, PeerClosed, MessageReceived, MessageAcked, SendMessage, OpenPeer>;
  struct Note {
    std::string text;
    bool warning = false;
  };
  struct Nothing {};
  using Action = std::variant<SendMessage, OpenPeer, ClosePeer, Note, Nothing>;

  explicit RecordingCore(bool echoes) : echoes_(echoes) {}
  void on_event(ProtocolTime, const Event& event) {
    if (const auto* send = std::get_if<SendMessage>(&event)) actions_.push_back(*send);
    if (const auto* open = std::get_if<OpenPeer>(&event)) actions_.push_back(*open);
    if (std::holds_alternative<PeerConnected>(event)) ++connected;
    if (const auto* gone = std::get_if<PeerClosed>(&event)) {
      ++closed;
      reason = gone->reason;
    }
    if (const auto* acked = std::get_if<MessageAcked>(&event)) last_acked = acked->tag;
    if (const auto* received = std::get_if<MessageReceived>(&event)) {
      messages.push_back(received->message);
      if (echoes_ && std::holds_alternative<CutValues>(received->message))
        actions_.push_back(SendMessage{received->peer, StreamIndex(1), received->message});
    }
  }
  void on_deadline(ProtocolTime) {}
  [[nodiscard]] ProtocolTime next_deadline() const { return kNever; }
  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }

  int connected = 0, closed = 0;
  std::uint64_t last_acked = 0;
  std::string reason;
  std::vector<Message> messages;

 private:
  bool echoes_;
  std::vector<Action> actions_;
};

using Runner = CoreRunner<RecordingCore>;

struct Node {
  Node(std::optional<std::string> listen, std::uint32_t destination, bool echoes,
       SessionOptions options = {}) {
    Result<std::unique_ptr<ZmqTransport>> started = ZmqTransport::start({std::move(listen)});
    REQUIRE(started.ok());
    transport = std::move(started).value();
    runner = std::make_unique<Runner>("node", *transport, destination, options,
                                      RandomStream(std::random_device{}()), RecordingCore(echoes));
    runner->set_admission(Admission{JobId(), 0, kPayloadBytesMax, 0});
    runner->start([](const RecordingCore::Action&) {});
  }
  ~Node() { runner->stop(); }

  template <class Condition>
  bool wait_for(Condition condition, std::chrono::milliseconds limit = 20s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < end) {
      bool met = false;
      runner->run([&](RecordingCore& core, ProtocolTime) { met = condition(core); });
      if (met) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }

  std::unique_ptr<ZmqTransport> transport;
  std::unique_ptr<Runner> runner;
};

Hello good_hello() {
  Hello hello;
  hello.protocol_version = kProtocolVersion;
  hello.codec_format = kCodecFormat;
  hello.program_version = "test";
  hello.name = "dialler";
  hello.stream_count = 2;
  return hello;
}

constexpr PeerId kServer{0};

SharedBytes pattern(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 2654435761u >> 13);
  return SharedBytes::take(std::move(bytes));
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
    REQUIRE(core.reason ==
            "this server speaks protocol version 2, the worker 'dialler' (program test) version 99: run the "
            "same release on both sides");
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
  for (int i = 0; i < 9; ++i) stranger.send(zmq::buffer(std::string("many parts")), zmq::send_flags::sndmore);
  stranger.send(zmq::buffer(std::string("the last")), zmq::send_flags::none);
  Frame frame;  // well-formed, for a core that is not here
  frame.destination = 77;
  const EncodedFrame encoded = encode_frame(frame);
  stranger.send(zmq::buffer(encoded.header.data(), encoded.header.size()), zmq::send_flags::none);
  zmq::socket_t named(context, zmq::socket_type::dealer);  // chooses its own ZeroMQ identity
  named.set(zmq::sockopt::linger, 0);
  named.set(zmq::sockopt::routing_id, "somebody");
  named.connect(server.transport->endpoint());
  named.send(zmq::buffer(encoded.header.data(), encoded.header.size()), zmq::send_flags::none);

  REQUIRE(server.wait_for([&](const RecordingCore&) {
    const ZmqTransport::Counters counters = server.transport->counters();
    return counters.dropped_malformed == 3 && counters.dropped_no_receiver == 1;
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
