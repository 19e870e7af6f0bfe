// Goal: messages arrive once and in order whatever the network does; hellos are refused in words.
// Method: two hubs joined by a virtual network with seeded loss, duplication, delay and route failures.
#include "common/protocol/session_hub.h"

#include <queue>

#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

constexpr PeerId kServer{0};

/// A client hub and a server hub with a faulty network between them, in virtual time.
struct World {
  explicit World(std::uint64_t seed)
      : random(seed, 1), client(0, {}, RandomStream(seed, 2)), server(0, {}, RandomStream(seed, 3)) {
    server.set_admission(Admission{});
  }

  void open() { client.open(now, {kServer, "tcp://server", 0, hello}); }

  void carry(SessionHub& from, bool to_server) {
    for (const TransportRequest& request : from.take_requests()) {
      if (const auto* hang_up = std::get_if<HangUpRoute>(&request)) dead.push_back(hang_up->route);
      const auto* transmit = std::get_if<TransmitFrame>(&request);
      if (transmit == nullptr || cut) continue;
      const int copies = random.chance(loss) ? 0 : random.chance(duplication) ? 2 : 1;
      for (int i = 0; i < copies; ++i) {
        const auto delay = Duration(static_cast<std::int64_t>(random.uniform(1e6, 1e6 * delay_max_ms)));
        network.push({now + delay, order++, to_server, transmit->route, transmit->frame});
      }
    }
  }

  void collect() {
    for (SessionEvent& event : client.take_events()) at_client.push_back(std::move(event));
    for (SessionEvent& event : server.take_events()) at_server.push_back(std::move(event));
    carry(client, true);
    carry(server, false);
  }

  /// Runs until `end`.
  void run(Duration span) {
    const ProtocolTime end = now + span;
    for (;;) {
      collect();
      ProtocolTime next = std::min(client.next_deadline(), server.next_deadline());
      if (!network.empty()) next = std::min(next, network.top().at);
      if (next > end) break;
      now = std::max(now, next);
      if (client.next_deadline() <= now) client.on_deadline(now);
      if (server.next_deadline() <= now) server.on_deadline(now);
      while (!network.empty() && network.top().at <= now) {
        const Packet packet = network.top();
        network.pop();
        // What a client sent before it hung up still arrives.
        if (!packet.to_server && std::find(dead.begin(), dead.end(), packet.route) != dead.end()) continue;
        (packet.to_server ? server : client).on_frame(now, packet.route, packet.frame);
        collect();
      }
    }
    now = end;
  }

  template <class E>
  static std::vector<E> all(const std::vector<SessionEvent>& events) {
    std::vector<E> out;
    for (const SessionEvent& event : events)
      if (const auto* e = std::get_if<E>(&event)) out.push_back(*e);
    return out;
  }

  struct Packet {
    ProtocolTime at;
    std::uint64_t order;
    bool to_server;
    RouteId route;
    Frame frame;
    bool operator<(const Packet& other) const {
      return std::pair(at, order) > std::pair(other.at, other.order);
    }
  };

  RandomStream random;
  SessionHub client, server;
  Hello hello{kProtocolVersion, kCodecFormat, "0.1.0", PeerRole::kWorker, "w1", JobId(), 0, 2, false};
  ProtocolTime now{1h};
  double loss = 0, duplication = 0, delay_max_ms = 20;
  bool cut = false;
  std::uint64_t order = 0;
  std::priority_queue<Packet> network;
  std::vector<RouteId> dead;
  std::vector<SessionEvent> at_client, at_server;
};

Message numbered(std::uint64_t number, std::size_t bytes) {
  std::vector<std::uint8_t> payload(bytes);
  for (std::size_t i = 0; i < bytes; ++i) payload[i] = static_cast<std::uint8_t>(number * 31 + i * 7);
  Push push;
  push.sequence = Sequence(number);
  push.payload = SharedBytes::take(std::move(payload));
  return push;
}

