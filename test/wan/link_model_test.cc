// Goal: each parameter of a link does what test/wan/README.md says, and nothing else. Method: packets at
// given times of a virtual clock, and what becomes of them.
#include "test/wan/link_model.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "test/support/catch.h"

using namespace nanduti;
using namespace nanduti::wan;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kSeed = 7;
constexpr std::uint64_t kAmpleQueue = 1'000'000'000;

Packet packet(std::size_t size, std::uint32_t number = 0) {
  Packet made(std::max<std::size_t>(size, 4));
  for (std::size_t i = 0; i < 4; ++i) made[i] = static_cast<std::byte>(number >> (8 * i));
  return made;
}

struct Arrived {
  LinkTime due{0};
  std::uint32_t number = 0;
};

std::vector<Arrived> take_all(LinkWay& way, LinkTime until) {
  std::vector<Arrived> all;
  while (const auto arrival = way.take(until)) {
    std::uint32_t number = 0;
    for (std::size_t i = 0; i < 4; ++i)
      number |= std::to_integer<std::uint32_t>(arrival->packet[i]) << (8 * i);
    all.push_back({arrival->due, number});
  }
  return all;
}

/// `count` packets of `size` bytes, `apart` from each other, and all that arrives.
std::vector<Arrived> send(LinkWay& way, std::uint32_t count, std::size_t size, LinkTime apart) {
  std::vector<Arrived> all;
  for (std::uint32_t i = 0; i < count; ++i) {
    way.offer(i * apart, packet(size, i));
    for (const Arrived& arrival : take_all(way, i * apart)) all.push_back(arrival);
  }
  for (const Arrived& arrival : take_all(way, count * apart + 1h)) all.push_back(arrival);
  return all;
}

LinkTime percentile(std::vector<LinkTime> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

WayProfile with_delay(LinkTime delay) {
  WayProfile profile;
  profile.delay = delay;
  return profile;
}

}  // namespace

TEST_CASE("a packet arrives after the delay, and not before") {
  LinkWay way(with_delay(90ms), 0, kSeed, 0);
  CHECK_FALSE(way.next_arrival_at_least());
  way.offer(5ms, packet(100));
  CHECK(way.next_arrival_at_least() == 95ms);
  CHECK_FALSE(way.take(95ms - 1ns));
  const auto arrival = way.take(95ms);
  REQUIRE(arrival);
  CHECK(arrival->due == 95ms);
  CHECK(arrival->packet.size() == 100);
  CHECK_FALSE(way.next_arrival_at_least());
}

TEST_CASE("packets leave at the rate, however rarely one looks") {
  WayProfile profile = with_delay(10ms);
  profile.rate_bits_per_s = 12e6;  // 1500 bytes in 1 ms
  LinkWay way(profile, kAmpleQueue, kSeed, 0);
  for (std::uint32_t i = 0; i < 1000; ++i) way.offer(0ms, packet(1500, i));
  CHECK(way.queue_bytes() == 1'500'000);
  const std::vector<Arrived> all = take_all(way, 10s);
  REQUIRE(all.size() == 1000);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    CHECK(all[i].number == i);
    CHECK(all[i].due == 11ms + i * 1ms);
  }
  // An idle link saves nothing up.
  way.offer(20s, packet(1500));
  way.offer(20s, packet(1500));
  CHECK(way.take(1h)->due == 20s + 11ms);
  CHECK(way.take(1h)->due == 20s + 12ms);
}

TEST_CASE("who asks for the next arrival and comes then is never late") {
  WayProfile profile = with_delay(10ms);
  profile.rate_bits_per_s = 12e6;
  profile.jitter.within = 8ms;
  profile.reorder = 0.1;
  LinkWay way(profile, kAmpleQueue, kSeed, 0);
  std::size_t arrived = 0;
  for (std::uint32_t i = 0; i < 500; ++i) {
    LinkTime now = i * 30ms;
    way.offer(now, packet(1500, i));
    while (const auto next = way.next_arrival_at_least()) {
      now = std::max(now, *next);
      if (const auto arrival = way.take(now)) {
        CHECK(arrival->due == now);
        ++arrived;
      }
    }
  }
  CHECK(arrived == 500);
}

