// Goal: a push's age is what was settled since its base, however old that is. Method: counts by hand.
#include "server/shard/round_ages.h"

#include "test/support/catch.h"

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
