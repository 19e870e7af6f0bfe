// Goal: a codec's bytes are the same for ever, with every compiler, instruction set and number of threads.
// Method: updates made from seeds against the files in codec/, each a payload and then a fingerprint of what
// is sent and what stays. NANDUTI_WRITE_GOLDEN=1 writes them anew: a change is a new format (kCodecFormat).
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "common/codec/block_payload.h"
#include "common/codec/group_encoder.h"
#include "test/common/codec/random_updates.h"
#include "test/support/catch.h"

using namespace nanduti;

namespace {

struct GoldenCase {
  const char* name;
  UpdateKind kind;
  std::size_t size;
  double density;
  std::uint32_t value_bits;
  std::uint64_t dense_begin;
};
constexpr std::uint64_t kNone = ~std::uint64_t{0};
constexpr GoldenCase kCases[] = {
    {"two_bits", UpdateKind::kBell, 80 * 4096, 0.01, 2, kNone},
    {"two_bits_rows", UpdateKind::kRows, 40 * 4096 + 100, 1.0 / 64, 2, kNone},
    {"two_bits_thin", UpdateKind::kHeavyTailed, 300 * 4096, 0.001, 2, kNone},
    {"four_bits", UpdateKind::kBell, 30 * 4096, 0.02, 4, kNone},
    {"eight_bits", UpdateKind::kHeavyTailed, 20 * 4096, 0.02, 8, kNone},
    {"float32", UpdateKind::kAnyBits, 20 * 4096, 0.01, 32, kNone},
    {"ties", UpdateKind::kFewLevels, 3 * 4096, 0.25, 2, kNone},
    {"exact", UpdateKind::kMostlyZero, 40 * 4096, 0.05, 2, kNone},
    {"dense_segment", UpdateKind::kBell, 2 * 4096 + 300, 0.01, 2, 4096},
    {"all", UpdateKind::kBell, 1000, 1.0, 2, kNone},
    {"tiny", UpdateKind::kAnyBits, 8, 0.3, 4, kNone},
};

std::filesystem::path file_of(const GoldenCase& golden) {
  return std::filesystem::path(NANDUTI_GOLDEN) / "codec" / (std::string(golden.name) + ".bin");
}

std::vector<float> update_of(const GoldenCase& golden) {
  RandomStream random(1);
  return random_update(golden.kind, golden.size, random);
}

/// The file that a case gives, coded by so many threads.
std::string encoded(const GoldenCase& golden, std::vector<float> residual, const CodecKernels& kernels,
                    std::size_t threads) {
  BlockCodecOptions options;
  options.density = golden.density;
  options.value_bits = golden.value_bits;
  options.dense_segment_begin = golden.dense_begin;
  const CodingContext context;
  const EncodingPlan plan(options, context, golden.size);
  const GroupGrid& grid = plan.grid();
  std::vector<EncodedGroups> parts(threads);
  std::vector<std::thread> running;
  for (std::size_t thread = 0; thread < threads; ++thread) {
    running.emplace_back([&, thread] {
      GroupEncoder encoder(plan, residual, {}, kernels);
      for (std::uint64_t group = grid.count() * thread / threads;
           group < grid.count() * (thread + 1) / threads; ++group)
        encoder.encode(group, parts[thread]);
    });
  }
  for (std::thread& thread : running) thread.join();
  const SharedBytes payload = write_block_payload(grid, parts);
  const Result<Update> update = read_block_payload(payload, golden.size, kernels);
  REQUIRE(update.ok());
  Fingerprint fingerprint;
  fingerprint.add(std::as_bytes(update->indices));
  fingerprint.add(std::as_bytes(update->values));
  fingerprint.add(std::as_bytes(std::span(residual)));
  std::string bytes(reinterpret_cast<const char*>(payload.data()), payload.size());
  for (int shift = 0; shift < 64; shift += 8)
    bytes += static_cast<char>((fingerprint.value() >> shift) & 0xFF);
  return bytes;
}

}  // namespace

TEST_CASE("the codec's bytes are the golden ones, in every form and with one thread and two") {
  const bool write = std::getenv("NANDUTI_WRITE_GOLDEN") != nullptr;
  for (const GoldenCase& golden : kCases) {
    const std::vector<float> values = update_of(golden);
    if (write)
      std::ofstream(file_of(golden), std::ios::binary) << encoded(golden, values, plain_kernels(), 1);
    std::ifstream file(file_of(golden), std::ios::binary);
    const std::string expected{std::istreambuf_iterator<char>(file), {}};
    REQUIRE(expected.size() > sizeof(PayloadHeader));
    for (const CodecKernels* kernels : available_kernels()) {
      for (const std::size_t threads : {1u, 2u}) {
        INFO(golden.name << ", " << kernels->name << ", threads: " << threads);
        const bool same = encoded(golden, values, *kernels, threads) == expected;
        CHECK(same);
      }
    }
  }
}