TEST_CASE("the queue holds its bytes and drops from its tail") {
  WayProfile profile = with_delay(1ms);
  profile.rate_bits_per_s = 12e6;
  LinkWay way(profile, 15'000, kSeed, 0);
  for (std::uint32_t i = 0; i < 25; ++i) way.offer(0ms, packet(1500, i));
  CHECK(way.counters().dropped_queue == 15);
  CHECK(way.queue_bytes() == 15'000);
  CHECK(way.counters().queue_bytes_peak == 15'000);
  // A place is free as soon as one has been sent.
  way.offer(1ms, packet(1500, 100));
  CHECK(way.counters().dropped_queue == 15);
  const std::vector<Arrived> all = take_all(way, 1h);
  REQUIRE(all.size() == 11);
  CHECK(all[9].number == 9);
  CHECK(all[10].number == 100);
}

TEST_CASE("jitter keeps order and stays within its bounds") {
  WayProfile profile = with_delay(90ms);
  profile.jitter.within = 10ms;
  LinkWay way(profile, 0, kSeed, 0);
  const std::vector<Arrived> all = send(way, 100'000, 100, 1ms);
  REQUIRE(all.size() == 100'000);
  std::vector<LinkTime> delays;
  for (std::uint32_t i = 0; i < all.size(); ++i) {
    REQUIRE(all[i].number == i);
    delays.push_back(all[i].due - i * 1ms);
  }
  CHECK(percentile(delays, 0) >= 80ms);
  CHECK(percentile(delays, 1) <= 100ms);
  CHECK(percentile(delays, 0.02) < 82ms);
  CHECK(percentile(delays, 0.98) > 98ms);
  CHECK(std::abs((percentile(delays, 0.5) - 90ms).count()) < 1'500'000);
  CHECK(way.counters().reordered == 0);
}

TEST_CASE("packets that follow each other closely have the same delay") {
  WayProfile profile = with_delay(90ms);
  profile.jitter.within = 10ms;
  LinkWay way(profile, 0, kSeed, 0);
  const std::vector<Arrived> all = send(way, 20, 100, 1us);
  REQUIRE(all.size() == 20);
  for (std::uint32_t i = 0; i < 20; ++i) CHECK(all[i].due - i * 1us == all[0].due);
}

TEST_CASE("lognormal jitter has its median and its 99th percentile") {
  WayProfile profile = with_delay(50ms);
  profile.jitter.distribution = Jitter::Distribution::kLognormal;
  profile.jitter.p50 = 20ms;
  profile.jitter.p99 = 100ms;
  profile.jitter.every = 1s;
  LinkWay way(profile, 0, kSeed, 0);
  // One in each stretch: no packet waits for one before it.
  std::vector<LinkTime> extra;
  for (const Arrived& arrived : send(way, 50'000, 100, 1s))
    extra.push_back(arrived.due - arrived.number * 1s - 50ms);
  REQUIRE(extra.size() == 50'000);
  CHECK(std::abs((percentile(extra, 0.5) - 20ms).count()) < 500'000);
  CHECK(std::abs((percentile(extra, 0.99) - 100ms).count()) < 5'000'000);
}

TEST_CASE("independent loss has its share, and runs as chance has them") {
  WayProfile profile;
  profile.loss = 0.2;
  LinkWay way(profile, 0, kSeed, 0);
  const std::vector<Arrived> all = send(way, 200'000, 100, 1us);
  CHECK(std::abs(static_cast<double>(all.size()) - 160'000) < 1'000);
  CHECK(way.counters().dropped_loss == 200'000 - all.size());
  std::size_t runs = 0;
  for (std::size_t i = 1; i < all.size(); ++i) runs += all[i].number != all[i - 1].number + 1;
  const double mean_run = static_cast<double>(200'000 - all.size()) / static_cast<double>(runs);
  CHECK(std::abs(mean_run - 1 / 0.8) < 0.02);
}

TEST_CASE("bursty loss has its share and the mean length of its runs") {
  WayProfile profile;
  profile.loss = 0.02;
  profile.burst_packets = 8;
  LinkWay way(profile, 0, kSeed, 0);
  const std::vector<Arrived> all = send(way, 1'000'000, 100, 1us);
  const double lost = static_cast<double>(1'000'000 - all.size());
  CHECK(std::abs(lost / 1e6 - 0.02) < 0.002);
  std::size_t runs = 0;
  for (std::size_t i = 1; i < all.size(); ++i) runs += all[i].number != all[i - 1].number + 1;
  CHECK(std::abs(lost / static_cast<double>(runs) - 8) < 0.6);
}

TEST_CASE("duplicates arrive beside their packet and are counted") {
  WayProfile profile = with_delay(10ms);
  profile.duplicate = 0.1;
  LinkWay way(profile, 0, kSeed, 0);
  const std::vector<Arrived> all = send(way, 20'000, 100, 1us);
  const std::uint64_t duplicates = way.counters().duplicates;
  CHECK(std::abs(static_cast<double>(duplicates) - 2'000) < 200);
  CHECK(all.size() == 20'000 + duplicates);
  std::uint64_t doubled = 0;
  for (std::size_t i = 1; i < all.size(); ++i) {
    if (all[i].number == all[i - 1].number) {
      ++doubled;
      CHECK(all[i].due == all[i - 1].due);
    } else {
      CHECK(all[i].number == all[i - 1].number + 1);
    }
  }
  CHECK(doubled == duplicates);
  CHECK(way.counters().reordered == 0);
}

TEST_CASE("packets are overtaken only where reordering is on") {
  WayProfile profile = with_delay(10ms);
  profile.reorder = 0.05;
  profile.reorder_by = 5ms;
  LinkWay way(profile, 0, kSeed, 0);
  const std::vector<Arrived> all = send(way, 20'000, 100, 1ms);
  REQUIRE(all.size() == 20'000);
  std::uint32_t late = 0;
  for (const Arrived& arrived : all) {
    const LinkTime delay = arrived.due - arrived.number * 1ms;
    CHECK((delay == 10ms || delay == 15ms));
    late += delay == 15ms;
  }
  CHECK(std::abs(late - 1'000.0) < 150);
  // Those count that arrive after one sent later: all of them but for what shares a moment.
  CHECK(std::abs(static_cast<double>(way.counters().reordered) - late) < 50);
}

TEST_CASE("a blackout loses what leaves the queue in it, and nothing else") {
  LinkWay way(with_delay(90ms), 0, kSeed, 0);
  for (std::uint32_t i = 0; i < 100; ++i) {
    if (i == 40) way.black_out(40ms, 60ms);
    way.offer(i * 1ms, packet(100, i));
  }
  const std::vector<Arrived> all = take_all(way, 1h);
  // What was under way when it began arrives.
  REQUIRE(all.size() == 80);
  CHECK(all[39].number == 39);
  CHECK(all[40].number == 60);
  CHECK(way.counters().dropped_blackout == 20);
  // It can be ended early.
  way.black_out(2h, 3h);
  way.black_out(2h + 1s, 2h + 1s);
  way.offer(2h + 1s, packet(100, 200));
  CHECK(take_all(way, 4h).size() == 1);
}

TEST_CASE("a change of rate holds for what still waits") {
  WayProfile profile = with_delay(10ms);
  profile.rate_bits_per_s = 12e6;
  LinkWay way(profile, kAmpleQueue, kSeed, 0);
  for (std::uint32_t i = 0; i < 10; ++i) way.offer(0ms, packet(1500, i));
  profile.rate_bits_per_s = 120e6;
  way.change(1500us, profile, kAmpleQueue);
  const std::vector<Arrived> all = take_all(way, 1h);
  REQUIRE(all.size() == 10);
  CHECK(all[0].due == 11ms);
  CHECK(all[1].due == 12ms);  // was being sent
  CHECK(all[2].due == 12100us);
  CHECK(all[9].due == 12800us);
  // Without a rate nothing waits any more.
  profile.rate_bits_per_s = 12e3;
  way.change(2h, profile, kAmpleQueue);
  for (std::uint32_t i = 0; i < 10; ++i) way.offer(2h, packet(1500, i));
  profile.rate_bits_per_s.reset();
  way.change(2h + 1ms, profile, 0);
  CHECK(way.queue_bytes() == 0);
  CHECK(take_all(way, 2h + 11ms).size() == 10);
}

TEST_CASE("a shorter delay lets nobody overtake") {
  WayProfile profile = with_delay(100ms);
  LinkWay way(profile, 0, kSeed, 0);
  way.offer(0ms, packet(100, 0));
  profile.delay = 10ms;
  way.change(1ms, profile, 0);
  way.offer(2ms, packet(100, 1));
  way.offer(95ms, packet(100, 2));
  const std::vector<Arrived> all = take_all(way, 1h);
  REQUIRE(all.size() == 3);
  CHECK(all[0].due == 100ms);
  CHECK(all[1].number == 1);
  CHECK(all[1].due == 100ms);
  CHECK(all[2].due == 105ms);
}

TEST_CASE("after a jump down packets arrive faster than the rate, but not all at once") {
  WayProfile profile = with_delay(100ms);
  profile.rate_bits_per_s = 12e6;  // 1500 bytes in 1 ms
  LinkWay way(profile, kAmpleQueue, kSeed, 0);
  way.offer(0ms, packet(1500, 0));
  way.offer(0ms, packet(1500, 1));
  profile.delay = 10ms;
  way.change(1500us, profile, kAmpleQueue);
  for (std::uint32_t i = 2; i < 200; ++i) way.offer(1500us, packet(1500, i));
  const std::vector<Arrived> all = take_all(way, 1h);
  REQUIRE(all.size() == 200);
  CHECK(all[0].due == 101ms);
  for (std::uint32_t i = 1; i < 200; ++i)
    CHECK(all[i].due == std::max<LinkTime>(101ms + i * 250us, 11ms + i * 1ms));
}

TEST_CASE("what is under way is bounded") {
  LinkWay way(with_delay(10s), 0, kSeed, 0);
  for (std::uint32_t i = 0; i < kInFlightPacketsMax + 10; ++i) way.offer(0ms, packet(4, i));
  CHECK(way.counters().dropped_queue == 10);
  CHECK(take_all(way, 1h).size() == kInFlightPacketsMax);
}

TEST_CASE("the same seed has the same fate, and the two ways have different ones") {
  WayProfile profile = with_delay(90ms);
  profile.jitter.within = 10ms;
  profile.loss = 0.1;
  profile.duplicate = 0.1;
  const auto fate = [&](std::uint64_t seed, std::uint64_t stream) {
    LinkWay way(profile, 0, seed, stream);
    std::vector<std::pair<LinkTime, std::uint32_t>> all;
    for (const Arrived& arrived : send(way, 1000, 100, 1ms)) all.emplace_back(arrived.due, arrived.number);
    return all;
  };
  CHECK(fate(1, 0) == fate(1, 0));
  CHECK(fate(1, 0) != fate(2, 0));
  CHECK(fate(1, 0) != fate(1, 1));
}
