// Goal: what was lost is sent again soon, once, and nothing else is. Method: two ends of a stream, between
// which the test carries the frames, and leaves out which it likes; and links of a rate that lose frames.
#include <algorithm>

#include "common/protocol/reliable_link.h"
#include "test/common/protocol/link_world.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

using Sequences = std::vector<std::uint64_t>;

struct Pair {
  void queue(int messages) {
    for (int i = 0; i < messages; ++i) sender.queue(encode_message(Leave{}), 0);
  }
  /// What the sender has to send now, data only.
  std::vector<Frame> sent() { return data_of(sender.take_frames(now)); }
  static std::vector<Frame> data_of(std::vector<Frame> frames) {
    frames.erase(std::remove_if(frames.begin(), frames.end(),
                                [](const Frame& f) { return f.kind != FrameKind::kData; }),
                 frames.end());
    return frames;
  }
  void deliver(const Frame& frame) {
    receiver.on_frame(now, frame);
    received += receiver.take_messages().size();
  }
  /// The receiver's next acknowledgement.
  Frame answer() {
    receiver.ack_now();
    const std::vector<Frame> frames = receiver.take_frames(now);
    REQUIRE(frames.size() == 1);
    return frames[0];
  }
  void acknowledge() { sender.on_frame(now, answer()); }
  /// A heartbeat that the other side answers.
  void ping() {
    Frame frame;
    frame.kind = FrameKind::kPing;
    sender.stamp(frame);
    deliver(frame);
    acknowledge();
  }
  /// What is sent until then, and never delivered.
  Sequences sent_within(Duration span) {
    Sequences sequences;
    const ProtocolTime end = now + span;
    while (sender.next_deadline() <= end) {
      now = std::max(now, sender.next_deadline());
      for (const Frame& frame : sent()) sequences.push_back(frame.sequence);
    }
    now = end;
    return sequences;
  }

  ReliableLink sender{LinkOptions()};
  ReliableLink receiver{LinkOptions()};
  ProtocolTime now{1h};
  std::size_t received = 0;
};

/// A pair that knows its path: 100 ms there and back.
Pair measured_pair() {
  Pair pair;
  pair.queue(1);
  const std::vector<Frame> first = pair.sent();
  pair.now += 100ms;
  pair.deliver(first.at(0));
  pair.acknowledge();
  return pair;
}

/// Then by a queue of its own: the round trip is 10 s, give or take a few.
Pair delayed_pair() {
  Pair pair = measured_pair();
  for (int i = 0; i < 20; ++i) pair.sender.measure(10s);
  return pair;
}

}  // namespace

TEST_CASE("a lost frame is sent again when a newer one has arrived, however long the round trip was") {
  Pair pair = delayed_pair();
  pair.queue(4);
  const std::vector<Frame> frames = pair.sent();
  pair.now += 100ms;
  for (const std::size_t i : {0, 2, 3}) pair.deliver(frames.at(i));
  pair.acknowledge();
  CHECK(pair.sent_within(30ms) == Sequences{2});
}

TEST_CASE("a lost last frame is found by the next heartbeat") {
  Pair pair = delayed_pair();
  pair.queue(2);
  const std::vector<Frame> frames = pair.sent();
  pair.now += 100ms;
  pair.deliver(frames.at(0));
  pair.acknowledge();
  CHECK(pair.sent_within(1s).empty());
  pair.ping();
  CHECK(pair.sent_within(30ms) == Sequences{2});
}

TEST_CASE("a frame that is lost again is sent again") {
  Pair pair = delayed_pair();
  pair.queue(2);
  pair.deliver(pair.sent().at(1));
  pair.acknowledge();
  for (int i = 0; i < 5; ++i) {
    CHECK(pair.sent_within(1s) == Sequences{1});
    pair.ping();
  }
}

TEST_CASE("a frame is missing although one before it has been sent again since") {
  Pair pair = measured_pair();
  pair.queue(2);
  (void)pair.sent();
  Frame ping;
  ping.kind = FrameKind::kPing;
  pair.sender.stamp(ping);
  pair.now = pair.sender.next_deadline();
  REQUIRE(pair.sent().at(0).sequence == 1);
  pair.deliver(ping);
  pair.acknowledge();
  CHECK(pair.sent_within(30ms) == Sequences{2});
}