void require_in_order(const std::vector<MessageReceived>& received, std::uint64_t count) {
  REQUIRE(received.size() == count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Push& push = std::get<Push>(received[i].message);
    REQUIRE(push.sequence == Sequence(i));
    for (std::size_t k = 0; k < push.payload.size(); k += 97)
      REQUIRE(push.payload.data()[k] == static_cast<std::byte>(static_cast<std::uint8_t>(i * 31 + k * 7)));
  }
}

}  // namespace

TEST_CASE("messages arrive once and in order over a network that loses, repeats and reorders") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    World world(seed);
    world.loss = static_cast<double>(seed % 4) * 0.08;
    world.duplication = static_cast<double>(seed % 3) * 0.2;
    world.delay_max_ms = seed % 2 == 0 ? 5 : 300;
    world.open();
    world.run(20s);
    REQUIRE(World::all<PeerConnected>(world.at_client).size() == 1);
    REQUIRE(World::all<PeerConnected>(world.at_server).size() == 1);
    const std::uint64_t count = 12;
    for (std::uint64_t i = 0; i < count; ++i) {
      world.client.send(world.now, {kServer, StreamIndex(1), numbered(i, 1 + i * 90'000), i + 1});
      world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(i, 1 + i * 40'000), i + 1});
      world.run(Duration(static_cast<std::int64_t>(world.random.below(300'000'000))));
    }
    // Outages, shorter and longer than the time to redial, cost time only.
    world.cut = true;
    world.run(std::chrono::seconds(seed % 40));
    world.cut = false;
    world.run(400s);
    require_in_order(World::all<MessageReceived>(world.at_server), count);
    require_in_order(World::all<MessageReceived>(world.at_client), count);
    const auto acked = World::all<MessageAcked>(world.at_client);
    REQUIRE(acked.size() == count);
    for (std::uint64_t i = 0; i < count; ++i) REQUIRE(acked[i].tag == i + 1);
    REQUIRE(world.client.outstanding_bytes(kServer) == 0);
    REQUIRE(World::all<PeerClosed>(world.at_client).empty());
  }
}

TEST_CASE("a hello that does not match is refused in an operator's words") {
  const auto refusal = [](auto change) {
    World world(1);
    world.server.set_admission(Admission{JobId(3), 0xabc});
    world.hello.job = JobId(3);
    world.hello.layout_hash = 0xabc;
    change(world.hello);
    world.open();
    world.run(1s);
    REQUIRE(World::all<PeerConnected>(world.at_server).empty());
    const auto closed = World::all<PeerClosed>(world.at_client);
    REQUIRE(closed.size() == 1);
    REQUIRE_FALSE(closed[0].redialling);
    return closed[0].reason;
  };
  CHECK(refusal([](Hello& h) { h.protocol_version = 9; }) ==
        "this server speaks protocol version 1, the worker 'w1' (program 0.1.0) version 9: run the same "
        "release on "
        "both sides");
  CHECK(refusal([](Hello& h) { h.codec_format = 2; }) ==
        "this server codes updates in format 1, the worker 'w1' (program 0.1.0) in format 2: run the same "
        "release "
        "on both sides");
  CHECK(refusal([](Hello& h) { h.job = JobId(2); }) == "job 2 is not open here; the open one is 3");
  CHECK(refusal([](Hello& h) { h.layout_hash = 1; }) ==
        "the worker 'w1' lays the model of job 3 out differently (hash 0000000000000001, here "
        "0000000000000abc): its "
        "data or its release differs");
}

TEST_CASE("a server that has forgotten the session makes the client begin a new one") {
  World world(4);
  world.open();
  world.run(1s);
  world.server = SessionHub(0, {}, RandomStream(99));
  world.server.set_admission(Admission{});
  world.run(5s);
  const auto closed = World::all<PeerClosed>(world.at_client);
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].redialling);
  CHECK(World::all<PeerConnected>(world.at_client).size() == 2);
}

TEST_CASE("a silent client is forgotten, and a hub at rest asks for no more than its heartbeats") {
  World world(5);
  world.open();
  world.run(1s);
  const auto sent = world.client.counters().frames_sent;
  world.run(100s);
  CHECK(world.client.counters().frames_sent - sent <= 2 * 101);
  world.cut = true;
  world.run(130s);
  const auto closed = World::all<PeerClosed>(world.at_server);
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].reason == "nothing was heard of it for too long");
}

