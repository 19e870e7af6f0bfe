// Goal: the layout rules of DESIGN section 5. Method: small models by hand, and properties over many sizes.
#include "common/tensor/parameter_space.h"

#include "test/support/catch.h"

using namespace nanduti;

TEST_CASE("large tensors start on block boundaries and small ones share the trailing segment") {
  const ParameterSpace space(
      {{"0.weight", {100, 50}}, {"0.bias", {100}}, {"1.weight", {4096}}, {"1.bias", {3}}});
  CHECK(space.tensors()[0].offset == 0);
  CHECK(space.tensors()[2].offset == 2 * kBlockSize);
  CHECK(space.dense_segment_begin() == 3 * kBlockSize);
  CHECK(space.tensors()[1].offset == 3 * kBlockSize);
  CHECK(space.tensors()[3].offset == 3 * kBlockSize + 100);
  CHECK(space.size() == 4 * kBlockSize);
  CHECK(space.parameter_count() == 5000 + 100 + 4096 + 3);
}

TEST_CASE("the layout hash sees names and shapes") {
  const ParameterSpace a({{"w", {10, 20}}}), b({{"w", {20, 10}}}), c({{"v", {10, 20}}}), d({{"w", {10, 20}}});
  CHECK(a.layout_hash() != b.layout_hash());
  CHECK(a.layout_hash() != c.layout_hash());
  CHECK(a.layout_hash() == d.layout_hash());
}

TEST_CASE("shards are whole blocks, in order, and cover everything once") {
  for (std::uint64_t blocks = 1; blocks < 40; ++blocks) {
    for (std::uint32_t count = 1; count < 9; ++count) {
      std::uint64_t reached = 0;
      std::uint64_t largest = 0, smallest = ~std::uint64_t{0};
      for (const ParameterRange& shard : split_into_shards(blocks * kBlockSize, count)) {
        REQUIRE(shard.begin == reached);
        REQUIRE(shard.size() % kBlockSize == 0);
        reached = shard.end;
        largest = std::max(largest, shard.size());
        smallest = std::min(smallest, shard.size());
      }
      REQUIRE(reached == blocks * kBlockSize);
      REQUIRE(largest - smallest <= kBlockSize);
    }
  }
}
