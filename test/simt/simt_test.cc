// Goal: a grid runs as CUDA says, under every order, and what a kernel does wrong is an error that names it.
// Method: small kernels, right ones and ones with a planted fault, under all schedules.
#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <cstdlib>

#include <sys/wait.h>
#include <unistd.h>
#endif

#include "test/simt/kernel_language.h"
#include "test/support/catch.h"

namespace nanduti::simt {
namespace {

using device::load;
using device::store;

constexpr unsigned kAll = ~0u;

std::vector<RunOptions> schedules() {
  std::vector<RunOptions> all = {{Schedule::kForward, 1}, {Schedule::kReverse, 1}};
  for (std::uint64_t seed = 1; seed <= 5; ++seed) all.push_back({Schedule::kRandom, seed});
  return all;
}

/// The error's text; empty if there is none.
std::string run(unsigned blocks, unsigned threads, const std::function<void()>& kernel,
                RunOptions options = {}) {
  const Result<Traffic> result = run_grid("kernel", {{blocks}, {threads}}, options, kernel);
  return result.ok() ? std::string() : result.error().message;
}

/// How many of them there are.
struct Counted {
  explicit Counted(int& alive) : count(alive) {
    on_host([this] { ++count; });
  }
  ~Counted() {
    on_host([this] { --count; });
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  int& count;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("every thread of a grid runs once, at its own place") {
  for (const RunOptions& options : schedules()) {
    std::multiset<std::tuple<unsigned, unsigned, unsigned, unsigned, unsigned, unsigned>> places;
    const auto kernel = [&] {
      on_host([&] {
        places.emplace(threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z);
        REQUIRE(blockDim.y == 3);
        REQUIRE(gridDim.x == 2);
      });
    };
    REQUIRE(run_grid("kernel", {{2, 3, 2}, {5, 3, 2}}, options, kernel).ok());
    CHECK(places.size() == 12 * 30);
    CHECK(std::set(places.begin(), places.end()).size() == 12 * 30);
    CHECK(places.count({4, 2, 1, 1, 2, 1}) == 1);
  }
}

TEST_CASE("a shape that no device takes is refused") {
  CHECK(has(run(1, 1025, [] {}), "a block of 1025 x 1 x 1 threads"));
  CHECK(has(run(1, 0, [] {}), "a block of 0"));
  CHECK_FALSE(run_grid("kernel", {{1}, {1, 1, 65}}, {}, [] {}).ok());
  CHECK_FALSE(run_grid("kernel", {{1, 65536}, {1}}, {}, [] {}).ok());
  CHECK(has(run(0, 1, [] {}), "a grid of 0 x 1 x 1 blocks"));
}

/// out[i] = in[block's other end], through shared memory.
void reverse(const float* in, float* out, bool with_barrier) {
  NANDUTI_SHARED(float, tile, 64);
  const unsigned base = blockIdx.x * 64;
  tile[threadIdx.x] = load(&in[base + threadIdx.x]);
  if (with_barrier) __syncthreads();
  store(&out[base + threadIdx.x], tile[63 - threadIdx.x]);
}

std::vector<float> ascending(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  return values;
}

std::vector<float> reversed(const RunOptions& options, bool with_barrier) {
  const std::vector<float> in = ascending(256);
  std::vector<float> out(256);
  const auto kernel = [&] { reverse(in.data(), out.data(), with_barrier); };
  REQUIRE(run(4, 64, kernel, options).empty());
  return out;
}

TEST_CASE("a barrier lets every thread see what all have written") {
  std::vector<float> right = ascending(256);
  for (std::size_t block = 0; block < 4; ++block)
    std::reverse(right.begin() + 64 * block, right.begin() + 64 * (block + 1));
  for (const RunOptions& options : schedules()) CHECK(reversed(options, true) == right);
}

#if !defined(__SANITIZE_THREAD__)
TEST_CASE("without the barrier every order shows that it is missing") {
  for (const RunOptions& options : schedules()) {
    const std::vector<float> out = reversed(options, false);
    CHECK(std::any_of(out.begin(), out.end(), [](float value) { return std::isnan(value); }));
  }
}
#endif

TEST_CASE("a barrier that not all threads reach is an error with its line") {
  for (const RunOptions& options : schedules()) {
    unsigned line = 0;
    const auto ends = [&] {
      if (threadIdx.x >= 40) return;
      on_host([&] { line = __LINE__ + 1; });
      __syncthreads();
    };
    const std::string text = run(2, 64, ends, options);
    CHECK(
        has(text, "24 of 64 threads have ended without the barrier at simt_test.cc:" + std::to_string(line)));
    const auto two = [] {
      if (threadIdx.x < 40)
        __syncthreads();
      else
        __syncthreads();
    };
    CHECK(has(run(1, 64, two, options), "threads of a block wait at different barriers, simt_test.cc:"));
    // clang-format off
    const auto on_one_line = [] { if (threadIdx.x < 40) __syncthreads(); else __syncthreads(); };
    // clang-format on
    CHECK(has(run(1, 64, on_one_line, options), "threads of a block wait at different barriers"));
  }
}

TEST_CASE("a deadlock is reported with who waits where") {
  for (const RunOptions& options : schedules()) {
    const auto kernel = [] {
      if (threadIdx.x < 32)
        __syncthreads();
      else if (threadIdx.x < 40)
        __syncwarp(0xFFFF);
      else
        __syncthreads();
    };
    const std::string text = run(1, 64, kernel, options);
    CHECK(has(text, "deadlock in block (0, 0, 0): "));
    CHECK(has(text, "8 wait for the lanes 0xffff at simt_test.cc:"));
    CHECK(has(text, "32 threads wait at the barrier simt_test.cc:"));
    CHECK(has(text, "24 threads wait at the barrier simt_test.cc:"));
  }
}

TEST_CASE("lanes of a warp exchange values") {
  for (const RunOptions& options : schedules()) {
    std::vector<std::uint32_t> sums(64), ups(64), downs(64), others(64), ballots(64), broadcast(64),
        maxima(64), right(64);
    const auto kernel = [&] {
      const unsigned t = threadIdx.x;
      unsigned sum = t;
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
      sums[t] = sum;
      ups[t] = __shfl_up_sync(kAll, t, 3);
      downs[t] = __shfl_down_sync(kAll, t, 5);
      others[t] = static_cast<unsigned>(__shfl_xor_sync(kAll, static_cast<double>(t), 1));
      ballots[t] = __ballot_sync(kAll, t % 3 == 0);
      broadcast[t] = __shfl_sync(kAll, t, 7);
      maxima[t] = __reduce_max_sync(kAll, t ^ 5);
      right[t] = __reduce_add_sync(kAll, 2) == 64 && __reduce_or_sync(kAll, t) == (t < 32 ? 31u : 63u) &&
                 __any_sync(kAll, t == 40) == (t >= 32 ? 1 : 0) &&
                 __all_sync(kAll, t < 40) == (t < 32 ? 1 : 0);
    };
    REQUIRE(run(1, 64, kernel, options).empty());
    for (unsigned t = 0; t < 64; ++t) {
      CHECK(right[t] == 1);
      const unsigned warp = t / 32 * 32;
      CHECK(sums[t] == 32 * warp + 496);
      CHECK(ups[t] == (t % 32 >= 3 ? t - 3 : t));
      CHECK(downs[t] == (t % 32 < 27 ? t + 5 : t));
      CHECK(others[t] == (t ^ 1));
      CHECK(broadcast[t] == warp + 7);
      CHECK(maxima[t] == warp + 31);
      for (unsigned lane = 0; lane < 32; ++lane)
        CHECK((ballots[t] >> lane & 1) == ((warp + lane) % 3 == 0 ? 1u : 0u));
    }
  }
}

TEST_CASE("a part of a warp may do something together, if it says which") {
  for (const RunOptions& options : schedules()) {
    std::vector<unsigned> got(32);
    const auto kernel = [&] {
      if (threadIdx.x < 8)
        got[threadIdx.x] = __reduce_add_sync(0xFF, 1);
      else
        got[threadIdx.x] = __reduce_add_sync(0xFFFFFF00, 1);
    };
    REQUIRE(run(1, 32, kernel, options).empty());
    for (unsigned t = 0; t < 32; ++t) CHECK(got[t] == (t < 8 ? 8u : 24u));
  }
}

TEST_CASE("a shuffle with lanes that are not there is an error") {
  for (const RunOptions& options : schedules()) {
    const auto odd_block = [] { (void)__shfl_xor_sync(kAll, threadIdx.x, 1); };
    const std::string text = run(1, 48, odd_block, options);
    CHECK(has(text, "the mask names lane 16, which the block does not have, by thread ("));
    const auto ended = [] {
      if (threadIdx.x % 2 == 0) return;
      (void)__ballot_sync(kAll, 1);
    };
    const std::string partial = run(1, 32, ended, options);
    CHECK((has(partial, "which has ended") || has(partial, "deadlock")));
    const auto outside = [] {
      if (threadIdx.x < 8) (void)__shfl_sync(0xFF, threadIdx.x, 9);
    };
    CHECK(has(run(1, 32, outside, options), "the value of lane 9 is asked for, which is not in the mask"));
    const auto not_in_it = [] { (void)__ballot_sync(0xFF, 1); };
    CHECK(has(run(1, 32, not_in_it, options), "a lane that is not in its own mask"));
    const auto different = [] {
      if (threadIdx.x < 8)
        (void)__ballot_sync(kAll, 1);
      else
        (void)__ballot_sync(kAll, 0);
    };
    CHECK(has(run(1, 32, different, options), "lanes of a warp wait for each other in different places"));
  }
}

TEST_CASE("shared memory is each block's own, poisoned, and checked") {
  for (const RunOptions& options : schedules()) {
    bool poisoned = true;
    const auto kernel = [&] {
      NANDUTI_SHARED(float, values, 32);
      NANDUTI_SHARED(unsigned, counts, 1);
      const bool is = std::isnan(values[threadIdx.x]) && counts[0] == ~0u;
      on_host([&] { poisoned = poisoned && is; });
      __syncthreads();
      values[threadIdx.x] = 1;
      if (threadIdx.x == 0) counts[0] = 5;
      __syncthreads();
      if (counts[0] != 5) fail("not 5", std::source_location::current());
    };
    CHECK(run(3, 32, kernel, options).empty());
    CHECK(poisoned);
    const auto beyond = [] {
      NANDUTI_SHARED(float, values, 32);
      values[threadIdx.x + 1] = 1;
    };
    CHECK(has(run(1, 32, beyond, options), "index 32 in shared memory of 32 items, by thread (31, 0, 0)"));
    const auto by_pointer = [] {
      NANDUTI_SHARED(float, values, 32);
      if (threadIdx.x == 0) (&values[31])[1] = 1;
    };
    CHECK(has(run(1, 32, by_pointer, options), "block (0, 0, 0) has written behind the shared memory of "));
    const auto all_of_it = [] {
      NANDUTI_SHARED(float, first, 6144);
      NANDUTI_SHARED(float, second, 6144);
      first[0] = second[6143] = 1;
    };
    CHECK(run(1, 1, all_of_it, options).empty());
    const auto too_much = [] {
      NANDUTI_SHARED(float, values, 12289);
      values[0] = 1;
    };
    CHECK(has(run(1, 32, too_much, options), "49156 bytes of shared memory, of which a block has 49152"));
  }
}

template <class T>
T shared_by_type(T value) {
  NANDUTI_SHARED(T, one, 1);
  if (threadIdx.x == 0) one[0] = value;
  __syncthreads();
  return one[0];
}

TEST_CASE("each type of a template has an array of its own") {
  std::vector<float> sums(32);
  const auto kernel = [&] {
    const float real = shared_by_type<float>(1.5f);
    const unsigned whole = shared_by_type<unsigned>(2);
    sums[threadIdx.x] = real + static_cast<float>(whole);
    __syncthreads();
    if (shared_by_type<float>(1.5f) != 1.5f) fail("not its own", std::source_location::current());
  };
  CHECK(run(1, 32, kernel).empty());
  CHECK(sums == std::vector<float>(32, 3.5f));
}

TEST_CASE("what a thread throws comes through, and all others are unwound") {
  int alive = 0;
  const auto kernel = [&] {
    const Counted counted(alive);
    if (threadIdx.x == 7) throw std::runtime_error("thrown");
    __syncthreads();
  };
  for (const RunOptions& options : schedules()) {
    CHECK_THROWS_AS(run(2, 64, kernel, options), std::runtime_error);
    CHECK(alive == 0);
  }
}

TEST_CASE("atomics lose nothing") {
  for (const RunOptions& options : schedules()) {
    unsigned sum = 0, bits = 0, maximum = 0;
    const auto kernel = [&] {
      atomicAdd(&sum, 2);
      atomicOr(&bits, 1u << (threadIdx.x % 32));
      atomicMax(&maximum, threadIdx.x * 3);
    };
    CHECK(run(4, 64, kernel, options).empty());
    CHECK(sum == 512);
    CHECK(bits == kAll);
    CHECK(maximum == 189);
  }
}

TEST_CASE("what threads load and store is counted, and has to be aligned") {
  alignas(16) float values[68] = {};
  std::vector<float> out(16);
  const auto kernel = [&] {
    const float4 four = load(reinterpret_cast<const float4*>(values) + threadIdx.x);
    store(&out[threadIdx.x], four.x);
  };
  const Result<Traffic> traffic = run_grid("kernel", {{3}, {16}}, {}, kernel);
  REQUIRE(traffic.ok());
  CHECK(traffic->loaded_bytes == 3 * 256);
  CHECK(traffic->stored_bytes == 3 * 64);
  const unsigned line = __LINE__ + 1;
  const auto misaligned = [&] { (void)load(reinterpret_cast<const float4*>(values + 1) + threadIdx.x); };
  CHECK(has(run(1, 16, misaligned),
            "kernel kernel: simt_test.cc:" + std::to_string(line) +
                ": an access of 16 bytes that is not aligned to them, by thread (0, 0, 0)"));
}

TEST_CASE("who knows what memory is whose is asked before every access") {
  std::vector<float> values(16);
  set_memory_check([&](const void* address, std::size_t) {
    return address < values.data() + 16 ? std::string() : std::string("behind the array");
  });
  const auto kernel = [&] { store(&values.data()[threadIdx.x], 1); };
  CHECK(run(1, 16, kernel).empty());
  CHECK(has(run(1, 17, kernel), "behind the array, by thread (16, 0, 0)"));
  set_memory_check({});
}

TEST_CASE(
    "a run that has failed leaves nothing behind: destructors run, and the next run is as good as new") {
  int alive = 0;
  const auto kernel = [&] {
    const Counted counted(alive);
    if (threadIdx.x == 7) fail("planted", std::source_location::current());
    __syncthreads();
  };
  for (const RunOptions& options : schedules()) {
    CHECK(has(run(3, 64, kernel, options), "planted, by thread (7, 0, 0)"));
    CHECK(alive == 0);
    CHECK(run(
              3, 64, [] { __syncthreads(); }, options)
              .empty());
  }
}

TEST_CASE("a random schedule is its seed's: the same again, another with another seed") {
  const auto order = [](std::uint64_t seed) {
    std::vector<unsigned> steps;
    const auto kernel = [&] {
      on_host([&] { steps.push_back(blockIdx.x * 100 + threadIdx.x); });
      __syncthreads();
      on_host([&] { steps.push_back(threadIdx.x); });
    };
    REQUIRE(run(3, 20, kernel, {Schedule::kRandom, seed}).empty());
    return steps;
  };
  CHECK(order(1) == order(1));
  CHECK(order(1) != order(2));
}

#if defined(__SANITIZE_THREAD__)
/// The exit status of a process in which a grid has run `kernel`: ThreadSanitizer's is 66 where it saw a
/// race.
int status_after(const std::function<void()>& kernel) {
  const pid_t child = ::fork();
  if (child == 0) {
    const bool ok = run(2, 64, kernel).empty();
    std::exit(ok ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WEXITSTATUS(status);
}

TEST_CASE("to ThreadSanitizer every thread of a block is one: a missing barrier is a race, a barrier none") {
  std::vector<float> in(128), out(128);
  CHECK(status_after([&] { reverse(in.data(), out.data(), true); }) == 0);
  CHECK(status_after([&] { reverse(in.data(), out.data(), false); }) == 66);
  unsigned count = 0;
  CHECK(status_after([&] { atomicAdd(&count, 1); }) == 0);
  CHECK(status_after([&] { ++count; }) == 66);
  CHECK(status_after([&] { atomicOr(&count, threadIdx.x); }) == 0);
  CHECK(status_after([&] { atomicMax(&count, threadIdx.x); }) == 0);
  const auto neighbours = [&](bool exchanged) {
    NANDUTI_SHARED(unsigned, sums, 64);
    const unsigned t = threadIdx.x;
    sums[t] = 1;
    __syncwarp();
    sums[t] += exchanged ? __shfl_xor_sync(kAll, sums[t], 1) : sums[t ^ 1];
  };
  CHECK(status_after([&] { neighbours(true); }) == 0);
  CHECK(status_after([&] { neighbours(false); }) == 66);
}
#endif

}  // namespace
}  // namespace nanduti::simt