TEST_CASE("what is held beyond a gap is not sent again, in as many runs as can be named") {
  Pair pair = measured_pair();
  pair.queue(40);
  const std::vector<Frame> frames = pair.sent();  // sequences 1 to 40
  Sequences missing;
  for (const Frame& frame : frames) {
    if (frame.sequence % 4 == 1 && frame.sequence < 30)
      missing.push_back(frame.sequence);
    else
      pair.deliver(frame);
  }
  CHECK(pair.answer().held ==
        std::vector<HeldRange>{{2, 5}, {6, 9}, {10, 13}, {14, 17}, {18, 21}, {22, 25}, {26, 29}, {30, 41}});
  pair.acknowledge();
  CHECK(pair.sent_within(30ms) == missing);
  // Nor is it after a timeout.
  Sequences later = pair.sent_within(60s);
  CHECK_FALSE(later.empty());
  for (const std::uint64_t sequence : later) CHECK(sequence == 1);
}

TEST_CASE("what is held beyond a gap counts as being there, once") {
  Pair pair = measured_pair();
  pair.queue(3);
  const std::vector<Frame> frames = pair.sent();
  const std::size_t all = pair.sender.missing_bytes();
  pair.deliver(frames.at(2));
  pair.acknowledge();
  CHECK(pair.sender.missing_bytes() == all / 3 * 2);
  pair.acknowledge();
  CHECK(pair.sender.missing_bytes() == all / 3 * 2);
  CHECK(pair.sender.outstanding_bytes() == all);
  pair.deliver(frames.at(0));
  pair.deliver(frames.at(1));
  pair.acknowledge();
  CHECK(pair.sender.missing_bytes() == 0);
  CHECK(pair.sender.outstanding_bytes() == 0);
}

TEST_CASE("runs that are held grow together whatever order they come in") {
  RandomStream random(1);
  for (int round = 0; round < 50; ++round) {
    Pair pair = measured_pair();
    pair.queue(24);
    std::vector<Frame> frames = pair.sent();
    std::vector<bool> is_held(26);
    for (std::size_t left = frames.size(); left > 1; --left) {  // the first one never comes
      const std::size_t pick = 1 + static_cast<std::size_t>(random.below(left - 1));
      is_held[frames[pick].sequence] = true;
      pair.deliver(frames[pick]);
      frames.erase(frames.begin() + static_cast<std::ptrdiff_t>(pick));
      std::vector<HeldRange> expected;
      for (std::uint64_t s = 1; s + 1 < is_held.size() && expected.size() < kHeldRangesMax; ++s)
        if (is_held[s]) {
          const std::uint64_t begin = s;
          while (is_held[s]) ++s;
          expected.push_back({begin, s});
        }
      REQUIRE(pair.answer().held == expected);
    }
    pair.deliver(frames[0]);
    CHECK(pair.answer().held.empty());
    CHECK(pair.received == 25);
  }
}

TEST_CASE("what fills a gap is acknowledged at once") {
  Pair pair = measured_pair();
  pair.queue(2);
  const std::vector<Frame> frames = pair.sent();
  pair.deliver(frames.at(1));
  pair.acknowledge();
  CHECK(pair.receiver.next_deadline() > pair.now);
  pair.deliver(frames.at(0));
  CHECK(pair.receiver.next_deadline() <= pair.now);
}

TEST_CASE("frames that overtake each other by less than the tolerance are not sent again") {
  Pair pair = measured_pair();
  pair.queue(3);
  const std::vector<Frame> frames = pair.sent();
  pair.now += 100ms;
  pair.deliver(frames.at(2));
  pair.acknowledge();
  CHECK(pair.sent_within(20ms).empty());
  pair.deliver(frames.at(0));
  pair.deliver(frames.at(1));
  pair.acknowledge();
  CHECK(pair.sent_within(60s).empty());
}

TEST_CASE("a tolerance that was too short grows up to the round trip, and shrinks when frames are lost") {
  Pair pair = measured_pair();
  /// Until the first one of two is sent again, after the second has come.
  const auto tolerance = [&](bool is_lost) {
    pair.queue(2);
    const std::vector<Frame> frames = pair.sent();
    pair.now += 100ms;
    pair.deliver(frames.at(1));
    pair.acknowledge();
    const ProtocolTime from = pair.now;
    pair.now = pair.sender.next_deadline();
    const std::vector<Frame> again = pair.sent();
    REQUIRE(again.size() == 1);
    const Duration waited = pair.now - from;
    pair.now = from + 100ms;
    pair.deliver(is_lost ? again[0] : frames.at(0));
    pair.acknowledge();
    return waited;
  };
  CHECK(tolerance(false) == 25ms);
  CHECK(tolerance(false) == 50ms);
  for (int i = 0; i < 5; ++i) (void)tolerance(false);
  CHECK(tolerance(false) <= pair.sender.round_trip());
  CHECK(tolerance(false) >= 100ms);
  for (int i = 0; i < 8; ++i) (void)tolerance(true);
  CHECK(tolerance(true) == 25ms);
}

