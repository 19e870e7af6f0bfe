// Goal: queues between a transport and its cores have room for so much, drop the rest by name, and lose no
// request. Method: a thread that is held up, and more frames than there is room for.
#include <future>

#include "test/e2e/transport/node.h"
#include "test/e2e/transport/raw_peer.h"

using namespace nanduti;

namespace {

std::uint64_t count_of(const std::vector<NamedCount>& counts, std::string_view name) {
  for (const NamedCount& count : counts)
    if (count.name == name) return count.count;
  FAIL("there is no counter " << name);
  return 0;
}

}  // namespace

TEST_CASE("a core that is held up finds its mailbox full, not endless, and what was dropped counted") {
  constexpr std::size_t kTooMany = 1000;
  Node server("tcp://127.0.0.1:*", 3, true);
  HeldCore held(server);  // with an empty mailbox: nothing has been sent yet
  RawPeer peer(server.transport->endpoint());
  peer.shake_hands();
  Frame frame;
  frame.destination = 3;
  const EncodedFrame encoded = encode_frame(frame);
  const std::string ping =
      wire_part({reinterpret_cast<const char*>(encoded.header.data()), encoded.header.size()}, false);
  std::string pings;
  for (std::size_t i = 0; i < kMailboxFramesMax + kTooMany; ++i) pings += ping;
  REQUIRE(peer.send(pings));
  for (int i = 0; i < 4000 && server.transport->counters().frames_in < kMailboxFramesMax + kTooMany; ++i)
    std::this_thread::sleep_for(5ms);
  held.release();
  const std::vector<NamedCount> counts = server.runner->counters();
  CHECK(count_of(counts, "mailbox_dropped_frames") == kTooMany);
  CHECK(count_of(counts, "mailbox_dropped_bytes") > kTooMany * sizeof(Frame));
  CHECK(count_of(counts, "frames_received") == kMailboxFramesMax);
  server.runner->stop();  // counters are there afterwards, too
  CHECK(server.runner->counters().size() == counts.size());
}

TEST_CASE("frames beyond the outbox's room are dropped and counted, dials and hang-ups never") {
  constexpr std::size_t kTooMany = 1000;
  Node server("tcp://127.0.0.1:*", 0, true);
  TransportOptions options;
  options.listen = "tcp://127.0.0.1:*";
  auto transport = std::move(ZmqTransport::start(options)).value();
  // The transport's thread is held in a receiver.
  std::promise<void> reached, release;
  transport->attach(7, [&](RouteId, const Frame&, std::size_t) {
    reached.set_value();
    release.get_future().wait();
  });
  RawPeer peer(transport->endpoint());
  peer.shake_hands();
  Frame frame;
  frame.destination = 7;
  const EncodedFrame encoded = encode_frame(frame);
  REQUIRE(
      peer.send_part({reinterpret_cast<const char*>(encoded.header.data()), encoded.header.size()}, false));
  reached.get_future().wait();

  constexpr RouteId kRoute{std::uint64_t{1} << 32}, kNowhere{(std::uint64_t{1} << 32) + 9};
  for (std::size_t i = 0; i < kOutboxFramesMax + kTooMany; ++i)
    transport->submit(1, {TransmitFrame{kNowhere, Frame()}});

  transport->submit(1,
                    {DialRoute{kRoute, server.transport->endpoint(), false}, TransmitFrame{kRoute, Frame()}});
  release.set_value();
  const auto eventually = [&](auto condition) {
    for (int i = 0; i < 4000; ++i) {
      if (condition(transport->counters())) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  };
  CHECK(eventually([](const TransportCounters& c) { return c.connections_dialled == 1; }));
  CHECK(transport->counters().dropped_outbox_full == kTooMany + 1);
  CHECK(transport->counters().dropped_no_route == kOutboxFramesMax);
  transport->submit(1, {HangUpRoute{kRoute}});
  CHECK(eventually([](const TransportCounters& c) { return c.connections_closed == 1; }));
}

TEST_CASE("what a core asks for after one event is carried out before the next, however many come at once") {
  constexpr std::size_t kMessages = 200;
  Node server("tcp://127.0.0.1:*", 3, true);
  Node client(std::nullopt, 0, false);
  client.runner->post(OpenPeer{kServer, server.transport->endpoint(), 3, good_hello(), kPayloadBytesMax});
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.connected == 1; }));
  HeldCore held(server);
  const std::uint64_t before = server.transport->counters().frames_in;
  for (std::size_t i = 0; i < kMessages; ++i)
    client.runner->post(SendMessage{kServer, StreamIndex(1), CutValues{JobId(1), CutId(i), pattern(8)}});
  for (int i = 0; i < 4000 && server.transport->counters().frames_in < before + kMessages; ++i)
    std::this_thread::sleep_for(5ms);
  held.release();
  REQUIRE(client.wait_for([](const RecordingCore& core) { return core.messages.size() == kMessages; }));
  CHECK(server.wait_for([](const RecordingCore& core) { return core.messages.size() == kMessages; }));
  server.runner->run([](const RecordingCore& core, ProtocolTime) { CHECK(core.actions_waiting == 0); });
}
