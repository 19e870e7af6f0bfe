// Goal: below ZeroMQ, no stranger can make a server hold more than a named maximum, nor many connections for
// long; an honest session beside it goes on. Method: raw TCP clients that speak ZMTP 3 as badly as they like.
#include <deque>

#include "test/e2e/transport/node.h"
#include "test/e2e/transport/raw_peer.h"

using namespace nanduti;

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kIsInstrumented = true;
#else
constexpr bool kIsInstrumented = false;
#endif

/// A session that echoes, beside whatever is done to its server.
struct HonestPair {
  explicit HonestPair(const ConnectionLimits& limits = {}, std::chrono::milliseconds handshake_within = 5s)
      : server(options(limits, handshake_within), 3, true) {
    client.runner->post(OpenPeer{kServer, server.transport->endpoint(), 3, good_hello(), kPayloadBytesMax});
    REQUIRE(client.wait_for([](const RecordingCore& core) { return core.connected == 1; }));
  }
  static TransportOptions options(const ConnectionLimits& limits,
                                  std::chrono::milliseconds handshake_within) {
    TransportOptions options;
    options.listen = "tcp://127.0.0.1:*";
    options.connections = limits;
    options.handshake_within = handshake_within;
    return options;
  }
  /// A message there and back, on the same session as ever.
  void check_echo() {
    const std::size_t before = heard();
    client.runner->post(
        SendMessage{kServer, StreamIndex(1), CutValues{JobId(1), CutId(7), pattern(1'000'000)}, 0});
    CHECK(client.wait_for([&](const RecordingCore& core) { return core.messages.size() == before + 1; }));
    CHECK(client.wait_for([](const RecordingCore& core) { return core.connected == 1 && core.closed == 0; }));
  }
  std::size_t heard() {
    std::size_t count = 0;
    client.runner->run([&](RecordingCore& core, ProtocolTime) { count = core.messages.size(); });
    return count;
  }

  Node server;
  Node client{std::nullopt, 0, false};
};

std::string ping_for(std::uint32_t destination) {
  Frame frame;
  frame.destination = destination;
  const EncodedFrame encoded = encode_frame(frame);
  return {reinterpret_cast<const char*>(encoded.header.data()), encoded.header.size()};
}

/// Sends `part` with the MORE flag until the connection ends, or a gigabyte is held. Bytes that left.
std::size_t send_for_ever(RawPeer& peer, std::string_view part) {
  const std::size_t kGivenUp = part.empty() ? std::size_t{32} << 20 : std::size_t{1} << 30;
  std::string bytes;
  while (bytes.size() < 65536) bytes += wire_part(part, true);
  std::size_t sent = 0;
  while (sent < kGivenUp && peer.send(bytes)) sent += bytes.size();
  return sent;
}

}  // namespace

TEST_CASE("a message that never ends costs a bounded amount of memory, and its connection") {
  // Parts as large as chunks, as small as ZeroMQ has them, and empty ones: 64 bytes in memory for 2 on the
  // wire.
  const std::size_t part_bytes = GENERATE(std::size_t{128 * 1024}, std::size_t{34}, std::size_t{0});
  HonestPair pair;
  pair.check_echo();
  RawPeer stranger(pair.server.transport->endpoint());
  stranger.shake_hands();
  REQUIRE(stranger.send_part(ping_for(3), false));  // one good frame: it is not a silent connection
  REQUIRE(
      pair.server.wait_for_counters([](const TransportCounters& c) { return c.connections_accepted == 3; }));

  reset_peak_memory();
  const ProcessMemory before = process_memory();
  const std::size_t sent = send_for_ever(stranger, std::string(part_bytes, 'x'));
  REQUIRE(
      pair.server.wait_for_counters([](const TransportCounters& c) { return c.shut_down_unfinished == 1; }));
  const std::size_t peak = process_memory().peak;
  const std::size_t grown = peak - std::min(peak, before.resident);
  fmt::print("parts of {} bytes: {:.1f} MiB sent, memory grew by {:.1f} MiB; the maximum is {:.1f} MiB\n",
             part_bytes, static_cast<double>(sent) / 0x1p20, static_cast<double>(grown) / 0x1p20,
             static_cast<double>(kUnfinishedBytesMax) / 0x1p20);
  CHECK(sent < kUnfinishedBytesMax +
                   (std::size_t{96} << 20));  // the kernels' buffers and what a check comes too late for
  // Sanitizers multiply memory, and keep what is freed.
  if (!kIsInstrumented) CHECK(grown < (std::size_t{400} << 20));
  CHECK(pair.server.wait_for_counters([](const TransportCounters& c) { return c.connections_closed == 1; }));
  pair.check_echo();
}

