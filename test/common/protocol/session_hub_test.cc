// Goal: messages arrive once and in order whatever the network does; hellos are refused in words.
// Method: two hubs joined by a virtual network with seeded loss, duplication, delay and route failures.
#include "common/protocol/session_hub.h"

#include "test/common/protocol/hub_world.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;
using World = HubWorld;

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
    world.server.set_admission(Admission{JobId(3), 0xabc, 0, 0});
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
  CHECK(refusal([](Hello& h) { h.protocol_version = 99; }) ==
        fmt::format(
            "this server speaks protocol version {}, the worker 'w1' (program 0.1.0) version 99: run the "
            "same release on both sides",
            kProtocolVersion));
  CHECK(refusal([](Hello& h) { h.codec_format = 3; }) ==
        "this server codes updates in format 2, the worker 'w1' (program 0.1.0) in format 3: run the same "
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
  world.server.set_admission(World::anything());
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

TEST_CASE("of three streams the last one is in the background: it begins with a chunk") {
  World world(7);
  world.hello.stream_count = 3;
  world.open();
  world.run(1s);
  world.cut = true;
  const auto sent_at_once = [&](std::uint32_t stream) {
    const std::uint64_t before = world.client.counters().bytes_sent;
    world.client.send(world.now, {kServer, StreamIndex(stream), numbered(0, 4 << 20), 0});
    return world.client.counters().bytes_sent - before;
  };
  CHECK(sent_at_once(2) < 2 * kChunkBytesMax);
  CHECK(sent_at_once(1) > 4 * kChunkBytesMax);
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
  world.run(1s);
  const std::vector<TransmitFrame> hellos = world.hellos;
  REQUIRE(hellos.size() == 2);
  world.client.send(world.now, {kServer, StreamIndex(1), numbered(0, 1000), 0});
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(0, 1000), 0});
  world.run(1s);
  world.server = SessionHub(0, {}, RandomStream(99));
  world.server.set_admission(World::anything());
  // ZeroMQ keeps what it has not sent across reconnects: the restarted server hears the first hellos.
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

TEST_CASE(
    "data that comes before all streams of a session are bound is dropped, and taken when it comes again") {
  SessionHub hub(0, {}, RandomStream(1));
  hub.set_admission(World::anything());
  const ProtocolTime now(1h);
  hub.on_frame(now, RouteId(1), hello_frame(7, 0, 1));  // the other stream's is late
  for (int i = 0; i < 5000; ++i) hub.on_frame(now, RouteId(1), data_frame(7, 0, 0));
  CHECK(hub.counters().dropped_not_connected == 5000);
  CHECK(hub.take_events().empty());
  hub.on_frame(now, RouteId(2), hello_frame(7, 1, 1));
  hub.on_frame(now, RouteId(1), data_frame(7, 0, 0));
  const auto events = hub.take_events();
  REQUIRE(events.size() == 2);
  CHECK(std::holds_alternative<PeerConnected>(events[0]));
  CHECK(std::holds_alternative<MessageReceived>(events[1]));
}

TEST_CASE("every counter has a name") {
  const auto counts = SessionHub::Counters().named();
  CHECK(counts.size() * sizeof(std::uint64_t) == sizeof(SessionHub::Counters));
  std::set<std::string_view> names;
  for (const NamedCount& count : counts) names.insert(count.name);
  CHECK(names.size() == counts.size());
}

TEST_CASE("bytes that the other side has are counted once, and those that are sent in vain are not") {
  World world(10);
  world.open();
  world.run(1s);
  const auto acked = [&] { return world.client.counters().bytes_acked; };
  const std::uint64_t before = acked();
  world.cut = true;
  world.client.send(world.now, {kServer, StreamIndex(1), numbered(0, 900'000), 0});
  const std::size_t bytes = world.client.outstanding_bytes(kServer);
  world.run(40s);
  CHECK(world.client.counters().bytes_sent >= bytes);
  CHECK(acked() == before);
  world.cut = false;
  world.run(60s);
  CHECK(world.client.counters().bytes_sent > bytes);
  CHECK(acked() == before + bytes);
}

TEST_CASE("nothing follows a close, even while it flushes") {
  World world(9);
  world.open();
  world.run(1s);
  world.cut_up = true;
  world.client.send(world.now, {kServer, StreamIndex(1), numbered(0, 1000), 5});
  world.client.close(world.now, {kServer, "finished", true});
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(0, 1000), 0});
  world.at_client.clear();
  world.run(1s);
  world.cut_up = false;
  world.run(20s);
  CHECK(world.at_client.empty());
  CHECK(world.client.counters().messages_after_close == 1);
  CHECK(World::all<MessageReceived>(world.at_server).size() == 1);
}
