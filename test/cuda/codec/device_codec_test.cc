// Goal: payloads that a device makes are those of the CPU, byte for byte, and so is what it leaves and what
// it makes of payloads. Method: BlockCodec beside DeviceCodec on the emulated device, plain kernels and fast
// ones, every schedule, all kinds of values; payloads that are none.
#include "cuda/codec/device_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/codec/block_codec.h"
#include "test/cuda/codec/some_values.h"
#include "test/cuda/device_vector.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

std::vector<std::byte> bytes_of(const SharedBytes& bytes) {
  return {bytes.view().begin(), bytes.view().end()};
}

struct Case {
  BlockCodecOptions options;
  CodingContext context;
  std::vector<float> residual;
  std::vector<float> progress;  // empty: none
};

/// What encoding makes of a case.
struct Encoded {
  std::vector<std::byte> payload;
  std::vector<std::uint32_t> residual;  // as bits
  friend bool operator==(const Encoded&, const Encoded&) = default;
};

Encoded on_cpu(const Case& input) {
  std::vector<float> residual = input.residual;
  const EncodedUpdate encoded = BlockCodec(input.options).encode(residual, input.progress, input.context);
  return {bytes_of(encoded.payload), bits_of(residual)};
}

Encoded on_device(const Case& input, device::Form form) {
  DeviceCodec codec(input.options, nullptr, form);
  DeviceVector<float> residual(input.residual), progress(input.progress);
  const Result<SharedBytes> payload =
      codec.encode({residual.data(), input.residual.size()},
                   input.progress.empty() ? nullptr : progress.data(), input.context);
  INFO(fakecuda::kernel_failure());
  REQUIRE(payload.ok());
  return {bytes_of(*payload), bits_of(residual.to_host())};
}

/// The target after a payload has been merged with this factor, or the error.
Result<std::vector<std::uint32_t>> merged_on_cpu(const SharedBytes& payload, std::vector<float> target,
                                                 float factor) {
  const Result<Update> update = BlockCodec(BlockCodecOptions()).decode(payload, target.size());
  if (!update.ok()) return update.error();
  add(target, *update, factor);
  return bits_of(target);
}

Result<std::vector<std::uint32_t>> merged_on_device(const SharedBytes& payload,
                                                    const std::vector<float>& target, float factor,
                                                    device::Form form) {
  DeviceCodec codec(BlockCodecOptions(), nullptr, form);
  DeviceVector<float> on_device(target);
  const Status status = codec.merge(payload, {on_device.data(), target.size()}, factor);
  INFO(fakecuda::kernel_failure());
  REQUIRE(fakecuda::kernel_failure().empty());
  const std::vector<std::uint32_t> after = bits_of(on_device.to_host());
  if (status.ok()) return after;
  CHECK(after == bits_of(target));  // nothing is added of what is refused
  return status.error();
}

struct Way {
  device::Form form;
  simt::RunOptions run;
};

std::vector<Way> all_ways(std::uint64_t seed) {
  return {{device::Form::kPlain, {simt::Schedule::kForward, 1}},
          {device::Form::kFast, {simt::Schedule::kForward, 1}},
          {device::Form::kFast, {simt::Schedule::kReverse, 1}},
          {device::Form::kFast, {simt::Schedule::kRandom, seed}}};
}

void check_merge(const SharedBytes& payload, const std::vector<float>& target, float factor,
                 const std::vector<Way>& ways) {
  const Result<std::vector<std::uint32_t>> right = merged_on_cpu(payload, target, factor);
  for (const Way& way : ways) {
    CAPTURE(static_cast<int>(way.form), static_cast<int>(way.run.schedule));
    fakecuda::set_schedule(way.run);
    const Result<std::vector<std::uint32_t>> merged = merged_on_device(payload, target, factor, way.form);
    REQUIRE(merged.ok() == right.ok());
    if (right.ok()) {
      CHECK(*merged == *right);
    } else {
      CHECK(merged.error().code == right.error().code);
      CHECK(merged.error().message == right.error().message);
    }
  }
}

std::uint64_t seeds_percent() {
  const char* const percent = std::getenv("NANDUTI_SEEDS_PERCENT");
  return percent == nullptr ? 100 : std::strtoul(percent, nullptr, 10);
}

/// Where not all seeds run, under sanitizers, each case goes one of its ways.
void check(const Case& input, std::vector<Way> ways, std::uint64_t seed) {
  fakecuda::reset();
  if (seeds_percent() < 100) ways = {ways[seed % ways.size()]};
  const Encoded right = on_cpu(input);
  for (const Way& way : ways) {
    CAPTURE(static_cast<int>(way.form), static_cast<int>(way.run.schedule));
    fakecuda::set_schedule(way.run);
    const Encoded encoded = on_device(input, way.form);
    CHECK(encoded.payload == right.payload);
    CHECK(encoded.residual == right.residual);
  }
  RandomStream random(seed);
  std::vector<float> target(input.residual.size());
  for (float& value : target) value = static_cast<float>(random.uniform(-1, 1));
  check_merge(SharedBytes::take(right.payload), target, -0.5f, ways);
  CHECK(fakecuda::kernel_failure().empty());
  CHECK(fakecuda::leaks().empty());
}

