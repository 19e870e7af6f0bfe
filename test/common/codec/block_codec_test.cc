// Goal: the block codec sends the largest values of each block, loses nothing, and its payloads are small,
// canonical and safe to decode. Method: random updates of many kinds and sizes against plain loops.
#include "common/codec/block_codec.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>

#include "common/codec/block_layout.h"
#include "common/protocol/message.h"
#include "test/common/codec/random_updates.h"
#include "test/support/catch.h"

using namespace nanduti;

namespace {

constexpr double kDensities[] = {0.001, 0.01, 0.015625, 0.1, 0.5, 1.0};
constexpr std::uint32_t kValueBits[] = {2, 4, 8, 32};
constexpr std::size_t kSizes[] = {0, 1, 8, 40, 300, 4095, 4096, 4097, 5 * 4096, 40 * 4096 + 17};

std::vector<float> expanded(const Update& update) {
  std::vector<float> all(update.size);
  add(all, update, 1.0f);
  return all;
}

bool same_bytes(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

bool same(const Update& a, const Update& b) {
  return a.size == b.size && a.dense == b.dense && std::ranges::equal(a.indices, b.indices) &&
         same_bytes(a.values, b.values);
}

bool same(const SharedBytes& a, const SharedBytes& b) { return std::ranges::equal(a.view(), b.view()); }

/// What DESIGN says is selected: by magnitude, lower index first.
std::vector<std::uint32_t> expected_selection(const std::vector<float>& values, double density) {
  std::vector<std::uint32_t> all;
  for (std::size_t begin = 0; begin < values.size(); begin += kBlockSize) {
    const std::size_t end = std::min<std::size_t>(begin + kBlockSize, values.size());
    std::vector<std::uint32_t> block(end - begin);
    std::iota(block.begin(), block.end(), static_cast<std::uint32_t>(begin));
    std::stable_sort(block.begin(), block.end(), [&](std::uint32_t a, std::uint32_t b) {
      return std::fabs(values[a]) > std::fabs(values[b]);
    });
    block.resize(std::min<std::size_t>(block.size(), selected_per_block(density, 0, end - begin)));
    block.erase(std::remove_if(block.begin(), block.end(), [&](std::uint32_t i) { return values[i] == 0; }),
                block.end());
    std::sort(block.begin(), block.end());
    all.insert(all.end(), block.begin(), block.end());
  }
  return all;
}

BlockCodecOptions options_of(double density, std::uint32_t value_bits) {
  BlockCodecOptions options;
  options.density = density;
  options.value_bits = value_bits;
  return options;
}

std::uint64_t seeds_percent() {
  const char* const percent = std::getenv("NANDUTI_SEEDS_PERCENT");
  return percent == nullptr ? 100 : std::strtoul(percent, nullptr, 10);
}

/// Calls body(options, values) for every density, width, size and kind of update.
template <class Body>
void for_all_updates(Body body) {
  std::uint64_t seed = 0;
  for (const double density : kDensities) {
    for (const std::uint32_t bits : kValueBits) {
      for (const std::size_t size : kSizes) {
        for (const UpdateKind kind : kUpdateKinds) {
          if (++seed * 37 % 100 >= seeds_percent()) continue;
          RandomStream random(seed);
          const std::vector<float> values = random_update(kind, size, random);
          INFO("density " << density << ", " << bits << " bits, size " << size << ", kind "
                          << static_cast<int>(kind) << ", seed " << seed);
          body(options_of(density, bits), values);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("the receiver gets what the sender says, and what was not sent stays, bit for bit") {
  for_all_updates([](const BlockCodecOptions& options, const std::vector<float>& values) {
    const BlockCodec codec(options);
    std::vector<float> residual = values;
    const EncodedUpdate encoded = codec.encode(residual, {}, {});
    const Result<Update> decoded = codec.decode(encoded.payload, values.size());
    REQUIRE(decoded.ok());
    REQUIRE(same(*decoded, encoded.update));
    const std::vector<float> sent = expanded(*decoded);
    bool kept = true, whole = true;
    for (std::size_t i = 0; i < values.size(); ++i) {
      kept = kept && residual[i] == values[i] - sent[i];
      whole = whole && residual[i] + sent[i] == values[i];
    }
    REQUIRE(kept);
    if (options.value_bits == 32) REQUIRE(whole);
    REQUIRE(encoded.payload.size() <= shard_payload_bytes_max(values.size()));
  });
}

TEST_CASE("what is sent are the largest values of each block, of equal ones the first, and never a zero") {
  for_all_updates([](const BlockCodecOptions& options, const std::vector<float>& values) {
    std::vector<float> residual = values;
    const Update sent = BlockCodec(options).encode(residual, {}, {}).update;
    if (sent.dense) return;
    const std::vector<std::uint32_t> expected = expected_selection(values, options.density);
    if (sent.indices.size() == expected.size()) {
      REQUIRE(std::ranges::equal(sent.indices, expected));
    } else {
      // Groups with few values go whole; dense ones name their zeros.
      REQUIRE(std::ranges::includes(sent.indices, expected));
    }
  });
}

TEST_CASE("progress is added to the residual before anything is selected") {
  RandomStream random(1);
  const std::vector<float> before = random_update(UpdateKind::kBell, 3 * 4096 + 100, random);
  const std::vector<float> progress = random_update(UpdateKind::kBell, before.size(), random);
  std::vector<float> sum = before;
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += progress[i];
  const BlockCodec codec(options_of(0.01, 2));
  std::vector<float> residual = before;
  const EncodedUpdate a = codec.encode(residual, progress, {});
  const EncodedUpdate b = codec.encode(sum, {}, {});
  CHECK(same(a.payload, b.payload));
  CHECK(same_bytes(residual, sum));
}

TEST_CASE("error feedback delivers everything: what is sent and what is left is what was put in") {
  RandomStream random(1);
  const std::size_t size = 2 * 4096;
  for (const std::uint32_t bits : {2u, 4u, 8u}) {
    const BlockCodec codec(options_of(0.05, bits));
    std::vector<double> received(size), put_in(size);
    std::vector<float> residual(size);
    for (int round = 0; round < 50; ++round) {
      const std::vector<float> progress = random_update(UpdateKind::kBell, size, random);
      for (std::size_t i = 0; i < size; ++i) put_in[i] += static_cast<double>(progress[i]);
      const std::vector<float> sent = expanded(codec.encode(residual, progress, {}).update);
      for (std::size_t i = 0; i < size; ++i) received[i] += static_cast<double>(sent[i]);
    }
    // Each round rounds twice, at magnitudes below 64: half an ulp of 2^-18 each.
    for (std::size_t i = 0; i < size; ++i)
      REQUIRE(std::abs(put_in[i] - received[i] - static_cast<double>(residual[i])) <= 100 * 0x1p-19);
  }
}

TEST_CASE("the dense segment goes whole, with 8 bits, whatever the density") {
  RandomStream random(1);
  BlockCodecOptions options = options_of(0.001, 2);
  options.dense_segment_begin = 10 * 4096;
  const std::vector<float> values = random_update(UpdateKind::kBell, 3 * 4096, random);
  std::vector<float> residual = values;
  // The shard holds blocks 9 to 11.
  const EncodedUpdate encoded = BlockCodec(options).encode(residual, {}, {0, 9 * 4096, 0});
  const auto first_dense = std::ranges::lower_bound(encoded.update.indices, 4096u);
  CHECK(first_dense - encoded.update.indices.begin() == 4);
  CHECK(encoded.update.indices.end() - first_dense == 2 * 4096);
  for (std::size_t i = 4096; i < values.size(); ++i) REQUIRE(std::fabs(residual[i]) < 6.0 / 127);
}

TEST_CASE("tensors have densities of their own") {
  RandomStream random(1);
  BlockCodecOptions options = options_of(0.01, 2);
  options.densities = {{{4 * 4096, 6 * 4096}, 0.1}, {{7 * 4096, 8 * 4096}, 0.001}};
  std::vector<float> values = random_update(UpdateKind::kBell, 4 * 4096, random);
  const Update sent = BlockCodec(options).encode(values, {}, {0, 4 * 4096, 0}).update;
  std::vector<int> counts(4);
  for (const std::uint32_t index : sent.indices) ++counts[index / 4096];
  CHECK(counts == std::vector<int>{410, 410, 41, 4});
}

TEST_CASE("warm-up doubles the density up to a quarter, and never lowers it") {
  CHECK(selected_per_block(0.01, 0, 4096) == 41);
  CHECK(selected_per_block(0.01, 2, 4096) == 164);
  CHECK(selected_per_block(0.01, 9, 4096) == 1024);
  CHECK(selected_per_block(0.01, 4000000000, 4096) == 1024);
  CHECK(selected_per_block(0.5, 3, 4096) == 2048);
  CHECK(selected_per_block(1.0, 1, 4096) == 4096);
  CHECK(selected_per_block(0.00001, 0, 4096) == 1);
  CHECK(selected_per_block(0.001, 0, 8) == 1);
  CHECK(selected_per_block(0.25, 0, 8) == 2);
  RandomStream random(1);
  std::vector<float> values = random_update(UpdateKind::kBell, 4096, random);
  BlockCodecOptions options = options_of(0.01, 2);
  options.warmup_epochs = 2;
  const auto doublings = [&](double epochs) { return warmup_doublings(options, epochs); };
  CHECK(doublings(0) == 5);  // 0.32, of which a quarter is sent
  CHECK(doublings(0.41) == 4);
  CHECK(doublings(1.59) == 2);
  CHECK(doublings(1.61) == 1);
  CHECK(doublings(2) == 0);
  CHECK(BlockCodec(options).encode(values, {}, {0, 0, 1.8}).update.indices.size() == 82);
  options.warmup_epochs = 0;
  CHECK(doublings(0) == 0);
}

TEST_CASE("an update that is mostly zero goes without loss where that takes no more than usual") {
  RandomStream random(1);
  std::vector<float> values(16 * 4096);
  // More than 1 % of one block, and far less than 1 % of the group.
  for (std::size_t i = 0; i < 100; ++i) values[3 * 4096 + 17 * i] = random_bell(random);
  std::vector<float> residual = values;
  const EncodedUpdate encoded = BlockCodec(options_of(0.01, 2)).encode(residual, {}, {});
  CHECK(encoded.update.indices.size() == 100);
  CHECK(same_bytes(expanded(encoded.update), values));
  CHECK(same_bytes(residual, std::vector<float>(values.size())));
  CHECK(encoded.payload.size() < 600);
}

TEST_CASE("nothing to send takes a header and an entry for each group") {
  std::vector<float> zeros(64 * 4096);
  zeros[5] = -0.0f;
  const EncodedUpdate encoded = BlockCodec(options_of(0.01, 2)).encode(zeros, {}, {});
  CHECK(encoded.payload.size() == 8 + 2 * 12);
  CHECK_FALSE(encoded.update.dense);
  CHECK(encoded.update.values.empty());
}

TEST_CASE("headers included, a random update takes less than the stated bits") {
  RandomStream random(1);
  const std::vector<float> values = random_update(UpdateKind::kBell, 256 * 4096, random);
  for (const auto& [density, most] :
       {std::pair(1.0 / 64, 9.6), std::pair(0.01, 10.25), std::pair(0.001, 13.7)}) {
    std::vector<float> residual = values;
    const EncodedUpdate encoded = BlockCodec(options_of(density, 2)).encode(residual, {}, {});
    const double bits = 8.0 * static_cast<double>(encoded.payload.size()) /
                        static_cast<double>(encoded.update.indices.size());
    INFO("density " << density << ": " << bits);
    CHECK(bits < most);
  }
}

TEST_CASE("NaN and infinity are sent as they are, and the receiver refuses them") {
  RandomStream random(1);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const std::uint64_t dense_begin : {std::uint64_t{0}, ~std::uint64_t{0}}) {
      for (const double density : kDensities) {
        BlockCodecOptions options = options_of(density, 2);
        options.dense_segment_begin = dense_begin;
        std::vector<float> values = random_update(UpdateKind::kHeavyTailed, 3 * 4096, random);
        values[5000] = bad;
        const BlockCodec codec(options);
        const EncodedUpdate encoded = codec.encode(values, {}, {});
        const Result<Update> decoded = codec.decode(encoded.payload, values.size());
        REQUIRE_FALSE(decoded.ok());
        CHECK(decoded.error().code == ErrorCode::kCorrupt);
        CHECK(decoded.error().message == "a coded update: a payload with NaN or infinity");
      }
    }
  }
}

TEST_CASE("a changed payload is refused, or decodes to finite values at ascending indices") {
  std::uint64_t seed = 0;
  std::size_t refused = 0, taken = 0;
  const std::uint64_t seeds = 40 * seeds_percent() / 100;
  while (seed < seeds) {
    RandomStream random(++seed);
    INFO("seed " << seed);
    BlockCodecOptions options = options_of(kDensities[random.below(6)], kValueBits[random.below(4)]);
    if (random.chance(0.5)) options.dense_segment_begin = 4096;
    const std::size_t size = kSizes[1 + random.below(std::size(kSizes) - 1)];
    std::vector<float> values = random_update(kUpdateKinds[random.below(7)], size, random);
    const BlockCodec codec(options);
    const SharedBytes payload = codec.encode(values, {}, {}).payload;
    const auto decode = [&](std::vector<std::byte> bytes, std::uint64_t claimed) {
      const Result<Update> update = codec.decode(SharedBytes::take(std::move(bytes)), claimed);
      ++(update.ok() ? taken : refused);
      if (!update.ok()) return;
      REQUIRE(update->indices.size() == (update->dense ? 0 : update->values.size()));
      bool ascending = true, finite = true;
      for (std::size_t k = 0; k < update->indices.size(); ++k)
        ascending = ascending && update->indices[k] < claimed &&
                    (k == 0 || update->indices[k - 1] < update->indices[k]);
      for (const float value : update->values) finite = finite && std::isfinite(value);
      REQUIRE(ascending);
      REQUIRE(finite);
    };
    const std::vector<std::byte> good(payload.view().begin(), payload.view().end());
    for (int change = 0; change < 300; ++change) {
      std::vector<std::byte> bytes = good;
      // Mostly where the structure is.
      const std::size_t reach = random.chance(0.7) ? std::min<std::size_t>(bytes.size(), 64) : bytes.size();
      bytes[random.below(reach)] ^= static_cast<std::byte>(1u << random.below(8));
      decode(std::move(bytes), size);
    }
    std::vector<std::byte> cut = good, longer = good;
    cut.pop_back();
    longer.push_back({});
    const std::size_t before = taken;
    decode(std::move(cut), size);
    decode(std::move(longer), size);
    CHECK(taken == before);
    decode(good, random.below(3 * size + 1));
    decode(good, ~std::uint64_t{0});
  }
  CHECK(refused > taken);
}

TEST_CASE("a short payload makes no large allocation, whatever size is due") {
  // 1,000 blocks in groups of 256 and all of them empty: nothing but the directory.
  std::vector<float> zeros(1000 * 4096);
  const BlockCodec codec(options_of(0.0002, 2));
  const EncodedUpdate encoded = codec.encode(zeros, {}, {});
  CHECK(encoded.payload.size() == 8 + 4 * 12);
  const Result<Update> decoded = codec.decode(encoded.payload, zeros.size());
  REQUIRE(decoded.ok());
  CHECK(decoded->values.empty());
  CHECK_FALSE(codec.decode(encoded.payload, std::uint64_t{1} << 32).ok());
  CHECK_FALSE(codec.decode(encoded.payload, ~std::uint64_t{0}).ok());
}
