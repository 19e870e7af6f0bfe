// Goal: state comes back from its bytes as it was, and any other bytes are an error, never a crash or a list
// that is longer than they are. Method: random states; then every prefix and random bytes.
#include "common/base/archive.h"

#include "common/base/ids.h"
#include "common/base/random.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

enum class Colour : std::uint8_t { kRed, kBlue };

struct Part {
  double real = 0;
  std::optional<std::string> text;
  friend bool operator==(const Part&, const Part&) = default;
};
template <class Archive>
void archive(Archive& a, Part& part) {
  a(part.real, part.text);
}

class Whole {
 public:
  template <class Archive>
  void archive(Archive& a) {
    a(number, order, truth, colour, parts, queue, by_order, orders, pairs);
  }
  friend bool operator==(const Whole&, const Whole&) = default;

  std::uint32_t number = 0;
  IncarnationOrder order;
  bool truth = false;
  Colour colour = Colour::kRed;
  std::vector<Part> parts;
  std::deque<std::uint64_t> queue;
  std::map<IncarnationOrder, Part> by_order;
  std::set<ShardIndex> orders;
  std::vector<std::pair<std::uint16_t, bool>> pairs;
};

Whole some_whole(RandomStream& random) {
  Whole w;
  w.number = static_cast<std::uint32_t>(random.next_u64());
  w.order = IncarnationOrder(random.next_u64());
  w.truth = random.chance(0.5);
  w.colour = random.chance(0.5) ? Colour::kBlue : Colour::kRed;
  const auto part = [&] {
    return Part{random.uniform(),
                random.chance(0.5) ? std::optional(std::string(random.below(9), 'x')) : std::nullopt};
  };
  for (std::uint64_t n = random.below(4); n > 0; --n) {
    w.parts.push_back(part());
    w.queue.push_back(random.next_u64());
    w.by_order.emplace(IncarnationOrder(random.next_u64()), part());
    w.orders.insert(ShardIndex(static_cast<std::uint32_t>(random.below(9))));
    w.pairs.emplace_back(static_cast<std::uint16_t>(random.below(65536)), random.chance(0.5));
  }
  return w;
}

TEST_CASE("what was written is read") {
  RandomStream random(1, 1);
  for (int i = 0; i < 500; ++i) {
    const Whole whole = some_whole(random);
    ArchiveWriter writer;
    writer(whole, std::uint8_t{7});
    const std::vector<std::byte> bytes = writer.take();
    Whole read = some_whole(random);
    std::uint8_t seven = 0;
    ArchiveReader reader(bytes);
    reader(read, seven);
    REQUIRE(reader.is_complete());
    CHECK(read == whole);
    CHECK(seven == 7);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      ArchiveReader shorter(std::span<const std::byte>(bytes).first(size));
      shorter(read, seven);
      CHECK_FALSE(shorter.is_complete());
    }
  }
}

TEST_CASE("bytes of nothing are an error or something, and take no memory") {
  RandomStream random(2, 2);
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> bytes(random.below(120));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.chance(0.6) ? 0 : random.below(256));
    Whole read;
    ArchiveReader reader(bytes);
    reader(read);
    CHECK(read.parts.size() + read.queue.size() + read.pairs.size() <= bytes.size() + 3);
  }
}

}  // namespace
}  // namespace nanduti
