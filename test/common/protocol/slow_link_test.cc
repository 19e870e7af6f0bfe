// Goal: what is sent twice without need, and what waits in a link's queue, is little. Method: two ends of a
// stream over simulated links of a rate and a delay, which lose nothing and keep the order, as TCP does.

#include "common/base/random.h"
#include "common/protocol/session_hub.h"
#include "test/common/protocol/link_world.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

constexpr double kMbit = 1e6 / 8;

LinkOptions bulk_options() {
  LinkOptions options;
  options.credit_bytes = SessionOptions().bulk_credit_bytes;
  return options;
}

/// What may wait in the queue: two of what the path holds, with the chunk that is on its way and what comes
/// while an acknowledgement waits for company; and four chunks.
double queue_bytes_max(const LinkPath& path) {
  const double round_trip = std::chrono::duration<double>(2 * path.delay + 40ms).count();
  return 2 * (path.bytes_per_second * round_trip + kChunkBytesMax) + 4 * kChunkBytesMax;
}

}  // namespace

TEST_CASE("where bulk begins in both directions of a slow link, little is sent twice") {
  for (const double mbit : {5.0, 20.0, 100.0}) {
    const LinkPath path{mbit * kMbit, 90ms};
    LinkWorld world(path, path, bulk_options());
    // Both have measured the empty link.
    for (int i = 0; i < 20; ++i) {
      world.ends[0].link.queue(encode_message(Leave{}), 0);
      world.ends[1].link.queue(encode_message(Leave{}), 0);
      world.run(1s);
    }
    for (auto& end : world.ends) end.sends = true;
    world.run(60s);
    for (const auto& end : world.ends) {
      INFO(mbit << " Mbit/s: " << end.resent << " frames resent, " << end.sent_bytes << " bytes sent, "
                << end.queued_bytes_max << " queued");
      CHECK(end.resent * kChunkBytesMax <= std::size_t{1} << 20);
    }
  }
}

TEST_CASE("the first message over a link that takes many timeouts for it is not sent twice") {
  // 1 MiB at 40 to 320 KB/s, and nothing is known of the path before.
  for (const double bytes_per_second : {40e3, 80e3, 320e3}) {
    for (const Duration delay : {Duration(15ms), Duration(130ms), Duration(300ms)}) {
      const LinkPath path{bytes_per_second, delay};
      LinkWorld world(path, path, bulk_options());
      Push push;
      push.payload = SharedBytes::take(std::vector<char>(std::size_t{1} << 20));
      world.ends[0].link.queue(encode_message(push), 7);
      world.run(60s);
      INFO(bytes_per_second << " bytes/s, " << delay / 1ms << " ms: " << world.ends[0].resent
                            << " frames resent");
      CHECK(world.ends[0].link.outstanding_bytes() == 0);
      CHECK(world.ends[0].resent == 0);
    }
  }
}

TEST_CASE(
    "a link fills its path, near or far, slow or fast, with no more than two paths' worth in the queue") {
  for (const double mbit : {5.0, 20.0, 100.0, 1000.0}) {
    for (const Duration round_trip : {Duration(0), Duration(20ms), Duration(180ms), Duration(300ms)}) {
      const LinkPath path{mbit * kMbit, round_trip / 2};
      LinkWorld world(path, path, bulk_options());
      world.ends[0].sends = true;
      world.run(5s);
      world.reset_maxima();
      const std::uint64_t before = world.ends[1].received_bytes;
      world.run(25s);
      const double rate = static_cast<double>(world.ends[1].received_bytes - before) / 25;
      const double path_bytes = path.bytes_per_second * std::chrono::duration<double>(round_trip).count();
      const auto queued = static_cast<double>(world.ends[0].queued_bytes_max);
      INFO(mbit << " Mbit/s, " << round_trip / 1ms << " ms: " << rate / path.bytes_per_second
                << " of the rate, " << queued << " queued where the path holds " << path_bytes);
      CHECK(rate >= 0.9 * path.bytes_per_second);
      CHECK(queued <= queue_bytes_max(path));
      CHECK(world.ends[0].resent == 0);
    }
  }
}