TEST_CASE("a message of too many parts costs its sender the connection") {
  HonestPair pair;
  RawPeer stranger(pair.server.transport->endpoint());
  stranger.shake_hands();
  REQUIRE(stranger.send_part(ping_for(3), false));
  for (int i = 0; i < 2; ++i) REQUIRE(stranger.send_part("part", true));
  REQUIRE(stranger.send_part("part", false));
  CHECK(stranger.is_closed_within(20s));
  CHECK(pair.server.wait_for_counters([](const TransportCounters& c) {
    return c.dropped_too_many_parts == 1 && c.shut_down_too_many_parts == 1 && c.connections_closed == 1;
  }));
  pair.check_echo();
}

TEST_CASE("the connection beyond the maximum is shut down, and there is room again when one has ended") {
  ConnectionLimits limits;
  limits.accepted_max = 4;  // the honest session has two
  HonestPair pair(limits);
  std::deque<RawPeer> strangers;
  for (int i = 0; i < 2; ++i) {
    strangers.emplace_back(pair.server.transport->endpoint());
    strangers.back().shake_hands();
  }
  RawPeer one_more(pair.server.transport->endpoint());
  CHECK(one_more.is_closed_within(20s));
  CHECK(pair.server.wait_for_counters(
      [](const TransportCounters& c) { return c.shut_down_over_maximum == 1; }));
  pair.check_echo();
  strangers.pop_front();
  REQUIRE(
      pair.server.wait_for_counters([](const TransportCounters& c) { return c.connections_closed == 2; }));
  RawPeer welcome(pair.server.transport->endpoint());
  welcome.shake_hands();
  REQUIRE(welcome.send_part(ping_for(99), false));
  CHECK(pair.server.wait_for_counters([](const TransportCounters& c) { return c.dropped_no_receiver == 1; }));
}

TEST_CASE(
    "an accepted connection that brings no frame is shut down; one that has brought one may be silent") {
  ConnectionLimits limits;
  limits.first_frame_within = 400ms;
  HonestPair pair(limits);
  RawPeer quiet(pair.server.transport->endpoint());
  quiet.shake_hands();
  RawPeer malformed(pair.server.transport->endpoint());
  malformed.shake_hands();
  REQUIRE(malformed.send_part("not a frame", false));
  RawPeer good(pair.server.transport->endpoint());
  good.shake_hands();
  REQUIRE(good.send_part(ping_for(3), false));
  CHECK(quiet.is_closed_within(20s));
  CHECK(malformed.is_closed_within(20s));
  CHECK(pair.server.wait_for_counters([](const TransportCounters& c) { return c.shut_down_silent == 2; }));
  CHECK_FALSE(good.is_closed_within(1s));
  pair.check_echo();
}

TEST_CASE("who never greets, or a byte at a time, does not stay") {
  ConnectionLimits limits;
  limits.first_frame_within = 1h;
  HonestPair pair(limits, 300ms);
  RawPeer nothing(pair.server.transport->endpoint());
  RawPeer slow(pair.server.transport->endpoint());
  bool gone = false;
  for (int i = 0; i < 64 && !gone; ++i) {
    gone = !slow.send(i == 0 ? std::string_view("\xFF") : std::string_view("\0", 1));
    gone = gone || slow.is_closed_within(50ms);
  }
  CHECK(gone);
  CHECK(nothing.is_closed_within(20s));
  CHECK(pair.server.wait_for_counters(
      [](const TransportCounters& c) { return c.connections_closed == 2 && c.handshakes_failed == 2; }));
  pair.check_echo();
}

TEST_CASE("what is not ZeroMQ at all ends by itself") {
  ConnectionLimits limits;
  limits.first_frame_within = 800ms;
  HonestPair pair(limits, 300ms);
  RawPeer browser(pair.server.transport->endpoint());
  REQUIRE(browser.send("GET / HTTP/1.1\r\nHost: there\r\n\r\n"));
  RawPeer noise(pair.server.transport->endpoint());
  std::string bytes;
  for (std::uint32_t i = 0; i < 100'000; ++i) bytes += static_cast<char>(i * 2654435761u >> 24);
  (void)noise.send(bytes);
  CHECK(browser.is_closed_within(20s));
  CHECK(noise.is_closed_within(20s));
  const bool all_closed =
      pair.server.wait_for_counters([](const TransportCounters& c) { return c.connections_closed == 2; });
  INFO(to_text(pair.server.transport->counters().named()));
  CHECK(all_closed);
  pair.check_echo();
}
