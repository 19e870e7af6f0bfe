// Goal: streams move from route to route, one dies, the other side is gone: sessions go on, or end as
// defined. Method: two hubs, a network whose connections change beneath them and deliver late, in virtual
// time.
#include "test/common/protocol/hub_world.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;
using World = HubWorld;

TEST_CASE("streams that move while old frames still come lose and repeat nothing, in either direction") {
  for (std::uint64_t seed = 1; seed <= 80; ++seed) {
    INFO("seed " << seed);
    SessionOptions options;
    options.redial_after = 1500ms;
    World world(seed, options);
    world.hello.stream_count = 1 + static_cast<std::uint32_t>(seed / 4 % kStreamsMax);
    world.loss = static_cast<double>(seed % 4) * 0.05;
    world.duplication = static_cast<double>(seed % 3) * 0.2;
    world.dribble = static_cast<double>(seed % 5) * 0.05;
    world.delay_max_ms = seed % 2 == 0 ? 30 : 400;
    world.open();
    for (int i = 0; i < 60 && World::all<PeerConnected>(world.at_client).empty(); ++i) world.run(1s);
    REQUIRE(World::all<PeerConnected>(world.at_client).size() == 1);
    world.run(5s);  // the server has it as a finished one, whatever comes
    const std::size_t sessions_before = World::all<PeerConnected>(world.at_server).size();
    REQUIRE(sessions_before >= 1);
    const PeerId peer = World::all<PeerConnected>(world.at_server).back().peer;
    // Messages of each stream and direction are numbered for themselves.
    std::vector<std::uint64_t> sent(world.hello.stream_count);
    const auto message = [](std::size_t stream, std::uint64_t number, std::size_t bytes) {
      Message m = numbered(number, bytes);
      std::get<Push>(m).round = Round(stream);
      return m;
    };
    for (int step = 0; step < 40; ++step) {
      const auto stream = static_cast<std::uint32_t>(world.random.below(world.hello.stream_count));
      const std::size_t bytes = static_cast<std::size_t>(1 + world.random.below(400'000));
      world.client.send(world.now, {kServer, StreamIndex(stream), message(stream, sent[stream], bytes), 0});
      world.server.send(world.now, {peer, StreamIndex(stream), message(stream, sent[stream], bytes), 0});
      ++sent[stream];
      for (std::uint64_t moves = world.random.below(3); moves > 0; --moves) {
        auto which = world.accepted_as.begin();
        std::advance(which, static_cast<std::ptrdiff_t>(world.random.below(world.accepted_as.size())));
        world.reconnect(which->first);
      }
      // Some of the streams are cut now and then, long enough for a redial or two.
      world.cut_streams.clear();
      if (world.random.chance(0.3))
        world.cut_streams.insert(static_cast<std::uint32_t>(world.random.below(world.hello.stream_count)));
      world.cut_down = world.random.chance(0.1);
      world.cut_up = world.random.chance(0.1);
      world.run(world.milliseconds(1, 4000));
    }
    world.cut_streams.clear();
    world.cut_down = world.cut_up = false;
    world.run(300s);
    CHECK(world.server.counters().route_changes > 0);
    for (const auto* events : {&world.at_client, &world.at_server}) {
      std::vector<std::uint64_t> got(sent.size());
      for (const MessageReceived& received : World::all<MessageReceived>(*events)) {
        const Push& push = std::get<Push>(received.message);
        REQUIRE(push.sequence.value() == got.at(push.round.value())++);
      }
      REQUIRE(got == sent);
      REQUIRE(World::all<PeerClosed>(*events).empty());
    }
    REQUIRE(World::all<PeerConnected>(world.at_client).size() == 1);
    REQUIRE(World::all<PeerConnected>(world.at_server).size() == sessions_before);
    REQUIRE(world.client.outstanding_bytes(kServer) == 0);
    REQUIRE(world.server.outstanding_bytes(peer) == 0);
  }
}

TEST_CASE("a delayed hello of an older route does not take the stream back") {
  World world(1);
  world.open();
  world.run(1s);
  REQUIRE(world.hellos.size() == 2);
  const std::vector<TransmitFrame> old = world.hellos;
  world.cut = true;
  world.run(6s);  // both streams are dialled again
  world.cut = false;
  world.run(2s);
  REQUIRE(world.server.counters().route_changes == 2);
  for (int i = 0; i < 3; ++i) {
    for (const TransmitFrame& hello : old) world.server.on_frame(world.now, hello.route, hello.frame);
    // The same hello as the newest, but from somewhere else.
    TransmitFrame newest = world.hellos.back();
    world.server.on_frame(world.now, RouteId(9'999), newest.frame);
  }
  CHECK(world.server.counters().dropped_old_hello == 9);
  CHECK(world.server.counters().route_changes == 2);
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(0, 1000), 0});
  world.run(100ms);
  CHECK(World::all<MessageReceived>(world.at_client).size() == 1);
}

TEST_CASE("a connection that changes beneath a route is found by the next heartbeats, without a redial") {
  World world(2);
  world.open();
  world.run(10s);
  const std::map<RouteId, RouteId> routes = world.accepted_as;
  for (const auto& entry : routes) world.reconnect(entry.first);
  world.server.send(world.now, {kFirstAcceptedPeer, StreamIndex(1), numbered(0, 1000), 0});
  world.run(4s);
  CHECK(World::all<MessageReceived>(world.at_client).size() == 1);
  CHECK(world.client.counters().redials == 0);
  CHECK(world.server.counters().route_changes == 2);
}

TEST_CASE("of two streams only the dead one is dialled again, and the session lives as long as the other") {
  World world(3);
  world.open();
  world.run(1s);
  world.dials.clear();
  world.cut_streams = {1};
  world.client.send(world.now, {kServer, StreamIndex(1), numbered(0, 300'000), 0});
  world.run(600s);
  CHECK(world.dials.size() > 10);
  for (const auto& dial : world.dials) CHECK(dial.second);  // bulk
  CHECK(World::all<PeerClosed>(world.at_client).empty());
  CHECK(World::all<PeerClosed>(world.at_server).empty());
  world.cut_streams.clear();
  world.run(40s);
  CHECK(World::all<MessageReceived>(world.at_server).size() == 1);
}

TEST_CASE("redials back off up to the maximum while the server is gone, and begin again at the minimum") {
  World world(4);
  world.hello.stream_count = 1;
  world.open();
  world.run(1s);
  for (int outage = 0; outage < 2; ++outage) {
    world.dials.clear();
    const ProtocolTime begin = world.now;
    world.cut = true;
    world.run(100s);
    REQUIRE(world.dials.size() >= 4);
    CHECK(world.dials[0].first - begin <= 5s);
    Duration expected = 10s;
    for (std::size_t i = 1; i < world.dials.size(); ++i) {
      const Duration waited = world.dials[i].first - world.dials[i - 1].first;
      CHECK(waited <= expected);
      CHECK(waited >= expected * 9 / 10 - 1ms);
      expected = std::min<Duration>(waited * 2, 30s);
    }
    world.cut = false;
    world.run(60s);
    CHECK(World::all<PeerClosed>(world.at_client).empty());  // within the server's forget_after
  }
}

TEST_CASE("a dial waits for an answer for one and a half round trips, the next ones longer, some patiently") {
  World world(4);
  world.hello.stream_count = 1;
  world.delay_max_ms = 200;  // 201 ms for a round trip in the mean
  world.open();
  world.run(60s);
  CHECK(world.answers_within == std::vector<Duration>{2s});
  for (int outage = 0; outage < 2; ++outage) {
    world.answers_within.clear();
    world.cut = true;
    world.run(115s);  // within the server's forget_after
    REQUIRE(world.answers_within.size() >= 5);
    const Duration first = world.answers_within[0];
    CHECK(first >= 250ms);
    CHECK(first < 450ms);
    for (std::size_t i = 0; i < world.answers_within.size(); ++i) {
      INFO("outage " << outage << ", dial " << i);
      CHECK(world.answers_within[i] == (i % 4 == 3 ? 2s : std::min<Duration>(first * (1 << i % 4), 2s)));
    }
    world.cut = false;
    world.run(60s);
  }
}

TEST_CASE("a dial helps when more than its hello is answered, and the back-off goes on until then") {
  SessionHub hub(0, {}, RandomStream(1));
  ProtocolTime now(1h);
  const Hello hello{
      kProtocolVersion, kCodecFormat, "0.1.0", PeerRole::kWorker, "w1", JobId(), 0, 1, false, 0};
  hub.open(now, {kServer, "tcp://server", 0, hello, 0});
  std::vector<ProtocolTime> dials;
  std::set<RouteId> answered;
  bool answers_pings = false;
  const auto run = [&](Duration span) {
    for (const ProtocolTime end = now + span; now < end;) {
      for (const TransportRequest& request : hub.take_requests()) {
        if (std::holds_alternative<DialRoute>(request)) dials.push_back(now);
        const auto* sent = std::get_if<TransmitFrame>(&request);
        if (sent == nullptr) continue;
        Frame answer;
        answer.session = sent->frame.session;
        answer.kind = FrameKind::kAck;
        if (sent->frame.kind == FrameKind::kHello && answered.insert(sent->route).second) {
          answer.kind = FrameKind::kHelloAccepted;
          answer.acceptance = 7;
        } else if (!answers_pings) {
          continue;
        }
        hub.on_frame(now, sent->route, answer);
      }
      now = std::min(end, std::max(now + 1ms, hub.next_deadline()));
      hub.on_deadline(now);
    }
  };
  run(300s);
  CHECK(dials.size() >= 10);
  CHECK(dials.size() <= 15);  // 60 if each began anew
  answers_pings = true;
  run(60s);
  const std::size_t before = dials.size();
  run(300s);
  CHECK(dials.size() == before);
  answers_pings = false;
  const ProtocolTime silent = now;
  run(10s);
  REQUIRE(dials.size() > before);
  CHECK(dials[before] - silent <= 5s);
}

TEST_CASE("a server that ends every session is asked again less and less often") {
  SessionHub hub(0, {}, RandomStream(1));
  ProtocolTime now(1h);
  Hello hello{kProtocolVersion, kCodecFormat, "0.1.0", PeerRole::kWorker, "w1", JobId(), 0, 2, false, 0};
  hub.open(now, {kServer, "tcp://server", 0, hello, 0});
  std::size_t hellos = 0;
  const ProtocolTime end = now + 60s;
  while (now < end) {
    for (const TransmitFrame& sent : frames_of(hub, FrameKind::kHello)) {
      ++hellos;
      Frame unknown;
      unknown.kind = FrameKind::kUnknownSession;
      unknown.session = sent.frame.session;
      unknown.stream = sent.frame.stream;
      hub.on_frame(now, sent.route, unknown);
    }
    now = std::max(now + 1ms, std::min(hub.next_deadline(), end));
    hub.on_deadline(now);
  }
  CHECK(hellos >= 2 * 10);
  CHECK(hellos <= 2 * 20);
  CHECK(hub.counters().restarts == hellos / 2);
  CHECK(hub.take_events().empty());  // it was never connected
}

TEST_CASE("a session whose client is gone ends after forget_after; whose server is gone it waits for ever") {
  World world(6);
  world.open();
  world.run(1s);
  world.cut = true;
  world.run(118s);
  CHECK(World::all<PeerClosed>(world.at_server).empty());
  world.run(4s);
  CHECK(World::all<PeerClosed>(world.at_server).size() == 1);
  CHECK(world.server.counters().sessions_forgotten == 1);
  world.run(3600s);
  CHECK(World::all<PeerClosed>(world.at_client).empty());
  world.cut = false;
  world.run(60s);  // it learns that the session is gone, and has a new one
  REQUIRE(World::all<PeerClosed>(world.at_client).size() == 1);
  CHECK(World::all<PeerClosed>(world.at_client)[0].redialling);
  CHECK(World::all<PeerConnected>(world.at_client).size() == 2);
}

TEST_CASE("a session goes on over new routes although its server admits nobody new") {
  World world(1);
  world.open();
  world.run(2s);
  REQUIRE(World::all<PeerConnected>(world.at_server).size() == 1);
  world.server.set_admission(std::nullopt);
  world.cut = true;  // until the client has dialled again
  world.run(20s);
  world.cut = false;
  world.client.send(world.now, {kServer, StreamIndex(1), numbered(1, 1000), 0});
  world.run(40s);
  CHECK(World::all<MessageReceived>(world.at_server).size() == 1);
  CHECK(World::all<PeerClosed>(world.at_client).empty());
}
