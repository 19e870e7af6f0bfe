// Goal: what a worker can make a shard hold or send has a maximum, with a defined behaviour there (P7, P8).
// Method: a shard without a network and with small maxima; workers that ask too often, push what no honest
// one does, or take nothing; a coordinator that is away.
#include "test/server/shard/shard_bench.h"

using namespace nanduti;

namespace {

constexpr std::size_t kPushBytes = kSize * sizeof(float);

}  // namespace

TEST_CASE(
    "a push of a round that no honest worker can be at changes nothing, and the right one still settles") {
  const bool deterministic = GENERATE(false, true);
  Bench bench(deterministic);
  bench.members(1, {Bench::active(1, 5)});
  bench.subscribe(1);
  for (const std::uint64_t round : {~std::uint64_t{0}, std::uint64_t{6}}) {
    Push push = Bench::make_push(1, 0, 0.5f);
    push.round = Round(round);
    bench.tell(MessageReceived{Bench::peer(1), push});
  }
  CHECK(bench.core.counters().malformed == 2);
  CHECK(bench.to<ShardRefusal>(Bench::peer(1)).back().reason ==
        "a push of round 6 where round 5 is the next");
  CHECK(bench.core.counters().settled == 0);
  CHECK(bench.w() == 1.0f);
  CHECK(bench.core.ledger(IncarnationOrder(1))->clock() == Round(5));
  CHECK(bench.core.ledger(IncarnationOrder(1))->waiting_bytes() == 0);
  Push push = Bench::make_push(1, 0, 0.5f);
  push.round = Round(5);
  bench.tell(MessageReceived{Bench::peer(1), push});
  CHECK(bench.w() == 0.5f);
  CHECK(bench.core.ledger(IncarnationOrder(1))->clock() == Round(6));
}

TEST_CASE("a worker that entered further on with a membership may push from there once it is known") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  Push push = Bench::make_push(1, 0, 0.5f, 2);
  push.round = Round(9);
  bench.tell(MessageReceived{Bench::peer(1), push});
  CHECK(bench.core.counters().settled == 0);
  bench.members(2, {Bench::active(1, 9)});
  CHECK(bench.core.counters().settled == 1);
  CHECK(bench.core.counters().malformed == 0);
}

TEST_CASE("pushes that cannot settle yet have a maximum in bytes, but for the one that is next") {
  ShardOptions options;
  options.reorder_bytes_max = 2 * kPushBytes;
  Bench bench(false, options);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  for (const std::uint64_t sequence : {3, 2, 1, 2}) bench.push(1, sequence, 0.125f);
  CHECK(bench.core.counters().no_room == 1);  // 1 came last
  CHECK(bench.core.counters().duplicates == 1);
  CHECK(bench.core.occupancy().reorder_bytes == 2 * kPushBytes);
  bench.push(1, 0, 0.125f);
  bench.push(1, 1, 0.125f);
  CHECK(bench.w() == 0.5f);
  CHECK(bench.core.ledger(IncarnationOrder(1))->waiting_bytes() == 0);

  bench.push(1, 5, 0.125f, 2);
  bench.push(1, 6, 0.125f, 2);
  bench.push(1, 4, 0.125f, 2);
  CHECK(bench.core.ledger(IncarnationOrder(1))->waiting_count() == 3);
  CHECK(bench.core.occupancy().reorder_bytes == 2 * kPushBytes);
  bench.members(2, {Bench::active(1)});
  CHECK(bench.w() == 0.125f);
}

TEST_CASE("while the coordinator does not confirm what has settled, no more settles than the maximum") {
  const bool deterministic = GENERATE(false, true);
  ShardOptions options;
  options.unconfirmed_entries_max = 2;
  Bench bench(deterministic, options);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  bench.tell(PeerClosed{kCoordinator, "lost", true});
  for (std::uint64_t i = 0; i < 6; ++i) bench.push(1, i, 0.125f);
  CHECK(bench.core.counters().settled == 2);
  CHECK(bench.core.occupancy().unconfirmed_entries == 2);
  CHECK(bench.to<PushAck>(Bench::peer(1)).back().next_sequence == Sequence(2));
  CHECK(bench.w() == 0.75f);
  bench.tell(PeerConnected{kCoordinator, {}});
  CHECK(bench.core.counters().settled == 2);
  for (int i = 0; i < 3; ++i) bench.acknowledge(kCoordinator);
  CHECK(bench.core.counters().settled == 6);
  CHECK(bench.core.occupancy().unconfirmed_entries == 0);
  CHECK(bench.to<PushAck>(Bench::peer(1)).back().next_sequence == Sequence(6));
  CHECK(bench.w() == 0.25f);
}
