// Goal: every form of the codec's inner loops gives what the plain one gives, bit for bit. Method: random
// inputs of all sizes, with subnormals, equal magnitudes, zeros, NaN; buffers end where they may, so that
// AddressSanitizer sees a step too far.
#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "common/codec/bit_packing.h"
#include "common/codec/codec_kernels.h"
#include "common/codec/rice.h"
#include "test/common/codec/random_updates.h"
#include "test/support/catch.h"

using namespace nanduti;

namespace {

struct Buffers {
  explicit Buffers(std::size_t size) : indices(size + kKernelSlack), bits(size + kKernelSlack) {}
  Candidates candidates() { return {indices.data(), bits.data()}; }
  std::vector<std::uint32_t> indices, bits;
};

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b, std::size_t count) {
  return std::memcmp(a.data(), b.data(), count * sizeof(T)) == 0;
}

/// Calls body(kernels) for every form but the plain one.
template <class Body>
void for_each_form(Body body) {
  for (const CodecKernels* kernels : available_kernels()) {
    if (kernels == &plain_kernels()) continue;
    INFO(kernels->name);
    body(*kernels);
  }
}

std::vector<float> special_update(std::uint64_t seed, std::size_t size) {
  RandomStream random(seed);
  std::vector<float> values = random_update(kUpdateKinds[seed % std::size(kUpdateKinds)], size, random);
  if (size > 0 && random.chance(0.2)) values[random.below(size)] = std::bit_cast<float>(0x7FC00000u);
  return values;
}

}  // namespace

#if defined(__x86_64__)
TEST_CASE("what the processor has is chosen, and tested here") {
  std::size_t forms = 1;
  if (__builtin_cpu_supports("avx2") != 0) ++forms;
  if (__builtin_cpu_supports("avx512vbmi2") != 0) ++forms;
  CHECK(available_kernels().size() == forms);
  CHECK(&best_kernels() == available_kernels().back());
}
#endif

TEST_CASE("all forms select alike") {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    INFO("seed " << seed);
    RandomStream random(1000 + seed);
    const std::size_t size = seed < 70 ? seed : random.below(4097);
    const std::vector<float> residual = special_update(seed, size), progress = special_update(seed + 1, size);
    const std::uint32_t threshold =
        size == 0 || random.chance(0.2)
            ? 1
            : std::max(1u, std::bit_cast<std::uint32_t>(progress[random.below(size)]) & kMagnitudeBits);
    std::vector<float> expected_residual = residual;
    Buffers expected(size);
    const float* const added = random.chance(0.8) ? progress.data() : nullptr;
    const auto bin_log2 = static_cast<std::uint32_t>(random.below(5));
    std::vector<std::uint32_t> expected_maxima(size + 16 * 16);
    const std::size_t bins =
        plain_kernels().accumulate(expected_residual.data(), added, size, bin_log2, expected_maxima.data());
    const std::size_t count =
        plain_kernels().collect(expected_residual.data(), added, size, threshold, expected.candidates());
    const std::size_t wanted = count == 0 ? 0 : 1 + random.below(count);
    std::vector<std::uint32_t> magnitudes(expected.bits.begin(),
                                          expected.bits.begin() + static_cast<std::ptrdiff_t>(count));
    for (std::uint32_t& bits : magnitudes) bits &= kMagnitudeBits;
    std::sort(magnitudes.begin(), magnitudes.end(), std::greater<>());
    const std::uint32_t rank = count == 0 ? 1 : magnitudes[wanted - 1];
    const auto from_rank = static_cast<std::size_t>(std::count_if(
        magnitudes.begin(), magnitudes.end(), [&](std::uint32_t bits) { return bits >= rank; }));
    REQUIRE(plain_kernels().count_from(expected.bits.data(), count, rank) == from_rank);
    std::vector<std::uint32_t> kept_indices(wanted + kKernelSlack);
    std::vector<float> kept(wanted + kKernelSlack);
    plain_kernels().keep_largest(expected.candidates(), count, wanted, rank, 7, kept_indices.data(),
                                 kept.data());
    for_each_form([&](const CodecKernels& kernels) {
      std::vector<float> got_residual = residual;
      Buffers got(size);
      std::vector<std::uint32_t> maxima(expected_maxima.size());
      REQUIRE(kernels.accumulate(got_residual.data(), added, size, bin_log2, maxima.data()) == bins);
      REQUIRE(same(got_residual, expected_residual, size));
      REQUIRE(same(maxima, expected_maxima, bins));
      REQUIRE(kernels.collect(got_residual.data(), added, size, threshold, got.candidates()) == count);
      REQUIRE(same(got.indices, expected.indices, count));
      REQUIRE(same(got.bits, expected.bits, count));
      if (count == 0) return;
      REQUIRE(kernels.count_from(got.bits.data(), count, rank) == from_rank);
      std::vector<std::uint32_t> indices(wanted + kKernelSlack);
      std::vector<float> values(wanted + kKernelSlack);
      kernels.keep_largest(got.candidates(), count, wanted, rank, 7, indices.data(), values.data());
      REQUIRE(same(indices, kept_indices, wanted));
      REQUIRE(same(values, kept, wanted));
    });
  }
}