TEST_CASE("of much that is missing a few frames go at once, and more with every acknowledgement") {
  Pair pair = measured_pair();
  pair.queue(31);
  const std::vector<Frame> frames = pair.sent();
  pair.now += 100ms;
  pair.deliver(frames.at(30));
  pair.acknowledge();
  pair.now = pair.sender.next_deadline();
  std::vector<Frame> again = pair.sent();
  CHECK(again.size() == 8);
  for (const Frame& frame : again) pair.deliver(frame);
  pair.acknowledge();
  again = pair.sent();
  CHECK(again.size() == 8);
  for (const Frame& frame : again) pair.deliver(frame);
  CHECK(pair.received == 1 + 16);
  // Without one they go on slowly.
  CHECK(pair.sent_within(20ms).empty());
  CHECK(pair.sent_within(40ms) == Sequences{17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30});
}

TEST_CASE("on a new route a few frames go at once, and the rest when one of them has arrived") {
  Pair pair = measured_pair();
  pair.queue(20);
  (void)pair.sent();
  pair.sender.on_new_route(pair.now);
  const std::vector<Frame> again = pair.sent();
  REQUIRE(again.size() == 8);
  CHECK(pair.sent_within(100ms).empty());
  for (const Frame& frame : again) pair.deliver(frame);
  pair.acknowledge();
  CHECK(pair.sent_within(60ms).size() == 12);
}

TEST_CASE(
    "who says to hold what it then asks for gets it, and lies about what was never sent change nothing") {
  Pair pair = measured_pair();
  pair.queue(3);
  (void)pair.sent();
  Frame ack = pair.answer();
  ack.next_expected = 1;
  ack.held = {{2, 4}};
  pair.sender.on_frame(pair.now, ack);
  ack.next_expected = 2;
  ack.held.clear();
  pair.sender.on_frame(pair.now, ack);
  const Sequences later = pair.sent_within(5s);
  REQUIRE_FALSE(later.empty());
  for (const std::uint64_t sequence : later) CHECK(sequence == 2);

  (void)pair.sender.take_counts();
  ack.held = {{3, 5}};
  pair.sender.on_frame(pair.now, ack);
  ack.held.clear();
  ack.newest_transmission = 1000;
  pair.sender.on_frame(pair.now, ack);
  CHECK(pair.sender.take_counts().acks_of_unsent == 2);
}

TEST_CASE("before anything is known of a path a chunk has the time that a slow one takes for it") {
  ReliableLink link({});
  Push push;
  push.payload = SharedBytes::take(std::vector<std::byte>(kChunkBytesMax));
  link.queue(encode_message(push), 0);
  const ProtocolTime now{1h};
  REQUIRE(link.take_frames(now).size() == 1);
  CHECK(link.next_deadline() >= now + 5s);
  CHECK(link.next_deadline() <= now + 6s);

  ReliableLink small({});
  small.queue(encode_message(Leave{}), 0);
  REQUIRE(small.take_frames(now).size() == 1);
  CHECK(small.next_deadline() <= now + 1100ms);
}

TEST_CASE("what a link loses is sent again once, while it goes on at its rate") {
  for (const double loss : {0.001, 0.01, 0.05}) {
    LinkPath path{2.5e6, 90ms};
    path.loss_chance = loss;
    LinkOptions options;
    options.credit_bytes = std::size_t{64} << 20;
    LinkWorld world(path, path, options);
    world.ends[0].sends = true;
    world.run(5s);
    const std::uint64_t received = world.ends[1].received_bytes;
    const std::uint64_t resent = world.ends[0].resent, lost = world.ends[0].lost;
    world.run(120s);
    const double rate = static_cast<double>(world.ends[1].received_bytes - received) / 120;
    INFO("loss " << loss << ": " << rate / path.bytes_per_second << " of the rate, "
                 << world.ends[0].resent - resent << " frames sent again of " << world.ends[0].lost - lost
                 << " lost");
    CHECK(rate >= (0.95 - 5 * loss) * path.bytes_per_second);
    CHECK(static_cast<double>(world.ends[0].resent - resent) <=
          1.05 * static_cast<double>(world.ends[0].lost - lost) + 2);
  }
}