TEST_CASE("a flushing close delivers what was sent") {
  World world(6);
  world.open();
  world.run(1s);
  for (std::uint64_t i = 0; i < 5; ++i)
    world.client.send(world.now, {kServer, StreamIndex(1), numbered(i, 700'000), 0});
  world.client.close(world.now, {kServer, "finished", true});
  world.run(10s);
  require_in_order(World::all<MessageReceived>(world.at_server), 5);
  const auto closed = World::all<PeerClosed>(world.at_server);
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].reason == "finished");
}

TEST_CASE("no more than the credit is in flight, and no more than the maximum is queued") {
  World world(7);
  world.open();
  world.run(1s);
  world.cut = true;
  const std::size_t megabytes = 300;
  for (std::uint64_t i = 0; i < megabytes; ++i)
    world.client.send(world.now, {kServer, StreamIndex(1), numbered(i, 1 << 20), 0});
  CHECK(world.client.counters().bytes_sent <= SessionOptions().bulk_credit_bytes);
  for (std::uint64_t i = 0; i < 800; ++i)
    world.client.send(world.now, {kServer, StreamIndex(1), numbered(i, 1 << 20), 0});
  world.collect();
  const auto closed = World::all<PeerClosed>(world.at_client);
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].reason == "more than 1073741824 bytes wait for it");
}

TEST_CASE("a hello from before the server's restart, delivered after it, does not revive the session") {
  World world(8);
  world.open();
  // ZeroMQ keeps what it has not sent across reconnects: the restarted server hears the first hellos.
  std::vector<TransmitFrame> hellos;
  for (const TransportRequest& request : world.client.take_requests())
    if (const auto* transmit = std::get_if<TransmitFrame>(&request)) hellos.push_back(*transmit);
  REQUIRE(hellos.size() == 2);
  for (const TransmitFrame& hello : hellos) world.server.on_frame(world.now, hello.route, hello.frame);
  world.run(1s);
  world.client.send(world.now, {kServer, StreamIndex(1), numbered(0, 1000), 0});
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(0, 1000), 0});
  world.run(1s);
  world.server = SessionHub(0, {}, RandomStream(99));
  world.server.set_admission(Admission{});
  for (const TransmitFrame& hello : hellos) world.server.on_frame(world.now, hello.route, hello.frame);
  world.run(5s);
  const auto closed = World::all<PeerClosed>(world.at_client);
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].redialling);
  CHECK(World::all<PeerConnected>(world.at_client).size() == 2);
  world.client.send(world.now, {kServer, StreamIndex(1), numbered(1, 1000), 0});
  world.run(5s);
  CHECK(World::all<MessageReceived>(world.at_server).size() == 2);
}

TEST_CASE("what comes before all streams of a session are bound is held up to a maximum, then it is closed") {
  World world(1);
  world.open();
  std::vector<TransmitFrame> hellos;
  for (const TransportRequest& request : world.client.take_requests())
    if (const auto* transmit = std::get_if<TransmitFrame>(&request)) hellos.push_back(*transmit);
  REQUIRE(hellos.size() == 2);
  world.server.on_frame(world.now, hellos[0].route, hellos[0].frame);  // the second never comes
  Frame frame;
  frame.kind = FrameKind::kData;
  frame.session = hellos[0].frame.session;
  frame.message_header = encode_message(Leave{}).header;
  for (; frame.sequence < 5000 && world.server.counters().sessions_overfull == 0; ++frame.sequence)
    world.server.on_frame(world.now, hellos[0].route, frame);
  CHECK(frame.sequence > 1000);
  CHECK(frame.sequence < 2000);
  CHECK(world.server.counters().sessions_overfull == 1);
  CHECK(World::all<MessageReceived>(world.server.take_events()).empty());
  // It is unknown from then on.
  world.server.on_frame(world.now, hellos[0].route, frame);
  CHECK(world.server.counters().dropped_unknown_session == 1);
}
