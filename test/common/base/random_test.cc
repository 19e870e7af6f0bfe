// Goal: the generator is Philox 4x32-10 on every machine. Method: the known answers of the paper's library.
#include "common/base/random.h"

#include "test/support/catch.h"

using namespace nanduti;
using Block = std::array<std::uint32_t, 4>;

TEST_CASE("philox gives the published answers") {
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const std::uint32_t f = 0xffffffff;
  CHECK(philox4x32({f, f, f, f}, {f, f}) == Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a stream is a function of its seed and stream number alone") {
  RandomStream a(7, 1), b(7, 1), c(7, 2);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t x = a.next_u64();
    CHECK(x == b.next_u64());
    differs = differs || x != c.next_u64();
  }
  CHECK(differs);
}

TEST_CASE("below and uniform stay inside their ranges") {
  RandomStream random(3);
  for (int i = 0; i < 10000; ++i) {
    REQUIRE(random.below(7) < 7);
    const double u = random.uniform();
    REQUIRE((u >= 0 && u < 1));
  }
}