TEST_CASE("a stream in the background uses its path, and hardly anything waits in the queue") {
  LinkOptions options = bulk_options();
  options.background = true;
  for (const double mbit : {5.0, 20.0, 100.0, 1000.0}) {
    for (const Duration round_trip : {Duration(20ms), Duration(180ms), Duration(300ms)}) {
      const LinkPath path{mbit * kMbit, round_trip / 2};
      LinkWorld world(path, path, options);
      world.ends[0].sends = true;
      world.run(30s);
      world.reset_maxima();
      const std::uint64_t before = world.ends[1].received_bytes;
      world.run(30s);
      const double rate = static_cast<double>(world.ends[1].received_bytes - before) / 30;
      const double free_seconds = std::chrono::duration<double>(round_trip / 4 + 40ms).count();
      const auto queued = static_cast<double>(world.ends[0].queued_bytes_max);
      INFO(mbit << " Mbit/s, " << round_trip / 1ms << " ms: " << rate / path.bytes_per_second
                << " of the rate, " << queued << " queued, " << queued / path.bytes_per_second << " s");
      CHECK(rate >= 0.6 * path.bytes_per_second);
      CHECK(queued <= free_seconds * path.bytes_per_second + 6 * kChunkBytesMax);
    }
  }
}

TEST_CASE("a stream in the background does not take the time that it sends for a queue") {
  // As behind bbr that has seen little: its connection is slow, on a path that others have measured.
  LinkOptions options = bulk_options();
  options.background = true;
  for (const double mbit : {1.0, 2.0, 5.0}) {
    const LinkPath path{mbit * kMbit, 90ms};
    LinkWorld world(path, path, options);
    world.ends[0].link.set_unloaded(180ms);
    world.ends[0].sends = true;
    world.run(60s);
    const double rate = static_cast<double>(world.ends[1].received_bytes) / 60;
    INFO(mbit << " Mbit/s: " << rate / path.bytes_per_second << " of the rate");
    CHECK(rate >= 0.8 * path.bytes_per_second);
  }
}

TEST_CASE("a stream in the background does not take what is lost now and then for a queue") {
  LinkOptions options = bulk_options();
  options.background = true;
  LinkPath path{100 * kMbit, 90ms};
  path.stall_chance = 0.012;  // of a chunk, at 0.1 % of its packets
  path.stall = 180ms;
  LinkWorld world(path, path, options);
  world.ends[0].sends = true;
  world.run(60s);
  const double rate = static_cast<double>(world.ends[1].received_bytes) / 60;
  INFO(rate / path.bytes_per_second << " of the rate");
  CHECK(rate >= 0.3 * path.bytes_per_second);
}

TEST_CASE("a stream in the background gives way to a queue that was there before it") {
  LinkOptions options = bulk_options();
  options.background = true;
  const LinkPath path{100 * kMbit, 180ms};  // half of it somebody else's bytes
  const auto bytes = [&](Duration unloaded) {
    LinkWorld world(path, path, options);
    world.ends[0].link.set_unloaded(unloaded);
    world.ends[0].sends = true;
    world.run(36s);
    return world.ends[1].received_bytes;
  };
  CHECK(bytes(180ms) <= 110 * kChunkBytesMax);  // one for each round trip
  CHECK(bytes(0ms) >= 1000 * kChunkBytesMax);
}

