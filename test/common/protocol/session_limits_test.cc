// Goal: what strangers, floods, stalled and greedy peers cost a hub is bounded, counted, and paid by them.
// Method: frames made by hand beside an honest client, in virtual time.
#include "common/protocol/session_hub.h"
#include "test/common/protocol/hub_world.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;
using World = HubWorld;

namespace {

/// The server's routes of strangers, beside those of the world's client.
RouteId stranger_route(std::uint64_t number) { return RouteId(1'000'000 + number); }

void require_served(World& world) {
  const std::size_t before = World::all<MessageReceived>(world.at_server).size();
  world.client.send(world.now, {kServer, StreamIndex(1), numbered(0, 300'000), 0});
  world.run(5s);
  REQUIRE(World::all<MessageReceived>(world.at_server).size() == before + 1);
}

/// A session of one stream that has sent a message.
void finish_stranger(SessionHub& hub, ProtocolTime now, std::uint64_t number) {
  hub.on_frame(now, stranger_route(number), hello_frame(number, 0, 1, 1));
  hub.on_frame(now, stranger_route(number), data_frame(number, 0, 0));
}

SharedBytes zero_bytes(std::size_t size) { return SharedBytes::take(std::vector<std::byte>(size)); }

/// The first frame of a message with a payload of so many bytes.
Frame announcing(std::uint64_t session, std::uint64_t payload_bytes, const Message& message) {
  Frame frame = data_frame(session, 0, 0);
  frame.message_header = encode_message(message).header;
  frame.message_payload_bytes = payload_bytes;
  frame.chunk = zero_bytes(static_cast<std::size_t>(std::min<std::uint64_t>(kChunkBytesMax, payload_bytes)));
  return frame;
}

}  // namespace

TEST_CASE("a connection carries one session, however many it says hello for") {
  World world(1);
  for (std::uint64_t i = 1; i <= 10'000; ++i)
    world.server.on_frame(world.now, stranger_route(0), hello_frame(i, 0, 1));
  CHECK(world.server.counters().dropped_wrong_route == 9999);
  CHECK(frames_of(world.server, FrameKind::kHelloAccepted).size() == 1);
  world.open();
  world.run(1s);
  require_served(world);
}

TEST_CASE("a flood of hellos over many connections keeps nobody out and is forgotten soon") {
  World world(2);
  std::uint64_t number = 1;
  const auto flood = [&] {
    for (int i = 0; i < 3000; ++i, ++number)
      world.server.on_frame(world.now, stranger_route(number), hello_frame(number, 0, 1));
  };
  flood();
  CHECK(world.server.counters().sessions_displaced == 3000 - 1024);
  world.open();
  world.run(1s);
  flood();
  require_served(world);
  world.run(11s);
  CHECK(world.server.counters().sessions_displaced + world.server.counters().sessions_unfinished == 6000);
  // None of them was ever a peer to the core.
  CHECK(World::all<PeerConnected>(world.at_server).size() == 1);
  CHECK(World::all<PeerClosed>(world.at_server).empty());
  require_served(world);
}

TEST_CASE("a session on which nothing but hellos comes goes early, one that goes on stays") {
  World world(3);
  const auto say_hello = [&](std::uint64_t number) {
    for (std::uint32_t i = 0; i < 2; ++i)
      world.server.on_frame(world.now, stranger_route(2 * number + i), hello_frame(number, i, 1));
  };
  say_hello(1);
  say_hello(2);
  world.server.on_frame(world.now, stranger_route(5), data_frame(2, 1, 0));
  world.run(9s);
  say_hello(1);  // again: that is no more than before
  CHECK(World::all<PeerClosed>(world.at_server).empty());
  world.run(2s);
  REQUIRE(World::all<PeerClosed>(world.at_server).size() == 1);
  CHECK(World::all<PeerClosed>(world.at_server)[0].peer == kFirstAcceptedPeer);
  CHECK(world.server.counters().sessions_unfinished == 1);
}

TEST_CASE("a hub full of finished sessions answers with silence, and the client tries until there is room") {
  SessionOptions small;
  small.sessions_max = 3;
  World world(4, {}, small);
  for (std::uint64_t i = 1; i <= 3; ++i) finish_stranger(world.server, world.now, i);
  world.open();
  world.run(60s);
  CHECK(world.at_client.empty());  // neither refused nor closed
  CHECK(world.server.counters().dropped_no_room > 3);
  CHECK(world.server.counters().hellos_refused == 0);
  world.run(120s);  // the three are forgotten
  CHECK(World::all<PeerConnected>(world.at_client).size() == 1);
  require_served(world);
}

TEST_CASE("a client whose second stream comes late begins anew until both are there") {
  World world(5);
  world.cut_streams = {1};
  world.open();
  world.run(45s);
  CHECK(world.server.counters().sessions_unfinished >= 2);
  CHECK(world.at_client.empty());
  CHECK(world.at_server.empty());
  world.cut_streams.clear();
  world.run(60s);
  CHECK(World::all<PeerConnected>(world.at_client).size() == 1);
  require_served(world);
}

TEST_CASE("a message larger than the session may carry closes it, before it is taken in") {
  for (const std::uint64_t too_much :
       {std::uint64_t{1}, std::uint64_t{300'000}, std::uint64_t{kPayloadBytesMax}}) {
    for (const std::size_t allowed : {std::size_t{0}, std::size_t{299'999}}) {
      if (too_much <= allowed) continue;
      SessionHub hub(0, {}, RandomStream(1));
      hub.set_admission(Admission{JobId(), 0, allowed, 0});
      const ProtocolTime now(1h);
      hub.on_frame(now, RouteId(1), hello_frame(1, 0, 1, 1));
      hub.on_frame(now, RouteId(1), announcing(1, too_much, Push()));
      CHECK(hub.counters().sessions_payload_too_large == 1);
      const auto closes = frames_of(hub, FrameKind::kClose);
      REQUIRE(closes.size() == 1);
      const std::string reason = fmt::format(
          "it announced a message of more than {} payload bytes, the most that this session may carry",
          allowed);
      CHECK(closes[0].frame.text == reason);
      const auto closed = World::all<PeerClosed>(hub.take_events());
      REQUIRE(closed.size() == 1);
      CHECK(closed[0].reason == reason);
    }
  }
}

TEST_CASE("the limit goes by role, and holds towards servers too") {
  SessionHub hub(0, {}, RandomStream(1));
  hub.set_admission(Admission{JobId(), 0, 0, 4096});
  const ProtocolTime now(1h);
  Frame hello = hello_frame(1, 0, 1, 1);
  hello.hello.role = PeerRole::kShard;
  hub.on_frame(now, RouteId(1), hello);
  hub.on_frame(now, RouteId(1), announcing(1, 4096, CutTaken()));
  CHECK(World::all<MessageReceived>(hub.take_events()).size() == 1);

  World world(6);
  world.client.open(world.now, {kServer, "tcp://server", 0, world.hello, 99'999});
  world.run(1s);
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(0, 99'999), 0});
  world.run(1s);
  CHECK(World::all<MessageReceived>(world.at_client).size() == 1);
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(1, 100'000), 0});
  world.run(1s);
  const auto closed = World::all<PeerClosed>(world.at_client);
  REQUIRE(closed.size() == 1);
  CHECK_FALSE(closed[0].redialling);
  CHECK(World::all<PeerClosed>(world.at_server).size() == 1);
}

TEST_CASE("a payload for a type of message that has none closes the session at its first frame") {
  SessionHub hub(0, {}, RandomStream(1));
  hub.set_admission(World::anything());
  const ProtocolTime now(1h);
  hub.on_frame(now, RouteId(1), hello_frame(1, 0, 1, 1));
  hub.on_frame(now, RouteId(1), announcing(1, 1 << 30, Leave()));
  CHECK(hub.counters().sessions_payload_not_allowed == 1);
  CHECK(frames_of(hub, FrameKind::kClose).size() == 1);
}

TEST_CASE("messages that wait are bounded in number too") {
  World world(7);
  world.open();
  world.run(1s);
  world.cut = true;
  std::size_t sent = 0;
  for (; world.client.counters().sessions_overfull == 0 && sent < 200'000; ++sent)
    world.client.send(world.now, {kServer, StreamIndex(0), Leave{}, 0});
  CHECK(sent == 131'072 + 1);
  const auto closed = World::all<PeerClosed>(world.client.take_events());
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].reason == "more than 131072 messages wait for it");
  CHECK(closed[0].redialling);
}

TEST_CASE("when all queues together are too long, the longest goes and comes back") {
  SessionOptions small;
  small.total_queue_bytes_max = 5'000'000;
  World world(8, {}, small);
  world.open();
  world.run(1s);
  for (std::uint64_t i = 1; i <= 3; ++i) finish_stranger(world.server, world.now, i);
  const auto stranger = [](std::uint64_t i) { return PeerId(kFirstAcceptedPeer.value() + i); };
  for (std::uint64_t i = 1; i <= 3; ++i)
    world.server.send(world.now, {stranger(i), StreamIndex(0), numbered(0, i * 700'000), 0});
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(0, 900'000), 0});
  const auto closed = World::all<PeerClosed>(world.server.take_events());
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].peer == stranger(3));
  CHECK(world.server.counters().sessions_over_total == 1);
  world.run(3s);
  CHECK(World::all<MessageReceived>(world.at_client).size() == 1);
  // Its turn: the client is let go, silently, and begins a new session.
  world.cut = true;
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(1, 2'500'000), 0});
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(2, 2'500'000), 0});
  CHECK(world.server.counters().sessions_over_total == 2);
  world.cut = false;
  world.run(10s);
  REQUIRE(World::all<PeerClosed>(world.at_client).size() == 1);
  CHECK(World::all<PeerClosed>(world.at_client)[0].redialling);
  CHECK(World::all<PeerConnected>(world.at_client).size() == 2);
}

TEST_CASE("a hello for more streams than a session may have is refused in words, and costs nothing") {
  World world(9);
  world.server.on_frame(world.now, stranger_route(1), hello_frame(1, 0, 1, kStreamsMax + 1));
  const auto refusals = frames_of(world.server, FrameKind::kHelloRefused);
  REQUIRE(refusals.size() == 1);
  CHECK(refusals[0].frame.text == "a session has 3 streams at most; the worker 'stranger' wants 4");
  CHECK(world.server.counters().hellos_refused == 1);
  CHECK(world.server.next_deadline() == kNever);
  world.server.on_frame(world.now, stranger_route(2), hello_frame(2, kStreamsMax, 1, kStreamsMax + 1));
  CHECK(world.server.counters().dropped_bad_hello == 1);
}

TEST_CASE("when unfinished messages together are too large, who holds the most goes") {
  SessionOptions small;
  small.total_held_bytes_max = 1'000'000;
  World world(9, {}, small);
  world.open();
  world.run(1s);
  for (std::uint64_t i = 1; i <= 5; ++i) {
    world.server.on_frame(world.now, stranger_route(i), hello_frame(i, 0, 1, 1));
    world.server.on_frame(world.now, stranger_route(i), announcing(i, 1'000'000, Push()));
  }
  Frame frame = data_frame(3, 0, 1);
  frame.message_header = {};
  frame.message_payload_bytes = 1'000'000;
  frame.chunk = zero_bytes(kChunkBytesMax);
  for (frame.chunk_offset = kChunkBytesMax; world.server.counters().sessions_over_total == 0;
       ++frame.sequence, frame.chunk_offset += kChunkBytesMax)
    world.server.on_frame(world.now, stranger_route(3), frame);
  CHECK(frame.sequence == 3);  // five chunks, and room for three more of its own
  const auto closed = World::all<PeerClosed>(world.server.take_events());
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].peer == PeerId(kFirstAcceptedPeer.value() + 3));
  require_served(world);
}

TEST_CASE("a peer that is heard but takes nothing is let go; one that was cut off is not") {
  World world(10);
  world.open();
  world.run(1s);
  finish_stranger(world.server, world.now, 1);
  const PeerId stranger(kFirstAcceptedPeer.value() + 1);
  world.server.send(world.now, {stranger, StreamIndex(0), Leave{}, 0});
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(0, 1000), 0});
  world.cut = true;
  for (int i = 0; i < 110; ++i) {
    world.run(1s);
    Frame ping;
    ping.session.words = {1, 1};
    world.server.on_frame(world.now, stranger_route(1), ping);
  }
  CHECK(World::all<PeerClosed>(world.at_server).empty());
  world.cut = false;
  for (int i = 0; i < 20; ++i) {
    world.run(1s);
    Frame ping;
    ping.session.words = {1, 1};
    world.server.on_frame(world.now, stranger_route(1), ping);
  }
  const auto closed = World::all<PeerClosed>(world.at_server);
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].peer == stranger);
  CHECK(closed[0].reason == "it has taken nothing that was sent to it for too long");
  CHECK(world.server.counters().sessions_stalled == 1);
  world.run(30s);
  CHECK(World::all<MessageReceived>(world.at_client).size() == 1);
}

TEST_CASE("random frames from strangers disturb no honest session") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    SessionOptions small;
    small.sessions_max = 20;
    small.unfinished_max = 8;
    small.total_held_bytes_max = 4'000'000;
    World world(seed, {}, small);
    world.loss = static_cast<double>(seed % 3) * 0.05;
    world.open();
    world.run(5s);
    REQUIRE(World::all<PeerConnected>(world.at_client).size() == 1);
    RandomStream random(seed, 77);
    const auto number = [&]() -> std::uint64_t {
      const std::uint64_t pick = random.below(6);
      return pick == 0   ? ~std::uint64_t{0} - random.below(3)
             : pick == 1 ? random.next_u64()
                         : random.below(4);
    };
    const std::uint64_t count = 30;
    for (std::uint64_t i = 0; i < count; ++i) {
      world.client.send(world.now, {kServer, StreamIndex(1), numbered(i, 1 + i * 9000), i + 1});
      world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(i, 1 + i * 9000), 0});
      for (int k = 0; k < 200; ++k) {
        Frame frame =
            random.chance(0.5) ? hello_frame(1 + random.below(30), 0, number()) : data_frame(0, 0, 0);
        frame.kind = static_cast<FrameKind>(1 + random.below(8));
        frame.session.words = {random.below(30), random.below(10) == 0 ? 0u : 1u};
        frame.stream = StreamIndex(
            static_cast<std::uint32_t>(random.below(3) == 0 ? number() : random.below(kStreamsMax)));
        frame.hello.stream_count = 1 + static_cast<std::uint32_t>(random.below(kStreamsMax));
        frame.hello.number = number();
        frame.hello.resumes = random.chance(0.1);
        frame.sequence = number();
        frame.message_payload_bytes = random.chance(0.5) ? 0 : number() % (kPayloadBytesMax + 1);
        frame.chunk_offset = random.chance(0.7) ? 0 : number();
        if (random.chance(0.5))
          frame.chunk = zero_bytes(static_cast<std::size_t>(std::min<std::uint64_t>(
              frame.message_payload_bytes, random.chance(0.5) ? kChunkBytesMax : random.below(2000))));
        if (random.chance(0.3)) frame.message_header = encode_message(Push()).header;
        if (random.chance(0.1)) frame.message_header = {};
        frame.next_expected = number();
        frame.credit_bytes = number();
        frame.acceptance = number();
        // Also through the connections of the honest client's streams, which a stranger does not have: any
        // session but its own must leave it alone.
        const RouteId route =
            random.chance(0.02) ? RouteId(1 + random.below(2)) : stranger_route(random.below(40));
        world.server.on_frame(world.now, route, frame);
      }
      world.run(world.milliseconds(1, 300));
    }
    world.run(60s);
    std::vector<MessageReceived> at_server;
    for (const MessageReceived& received : World::all<MessageReceived>(world.at_server))
      if (received.peer == kFirstAcceptedPeer) at_server.push_back(received);
    require_in_order(at_server, count);
    require_in_order(World::all<MessageReceived>(world.at_client), count);
    REQUIRE(World::all<PeerClosed>(world.at_client).empty());
    for (const PeerClosed& closed : World::all<PeerClosed>(world.at_server))
      REQUIRE(closed.peer != kFirstAcceptedPeer);
  }
}
