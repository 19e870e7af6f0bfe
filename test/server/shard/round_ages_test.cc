// Goal: a push's age is what was settled since its base, however old that is, and says how much of it counts.
// Method: counts by hand; a shard without a network.
#include "server/shard/round_ages.h"

#include "test/server/shard/shard_bench.h"

using namespace nanduti;

TEST_CASE("a push is as old as the rounds that were settled since the version it was computed from") {
  RoundAges ages;
  CHECK(ages.age(Version(0)) == 0);
  ages.on_round();
  ages.on_round();
  CHECK(ages.age(Version(0)) == 2);
  ages.on_version();
  ages.on_round();
  CHECK(ages.age(Version(0)) == 3);
  CHECK(ages.age(Version(1)) == 1);
  // A version that is not there yet is the newest, whatever a peer says.
  CHECK(ages.age(Version(~std::uint64_t{0})) == 1);
}

TEST_CASE(
    "a push weighs by its age in rounds of everybody, at least a little, and all of it where it is alone") {
  CHECK(weigh_age(0, 4, 1) == kAppliedWhole);
  CHECK(weigh_age(4, 4, 1) == kAppliedWhole / 2);
  CHECK(weigh_age(12, 4, 1) == kAppliedWhole / 4);
  CHECK(weigh_age(12, 4, 0.5) == kAppliedWhole / 2);
  CHECK(weigh_age(12, 4, 0) == kAppliedWhole);
  CHECK(weigh_age(12, 1, 1) == kAppliedWhole);
  CHECK(weigh_age(~0u, 2, 10) == 1);
  for (std::uint32_t age = 0; age < 1000; ++age) CHECK(weigh_age(age + 1, 3, 0.7) <= weigh_age(age, 3, 0.7));
}

TEST_CASE("ages of versions that are not kept any more are those of the oldest one kept") {
  RoundAges ages;
  for (std::size_t version = 1; version <= RoundAges::kVersionsKept + 10; ++version) {
    ages.on_round();
    ages.on_version();
  }
  CHECK(ages.age(Version(RoundAges::kVersionsKept + 9)) == 1);
  CHECK(ages.age(Version(12)) == RoundAges::kVersionsKept - 2);
  CHECK(ages.age(Version(0)) == RoundAges::kVersionsKept - 1);
}

TEST_CASE("old pushes count less where a job says so, and their workers hear how much, until they have") {
  Bench bench(false, {}, both_ways(), 1.0);
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.subscribe(2);
  bench.push(1, 0, 1.0f);
  CHECK(bench.w() == 0.5f);  // new: a half of it, as of two workers
  bench.push(2, 0, 1.0f);    // one round older: 1 / (1 + 1 / 2) of it
  const std::uint16_t parts = weigh_age(1, 2, 1.0);
  CHECK(bench.w() == 0.5f - 0.5f * kept_part(parts));
  const std::vector<ReturnedPush> returned = {{Sequence(0), parts}};
  CHECK(bench.to<PushAck>(Bench::peer(2)).back().returned == returned);
  CHECK(bench.core.counters().weighed == 1);
  CHECK(bench.to<SettleReport>(kCoordinator).back().entries.back().applied_parts == parts);
  // Again, to who has not heard it; and no longer once its next push says that it has.
  bench.push(2, 0, 1.0f);
  CHECK(bench.to<PushAck>(Bench::peer(2)).back().returned == returned);
  Push next = bench.make_push(2, 1, 1.0f, 1);
  next.base_version = bench.core.values()->version();
  next.acknowledged = Sequence(1);
  bench.tell(MessageReceived{Bench::peer(2), next});
  CHECK(bench.core.ledger(IncarnationOrder(2))->next_sequence() == Sequence(2));
  CHECK(bench.core.ledger(IncarnationOrder(2))->returned().empty());
  // A flush is what returns: all of it counts, however old.
  Push flush = bench.make_push(1, 1, 1.0f, 1);
  flush.lease = LeaseId();
  bench.tell(MessageReceived{Bench::peer(1), flush});
  CHECK(bench.core.ledger(IncarnationOrder(1))->returned().empty());
  CHECK(bench.core.counters().weighed == 1);
}
