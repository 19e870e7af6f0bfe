// Goal: what a worker can make a shard hold or send has a maximum, with a defined behaviour there (P7, P8).
// Method: a shard without a network and with small maxima; workers that ask too often, push what no honest
// one does, or take nothing; a coordinator that is away.
#include "test/server/shard/shard_bench.h"

using namespace nanduti;

namespace {

constexpr std::size_t kPushBytes = kSize * sizeof(float);

Message subscription(std::uint64_t order) {
  return Subscribe{JobId(1), IncarnationOrder(order), incarnation(order), {}, {}, Sequence()};
}

}  // namespace

TEST_CASE("who subscribes again and again is answered once more, when it has what it was sent before") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.subscribe(2);
  REQUIRE(bench.to<Assign>(Bench::peer(1)).size() == 1);
  for (int i = 0; i < 100; ++i) bench.tell(MessageReceived{Bench::peer(1), subscription(1)});
  CHECK(bench.to<Assign>(Bench::peer(1)).size() == 1);
  CHECK(bench.to<Subscribed>(Bench::peer(1)).size() == 1);
  CHECK(bench.core.counters().repeated == 100);
  // It is still who it is, and what settles meanwhile is in the answer.
  bench.push(1, 0, 0.5f);
  bench.push(2, 0, 0.5f);
  CHECK(bench.to<PushAck>(Bench::peer(1)).size() == 1);
  CHECK(bench.to<Publish>(Bench::peer(1)).empty());
  bench.acknowledge(Bench::peer(1));
  CHECK(bench.to<Subscribed>(Bench::peer(1)).back().next_sequence == Sequence(1));
  REQUIRE(bench.to<Assign>(Bench::peer(1)).size() == 2);
  bench.push(1, 1, 0.25f);
  bench.push(2, 1, 0.25f);
  bench.acknowledge(Bench::peer(1));
  CHECK(bench.to<Assign>(Bench::peer(1)).size() == 2);
  Version version;
  CHECK(bits_equal(rebuild(bench, Bench::peer(1), version), bench.core.values()->shadow()));
  CHECK(version == bench.core.values()->version());
}

TEST_CASE("a lagging subscriber that asks anew is answered once, not caught up as well") {
  ShardOptions options;
  options.subscriber_bytes_max = kPushBytes;
  Bench bench(false, options);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  for (std::uint64_t i = 0; i < 4; ++i) bench.push(1, i, 0.5f);
  bench.tell(MessageReceived{Bench::peer(1), subscription(1)});
  bench.acknowledge(Bench::peer(1));
  CHECK(bench.to<Assign>(Bench::peer(1)).size() == 2);
  CHECK(bench.core.counters().catch_ups == 0);
  bench.acknowledge(Bench::peer(1));
  bench.push(1, 4, 0.5f);
  Version version;
  CHECK(bits_equal(rebuild(bench, Bench::peer(1), version), bench.core.values()->shadow()));
}

TEST_CASE("a session stays the worker incarnation's that has subscribed in it first") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.tell(MessageReceived{Bench::peer(1), subscription(2)});
  CHECK(bench.to<ShardRefusal>(Bench::peer(1)).back().reason ==
        "this session is another worker incarnation's");
  bench.tell(MessageReceived{Bench::peer(1), Bench::make_push(2, 0, 0.5f)});
  CHECK(bench.core.counters().settled == 0);
  bench.push(1, 0, 0.5f);
  CHECK(bench.core.counters().settled == 1);
}

TEST_CASE("a cut is under way to a worker once: asked for again meanwhile, it goes once more after that") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  bench.tell(MessageReceived{kCoordinator, TakeCut{JobId(1), CutId(1)}});
  bench.tell(MessageReceived{Bench::peer(1), FetchCut{JobId(1), CutId(1)}});
  CHECK(bench.to<CutValues>(Bench::peer(1)).empty());
  CHECK(bench.to<ShardRefusal>(Bench::peer(1)).back().reason == "a cut is for subscribed workers");
  bench.subscribe(1);
  for (int i = 0; i < 100; ++i) bench.tell(MessageReceived{Bench::peer(1), FetchCut{JobId(1), CutId(1)}});
  CHECK(bench.to<CutValues>(Bench::peer(1)).size() == 1);
  CHECK(bench.core.counters().repeated == 99);
  bench.acknowledge(Bench::peer(1));
  CHECK(bench.to<CutValues>(Bench::peer(1)).size() == 2);
  bench.acknowledge(Bench::peer(1));
  CHECK(bench.to<CutValues>(Bench::peer(1)).size() == 2);
  bench.tell(MessageReceived{Bench::peer(1), FetchCut{JobId(1), CutId(1)}});
  CHECK(bench.to<CutValues>(Bench::peer(1)).size() == 3);
}

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