TEST_CASE("all forms read indices alike, and as they were written") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    INFO("seed " << seed);
    RandomStream random(seed);
    const std::size_t count = 1 + random.below(seed < 100 ? 40 : 1500);
    const auto parameter = static_cast<std::uint32_t>(random.below(16));
    std::vector<std::uint32_t> indices(count);
    std::uint32_t next = 0;
    for (std::uint32_t& index : indices) {
      index =
          next + static_cast<std::uint32_t>(random.below(std::uint64_t{2} << random.below(parameter + 1)));
      next = index + 1;
    }
    const std::uint64_t unary_bits = count + ((next >> parameter) + 1);
    std::vector<std::byte> unary(unary_bits / 8 + 1 + kKernelSlackBytes),
        remainders(count * parameter / 8 + 1 + kKernelSlackBytes);
    write_rice(indices, parameter, unary.data(), remainders.data());
    std::size_t unary_bytes = unary.size();
    while (unary[unary_bytes - 1] == std::byte{0}) --unary_bytes;
    // What follows a section is not the kernel's to see.
    for (std::size_t at = unary_bytes; at < unary.size(); ++at) unary[at] = std::byte{0xFF};
    unary.resize(unary_bytes + kKernelSlackBytes);
    std::vector<std::uint32_t> expected(count + kKernelSlack);
    plain_kernels().positions_of_ones(unary.data(), unary_bytes, expected.data());
    const std::vector<std::uint32_t> positions = expected;
    plain_kernels().rice_indices(remainders.data(), parameter, count, 0, expected.data());
    REQUIRE(same(expected, indices, count));
    for_each_form([&](const CodecKernels& kernels) {
      std::vector<std::uint32_t> got(count + kKernelSlack);
      kernels.positions_of_ones(unary.data(), unary_bytes, got.data());
      REQUIRE(same(got, positions, count));
      kernels.rice_indices(remainders.data(), parameter, count, 0, got.data());
      REQUIRE(same(got, indices, count));
    });
  }
}

TEST_CASE("all forms look values up alike") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    RandomStream random(seed);
    const std::size_t count = seed < 70 ? seed : random.below(2000);
    for (const std::uint32_t bits : {2u, 4u}) {
      std::vector<float> table(1u << bits);
      for (float& entry : table) entry = random_finite(random);
      std::vector<std::byte> codes(count * bits / 8 + 1 + kKernelSlackBytes);
      for (std::byte& byte : codes) byte = static_cast<std::byte>(random.below(256));
      std::vector<float> expected(count + kKernelSlack), got(count + kKernelSlack);
      plain_kernels().look_up(codes.data(), bits, count, table.data(), expected.data());
      for_each_form([&](const CodecKernels& kernels) {
        kernels.look_up(codes.data(), bits, count, table.data(), got.data());
        REQUIRE(same(got, expected, count));
      });
    }
  }
}