TEST_CASE("bulk in both directions leaves little of either idle") {
  // Acknowledgements that wait behind bulk come in heaps, and so does what follows them: more in flight does
  // not help (Zhang, Shenker and Clark, "Observations on the dynamics of a congestion control algorithm",
  // 1991).
  for (const double mbit : {20.0, 100.0}) {
    const LinkPath path{mbit * kMbit, 90ms};
    LinkWorld world(path, path, bulk_options());
    for (auto& end : world.ends) end.sends = true;
    world.run(5s);
    for (auto& end : world.ends) end.received_bytes = 0;
    world.run(60s);
    for (const auto& end : world.ends) {
      INFO(mbit << " Mbit/s: " << end.received_bytes << " bytes in 60 s, " << end.queued_bytes_max
                << " queued");
      CHECK(static_cast<double>(end.received_bytes) >= 0.8 * 60 * path.bytes_per_second);
      CHECK(static_cast<double>(end.queued_bytes_max) <= queue_bytes_max(path));
    }
  }
}

TEST_CASE("a link follows its path's rate down and up") {
  const LinkPath fast{100 * kMbit, 90ms};
  LinkWorld world(fast, fast, bulk_options());
  world.ends[0].sends = true;
  world.run(10s);
  world.ends[0].path.bytes_per_second = 10 * kMbit;
  world.run(30s);
  world.reset_maxima();
  std::uint64_t before = world.ends[1].received_bytes;
  world.run(20s);
  CHECK(static_cast<double>(world.ends[1].received_bytes - before) >= 0.9 * 20 * 10 * kMbit);
  CHECK(static_cast<double>(world.ends[0].queued_bytes_max) <= queue_bytes_max(world.ends[0].path));
  world.ends[0].path.bytes_per_second = 100 * kMbit;
  world.run(3s);
  before = world.ends[1].received_bytes;
  world.run(20s);
  CHECK(static_cast<double>(world.ends[1].received_bytes - before) >= 0.9 * 20 * 100 * kMbit);
}

TEST_CASE("after an outage a link is at its rate again within a few round trips") {
  for (const Duration span : {Duration(1s), Duration(15s), Duration(60s)}) {
    const LinkPath path{100 * kMbit, 90ms};
    LinkWorld world(path, path, bulk_options());
    world.ends[0].sends = true;
    world.run(10s);
    world.outage(span);
    world.run(span);
    const std::uint64_t before = world.ends[1].received_bytes;
    world.run(10 * 180ms);
    INFO(span / 1s << " s: " << world.ends[1].received_bytes - before << " bytes in ten round trips, "
                   << world.ends[0].resent << " frames resent");
    CHECK(static_cast<double>(world.ends[1].received_bytes - before) >= 0.5 * 1.8 * path.bytes_per_second);
    CHECK(world.ends[0].resent <= 20);
  }
}

TEST_CASE("pauses for what TCP sends again cost what they cost, and no more") {
  // One frame in two hundred comes a round trip and a half late, and all behind it.
  LinkPath path{100 * kMbit, 90ms};
  path.stall_chance = 0.005;
  path.stall = 270ms;
  LinkWorld world(path, path, bulk_options());
  world.ends[0].sends = true;
  world.run(5s);
  const std::uint64_t before = world.ends[1].received_bytes;
  world.run(60s);
  CHECK(static_cast<double>(world.ends[1].received_bytes - before) >= 0.9 * 60 * path.bytes_per_second);
}

TEST_CASE("the round trip that counts is the path's, not that of the link's own queue") {
  LinkPath path{20 * kMbit, 90ms};
  LinkWorld world(path, path, bulk_options());
  world.ends[0].sends = true;
  world.run(300s);
  const BandwidthEstimate& estimate = world.ends[0].link.estimate();
  CHECK(estimate.round_trip() <= 350ms);  // a chunk alone takes 52 ms
  CHECK(estimate.bytes_per_second() >= 0.9 * path.bytes_per_second);
  CHECK(estimate.bytes_per_second() <= 1.1 * path.bytes_per_second);
  // A longer way is found, too.
  for (auto& end : world.ends) end.path.delay = 200ms;
  world.run(60s);
  CHECK(estimate.round_trip() >= 400ms);
}