TEST_CASE(
    "a version that adds nothing is sent beside a whole shadow that is under way, one that adds much is "
    "not") {
  ShardOptions options;
  options.subscriber_bytes_max = kPushBytes / 2;
  Bench bench(false, options);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  bench.members(2, {Bench::active(1), Bench::active(2)});
  REQUIRE(bench.to<Publish>(Bench::peer(1)).size() == 1);
  CHECK(bench.to<Publish>(Bench::peer(1))[0].payload.empty());
  bench.push(1, 0, 0.5f, 2);
  bench.wait(1s);
  CHECK(bench.to<Publish>(Bench::peer(1)).size() == 1);
  bench.acknowledge(Bench::peer(1));
  CHECK(bench.core.counters().catch_ups == 1);
  Version version;
  CHECK(bits_equal(rebuild(bench, Bench::peer(1), version), bench.core.values()->shadow()));
}

TEST_CASE("headers count against what a subscriber may leave unacknowledged") {
  ShardOptions options;
  options.subscriber_bytes_max = 4096;
  Bench bench(false, options);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  for (std::uint64_t epoch = 2; epoch < 100; ++epoch) bench.members(epoch, {Bench::active(1)});
  CHECK(bench.to<Publish>(Bench::peer(1)).size() > 10);
  CHECK(bench.to<Publish>(Bench::peer(1)).size() < 40);
  CHECK(bench.core.occupancy().subscriber_bytes <= 4096);
  bench.acknowledge(Bench::peer(1));
  CHECK(bench.to<Assign>(Bench::peer(1)).back().header.epoch == MembershipEpoch(99));
}

TEST_CASE("a version about as many workers and refusals as there may be fits a message") {
  ShardOptions options;
  options.epochs_kept = 1;
  Bench bench(false, options);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  bench.members(2, {Bench::active(1)});
  for (std::uint64_t i = 0; i < kReturnedKept + 10; ++i) bench.push(1, i, 0.5f, 1);
  Publish version = bench.to<Publish>(Bench::peer(1)).back();
  REQUIRE(version.header.verdicts.size() == 1);
  CHECK(version.header.verdicts[0].returned.size() == kReturnedKept);
  version.header.verdicts.assign(kMembersMax, version.header.verdicts[0]);
  version.header.active.assign(kMembersMax, version.header.active.at(0));
  CHECK(encode_message(version).header.size() < kMessageHeaderBytesMax);
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
  for (int i = 0; i < 3; ++i) bench.confirm();
  CHECK(bench.core.counters().settled == 6);
  CHECK(bench.core.occupancy().unconfirmed_entries == 0);
  CHECK(bench.to<PushAck>(Bench::peer(1)).back().next_sequence == Sequence(6));
  CHECK(bench.w() == 0.25f);
}

TEST_CASE(
    "a worker that never says it has computed on a later version makes a lockstep shard keep only so many") {
  Bench bench(true);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  const ChainId chain = bench.to<Assign>(Bench::peer(1))[0].header.chain;
  const auto returns_from = [&](Version version) {
    bench.tell(PeerClosed{Bench::peer(1), "lost", false});
    bench.sent.clear();
    bench.subscribe(1, chain, version);
  };
  for (std::uint64_t i = 0; i < kKeptVersionsMax + 1; ++i) bench.push(1, i, 0.001f);
  returns_from(Version(1));
  CHECK(bench.to<Publish>(Bench::peer(1)).size() == kKeptVersionsMax);
  CHECK(bench.to<Assign>(Bench::peer(1)).empty());
  returns_from(Version(0));
  CHECK(bench.to<Publish>(Bench::peer(1)).empty());
  CHECK(bench.to<Assign>(Bench::peer(1)).size() == 1);
}

TEST_CASE("who subscribes again hears of refusals before it hears what is settled") {
  ShardOptions options;
  options.epochs_kept = 1;
  Bench bench(false, options);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  bench.members(2, {Bench::active(1)});
  bench.push(1, 0, 0.5f, 1);
  bench.acknowledge(Bench::peer(1));
  bench.sent.clear();  // lost with the session
  bench.tell(PeerClosed{Bench::peer(1), "it is gone", false});
  bench.subscribe(1);
  std::vector<Message> heard;
  for (const auto& [peer, message] : bench.sent)
    if (peer == Bench::peer(1)) heard.push_back(message);
  REQUIRE(heard.size() >= 2);
  const auto* ack = std::get_if<PushAck>(&heard[0]);
  REQUIRE(ack != nullptr);
  CHECK(ack->returned == std::vector<ReturnedPush>{{Sequence(0), 0}});
  const auto* subscribed = std::get_if<Subscribed>(&heard[1]);
  REQUIRE(subscribed != nullptr);
  CHECK(subscribed->next_sequence == Sequence(1));
}