Case case_of(std::size_t size, double density, std::uint32_t bits, int kind, std::uint64_t seed) {
  RandomStream random(seed);
  Case input;
  input.options.density = density;
  input.options.value_bits = bits;
  input.residual = some_values(random, size, kind);
  if (seed % 2 == 0) input.progress = some_values(random, size, kind);
  return input;
}

TEST_CASE("a device's payloads are the CPU's: sizes") {
  std::uint64_t seed = 1;
  for (const std::size_t size : {0, 1, 2, 3, 5, 31, 1023, 1025, 4093, 4095, 4096, 4097, 8191, 8192, 70001})
    for (const std::uint32_t bits : {2u, 4u, 8u, 32u}) {
      ++seed;
      CAPTURE(size, bits);
      check(case_of(size, 0.01, bits, 0, seed), all_ways(seed), seed);
    }
}

TEST_CASE("a device's payloads are the CPU's: densities, kinds of values and codes") {
  std::uint64_t seed = 100;
  for (int kind = 0; kind < kKinds; ++kind)
    for (const double density : {0.00025, 0.001, 0.01, 0.1, 0.5, 0.9, 1.0})
      for (const std::uint32_t bits : {2u, 4u, 8u, 32u}) {
        CAPTURE(kind, density, bits);
        ++seed;
        const std::vector<Way> ways = all_ways(seed);
        // All of them take long: one after the other.
        check(case_of(9000, density, bits, kind, seed), {ways[0], ways[1 + seed % 3]}, seed);
      }
}

TEST_CASE(
    "a device's payloads are the CPU's: a dense segment, tensors with densities of their own, a warm-up") {
  for (std::uint64_t seed = 200; seed < 212; ++seed) {
    CAPTURE(seed);
    Case input = case_of(9 * kBlockSize + (seed % 3 == 0 ? 100 : 0), 0.01, seed % 4 < 2 ? 2 : 4,
                         static_cast<int>(seed % kKinds), seed);
    input.context.begin = seed % 2 * 5 * kBlockSize;
    input.options.dense_segment_begin = input.context.begin + (seed % 5 + 3) * kBlockSize;
    input.options.densities = {{{kBlockSize, 2 * kBlockSize}, 0.7},
                               {{6 * kBlockSize, 7 * kBlockSize}, 1.0},
                               {{7 * kBlockSize, 9 * kBlockSize}, 0.0003}};
    input.options.warmup_epochs = 4;
    input.context.epochs_done = static_cast<double>(seed % 6);
    check(input, all_ways(seed), seed);
  }
}

TEST_CASE("groups that go without loss are the same: few values in few blocks, more than a block may send") {
  for (std::uint64_t seed = 300; seed < 316; ++seed) {
    CAPTURE(seed);
    RandomStream random(seed);
    Case input = case_of(40 * kBlockSize, 0.01, seed % 2 == 0 ? 2 : 8, 5, 2 * seed + 1);
    // A run of values in one block or two, as a row of a table has them, and some that are alone.
    const std::size_t runs = 1 + seed % 3, length = 20 + 40 * (seed % 7);
    for (std::size_t run = 0; run < runs; ++run) {
      const std::size_t begin = random.below(40 * kBlockSize - length);
      for (std::size_t i = 0; i < length; ++i)
        input.residual[begin + i] = static_cast<float>(random.uniform(-1, 1));
    }
    check(input, all_ways(seed), seed);
  }
}

TEST_CASE("one codec encodes updates of several sizes, in turns") {
  fakecuda::reset();
  BlockCodecOptions options;
  options.warmup_epochs = 1;
  DeviceCodec device(options, nullptr);
  const BlockCodec host(options);
  RandomStream random(7);
  for (int round = 0; round < 6; ++round) {
    const std::size_t size = round % 2 == 0 ? 20000 : 5000;
    std::vector<float> residual = some_values(random, size, 0);
    CodingContext context;
    context.epochs_done = round < 3 ? 0 : 2;
    DeviceVector<float> on_device(residual);
    const Result<SharedBytes> payload = device.encode({on_device.data(), size}, nullptr, context);
    REQUIRE(payload.ok());
    CHECK(bytes_of(*payload) == bytes_of(host.encode(residual, {}, context).payload));
    CHECK(bits_of(on_device.to_host()) == bits_of(residual));
  }
}

