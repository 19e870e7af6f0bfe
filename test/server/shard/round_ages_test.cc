// Goal: a push's age is what was settled since its base, however old that is, and says how much of it counts.
// Method: counts by hand; a shard without a network.
#include "server/shard/round_ages.h"

#include "test/server/shard/shard_bench.h"

using namespace nanduti;

TEST_CASE("a push is as old as the rounds that were settled since the version it was computed from") {
  RoundAges ages;
  CHECK(ages.age(Version(0)) == 0);
  ages.on_round(IncarnationOrder(1), 0.5);
  ages.on_round(IncarnationOrder(1), 0.5);
  CHECK(ages.age(Version(0)) == 2);
  ages.on_version();
  ages.on_round(IncarnationOrder(1), 0.5);
  CHECK(ages.age(Version(0)) == 3);
  CHECK(ages.age(Version(1)) == 1);
  // A version that is not there yet is the newest, whatever a peer says.
  CHECK(ages.age(Version(~std::uint64_t{0})) == 1);
}

TEST_CASE("what others have done makes a push old, in rounds of everybody, its worker's own does not") {
  RoundAges ages;
  const IncarnationOrder one(1), two(2);
  for (int i = 0; i < 6; ++i) ages.on_round(one, 0.25);
  ages.on_round(two, 0.25);
  CHECK(ages.age_by_others(one, Version(0)) == Approx(0.25));
  CHECK(ages.age_by_others(two, Version(0)) == Approx(1.5));
  CHECK(ages.age_by_others(IncarnationOrder(3), Version(0)) == Approx(1.75));
  ages.on_version();
  CHECK(ages.age_by_others(two, Version(1)) == 0);
  ages.on_round(two, 0.5);  // of another membership
  ages.on_round(one, 0.5);
  CHECK(ages.age_by_others(one, Version(1)) == Approx(0.5));
  CHECK(ages.age_by_others(one, Version(0)) == Approx(0.75));
  ages.forget(one);
  CHECK(ages.age_by_others(one, Version(1)) == Approx(1));
}

TEST_CASE("a push weighs by its age beyond the round that the others do meanwhile, and at least a little") {
  CHECK(weigh_age(0, 1, 1) == kAppliedWhole);        // alone
  CHECK(weigh_age(0.75, 0.25, 1) == kAppliedWhole);  // in lockstep
  CHECK(weigh_age(1.75, 0.25, 1) == kAppliedWhole / 2);
  CHECK(weigh_age(3.75, 0.25, 1) == kAppliedWhole / 4);
  CHECK(weigh_age(3.75, 0.25, 0.5) == kAppliedWhole / 2);
  CHECK(weigh_age(1e9, 0.5, 10) == 1);
  for (double age = 0; age < 100; age += 0.1)
    CHECK(weigh_age(age + 0.1, 0.3, 0.7) <= weigh_age(age, 0.3, 0.7));
}

TEST_CASE("ages of versions that are not kept any more are those of the oldest one kept") {
  RoundAges ages;
  for (std::size_t version = 1; version <= RoundAges::kVersionsKept + 10; ++version) {
    ages.on_round(IncarnationOrder(1), 0.5);
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
  for (std::uint64_t round = 0; round < 3; ++round) bench.push(1, round, 1.0f);
  CHECK(bench.w() == -0.5f);  // each by a half, as of two workers: its own do not make them old
  CHECK(bench.core.counters().weighed == 0);
  bench.push(2, 0, 1.0f);  // 1.5 rounds by the other one, of which half a one is of the same round
  const std::uint16_t parts = kAppliedWhole / 2;
  CHECK(bench.w() == -0.75f);
  const std::vector<ReturnedPush> returned = {{Sequence(0), parts}};
  CHECK(bench.to<PushAck>(Bench::peer(2)).back().returned == returned);
  CHECK(bench.core.counters().weighed == 1);
  CHECK(bench.to<SettleReport>(kCoordinator).back().entries.back().applied_parts == parts);
  // Again, to who has not heard it; and no longer once its next push says that it has.
  bench.push(2, 0, 1.0f);
  CHECK(bench.to<PushAck>(Bench::peer(2)).back().returned == returned);
  CHECK(bench.w() == -0.75f);
  Push next = bench.make_push(2, 1, 1.0f, 1);
  next.base_version = bench.core.values()->version();
  next.acknowledged = Sequence(1);
  bench.tell(MessageReceived{Bench::peer(2), next});
  CHECK(bench.core.ledger(IncarnationOrder(2))->next_sequence() == Sequence(2));
  CHECK(bench.core.ledger(IncarnationOrder(2))->returned().empty());
  // A flush is what returns: all of it counts, however old.
  Push flush = bench.make_push(2, 2, 1.0f, 1);
  flush.lease = LeaseId();
  bench.tell(MessageReceived{Bench::peer(2), flush});
  CHECK(bench.core.ledger(IncarnationOrder(2))->returned().empty());
  CHECK(bench.core.counters().weighed == 1);
}