TEST_CASE("payloads that are none are refused as the CPU does, and change nothing") {
  fakecuda::reset();
  RandomStream random(11);
  std::vector<Case> cases;
  for (const double density : {0.01, 0.3, 1.0})
    for (const std::uint32_t bits : {2u, 8u, 32u})
      cases.push_back(case_of(9000, density, bits, 0, random.below(1000)));
  cases.push_back(case_of(9000, 0.01, 2, 4, 5));  // NaN and infinity
  int refused = 0;
  for (const Case& input : cases) {
    const std::vector<std::byte> payload = on_cpu(input).payload;
    const std::vector<float> target(input.residual.size(), 1.0f);
    for (int turn = 0; turn < 30; ++turn) {
      std::vector<std::byte> wrong = payload;
      const std::size_t at = random.below(wrong.size());
      if (turn > 0) wrong[at] ^= static_cast<std::byte>(1u << random.below(8));
      if (turn % 10 == 9) wrong.resize(at);
      const std::uint64_t seed = random.below(1000);
      CAPTURE(turn, at, seed);
      const std::vector<Way> ways = all_ways(seed);
      if (!merged_on_cpu(SharedBytes::take(wrong), target, 1).ok()) ++refused;
      check_merge(SharedBytes::take(wrong), target, 1, {ways[0], ways[1 + seed % 3]});
    }
  }
  CHECK(refused > 30);
  CHECK(fakecuda::leaks().empty());
}

TEST_CASE("NaN and infinity are sent as they are, and every receiver refuses them") {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
    Case input = case_of(9000, 0.01, 2, 0, 21);
    input.residual[5000] = value;
    fakecuda::reset();
    const Encoded encoded = on_device(input, device::Form::kFast);
    CHECK(encoded == on_cpu(input));
    const std::vector<float> target(9000, 1.0f);
    const auto merged = merged_on_device(SharedBytes::take(encoded.payload), target, 1, device::Form::kFast);
    REQUIRE_FALSE(merged.ok());
    CHECK(merged.error().code == ErrorCode::kCorrupt);
    CHECK(merged.error().message.find("NaN or infinity") != std::string::npos);
  }
}

TEST_CASE("an error of CUDA ends a call with its words, and the codec can be used again") {
  const Case input = case_of(9000, 0.01, 2, 0, 31);
  const Encoded right = on_cpu(input);
  for (const std::string function : {"cudaMalloc", "cudaMemcpyAsync", "cudaMemsetAsync",
                                     "cudaStreamSynchronize", "cudaLaunchKernel", "cudaFree"}) {
    for (std::uint64_t nth = 1;; ++nth) {
      CAPTURE(function, nth);
      // What cannot be freed is lost.
      if (function != "cudaFree") CHECK(fakecuda::leaks().empty());
      fakecuda::reset();
      DeviceVector<float> residual(input.residual), again(input.residual);
      DeviceCodec codec(input.options, nullptr);
      fakecuda::fail_call(function, nth, cudaErrorMemoryAllocation);
      const Result<SharedBytes> payload = codec.encode({residual.data(), 9000}, nullptr, input.context);
      Status merged;
      if (payload.ok()) merged = codec.merge(*payload, {residual.data(), 9000}, 1);
      if (fakecuda::has_failures_left()) break;
      if (!payload.ok() || !merged.ok()) {
        const Error& error = payload.ok() ? merged.error() : payload.error();
        CHECK(error.code == ErrorCode::kExhausted);
        CHECK(error.message.find("cudaErrorMemoryAllocation") != std::string::npos);
      }
      const Result<SharedBytes> second = codec.encode({again.data(), 9000}, nullptr, input.context);
      REQUIRE(second.ok());
      CHECK(bytes_of(*second) == right.payload);
    }
  }
  fakecuda::reset();
}

TEST_CASE("groups of 256 blocks are the same") {
  for (const std::uint32_t bits : {2u, 8u}) {
    const Case input = case_of(260 * kBlockSize + 77, 0.001, bits, bits == 2 ? 0 : 2, 60 + bits);
    check(input, {{device::Form::kPlain, {}}, {device::Form::kFast, {simt::Schedule::kRandom, 61}}}, 61);
  }
}

TEST_CASE("five million values are the same") {
  const std::size_t size = 50'000 * seeds_percent() + 77;
  check(case_of(size, 0.01, 2, 0, 52), {{device::Form::kFast, {simt::Schedule::kRandom, 52}}}, 52);
}

TEST_CASE("a device moves twelve bytes for each parameter, and little more than what is sent") {
  fakecuda::reset();
  const std::size_t size = 64 * kBlockSize;
  Case input = case_of(size, 0.01, 2, 0, 42);
  const Encoded encoded = on_device(input, device::Form::kFast);
  simt::Traffic sum;
  for (const auto& [kernel, traffic] : fakecuda::traffic()) {
    sum.loaded_bytes += traffic.loaded_bytes;
    sum.stored_bytes += traffic.stored_bytes;
    UNSCOPED_INFO(kernel << ": " << static_cast<double>(traffic.loaded_bytes) / static_cast<double>(size)
                         << " in, " << static_cast<double>(traffic.stored_bytes) / static_cast<double>(size)
                         << " out");
  }
  UNSCOPED_INFO("payload: " << static_cast<double>(encoded.payload.size()) / static_cast<double>(size));
  CHECK(fakecuda::traffic().at("select_fast").loaded_bytes < 8 * size + 1024);
  CHECK(sum.loaded_bytes + sum.stored_bytes < 13 * size + size / 2 + encoded.payload.size());
}

}  // namespace
}  // namespace nanduti
