// Goal: the fake device shows what is wrong in a program that uses CUDA: too little waiting, memory of the
// wrong side, accesses beyond an allocation, errors that are not looked at, things left behind. Method:
// programs with and without each planted fault; those that end a process run in a child.
#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "test/fakecuda/fake_device.h"
#include "test/simt/kernel_language.h"
#include "test/support/catch.h"

namespace nanduti::fakecuda {
namespace {

using Catch::Contains;
using device::load;
using device::store;

/// A new device for each test, and nothing left of it.
struct Bench {
  Bench() { reset(); }
  ~Bench() { reset(); }
  float* allocate(std::size_t count) {
    void* memory = nullptr;
    REQUIRE(cudaMalloc(&memory, count * sizeof(float)) == cudaSuccess);
    return static_cast<float*>(memory);
  }
  cudaStream_t stream() {
    cudaStream_t made = nullptr;
    REQUIRE(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking) == cudaSuccess);
    return made;
  }
};

void doubled(const float* in, float* out, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) store(&out[i], 2 * load(&in[i]));
}

cudaError_t launch_doubled(const float* in, float* out, unsigned count, cudaStream_t stream) {
  return launch("doubled", {{(count + 63) / 64}, {64}}, stream, [=] { doubled(in, out, count); });
}

/// What a child process writes to stderr, and its exit status.
std::pair<std::string, int> child(const std::function<void()>& program) {
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(pipe[1], STDERR_FILENO);
    (void)std::signal(SIGABRT, SIG_DFL);  // Catch has its own
    program();
    ::_exit(0);
  }
  ::close(pipe[1]);
  std::string text;
  std::array<char, 256> buffer{};
  for (;;) {
    const auto got = ::read(pipe[0], buffer.data(), buffer.size());
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(pipe[0]);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return {text, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)};
}

TEST_CASE("a stream does its work in order, when somebody waits for it") {
  Bench bench;
  const std::vector<float> in = {1, 2, 3, 4, 5};
  std::vector<float> out(5, 0);
  float* const a = bench.allocate(5);
  float* const b = bench.allocate(5);
  const cudaStream_t stream = bench.stream();
  CHECK(cudaMemcpyAsync(a, in.data(), 20, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  CHECK(launch_doubled(a, b, 5, stream) == cudaSuccess);
  CHECK(launch_doubled(b, a, 5, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(out.data(), a, 20, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(out[0] == 0);  // whoever forgets to wait sees this
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(out == std::vector<float>{4, 8, 12, 16, 20});
  CHECK(traffic().at("doubled").loaded_bytes == 40);
  CHECK(traffic().at("doubled").stored_bytes == 40);
}

TEST_CASE("an event is waited for from another stream, or from the host, and no further") {
  Bench bench;
  const std::vector<float> in = {1, 2};
  std::vector<float> early(2), late(2);
  float* const a = bench.allocate(2);
  const cudaStream_t first = bench.stream(), second = bench.stream();
  cudaEvent_t copied = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming) == cudaSuccess);
  CHECK(cudaEventSynchronize(copied) == cudaSuccess);  // never recorded
  CHECK(cudaMemcpyAsync(a, in.data(), 8, cudaMemcpyHostToDevice, first) == cudaSuccess);
  CHECK(cudaEventRecord(copied, first) == cudaSuccess);
  CHECK(launch_doubled(a, a, 2, first) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(second, copied, 0) == cudaSuccess);
  CHECK(cudaMemcpyAsync(early.data(), a, 8, cudaMemcpyDeviceToHost, second) == cudaSuccess);
  CHECK(cudaStreamSynchronize(second) == cudaSuccess);
  CHECK(early == in);
  CHECK(cudaMemcpyAsync(late.data(), a, 8, cudaMemcpyDeviceToHost, first) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(late == std::vector<float>{2, 4});
}

TEST_CASE("an event is waited for by the host, up to where it was recorded") {
  Bench bench;
  const std::vector<float> in = {3};
  std::vector<float> first(1), second(1);
  float* const a = bench.allocate(1);
  const cudaStream_t stream = bench.stream();
  cudaEvent_t event = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  CHECK(cudaMemcpyAsync(a, in.data(), 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(first.data(), a, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(cudaEventRecord(event, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(second.data(), a, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(first == in);
  CHECK(second[0] == 0);
}

TEST_CASE("a stream that is destroyed is not waited for, and events of it can be") {
  Bench bench;
  const std::vector<float> in = {3};
  std::vector<float> out(1), late(1);
  float* const a = bench.allocate(1);
  const cudaStream_t stream = bench.stream();
  cudaEvent_t event = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  CHECK(cudaMemcpyAsync(a, in.data(), 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(out.data(), a, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(cudaEventRecord(event, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(late.data(), a, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(out[0] == 0);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(out == in);
  CHECK(late[0] == 0);
  CHECK(leaks() == std::vector<std::string>{"4 bytes of device memory", "work of a stream that is destroyed",
                                            "1 events"});
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(late == in);
}

TEST_CASE("without the event the other stream reads what nobody has written: not a number") {
  Bench bench;
  const std::vector<float> in = {1};
  std::vector<float> out(1);
  float* const a = bench.allocate(1);
  const cudaStream_t first = bench.stream(), second = bench.stream();
  CHECK(cudaMemcpyAsync(a, in.data(), 4, cudaMemcpyHostToDevice, first) == cudaSuccess);
  CHECK(cudaMemcpyAsync(out.data(), a, 4, cudaMemcpyDeviceToHost, second) == cudaSuccess);
  CHECK(cudaStreamSynchronize(second) == cudaSuccess);
  CHECK(std::isnan(out[0]));
}

TEST_CASE("a host that touches device memory ends, with what it touched") {
  const auto reads = [](std::size_t index) {
    return child([index] {
      reset();
      void* memory = nullptr;
      (void)cudaMalloc(&memory, 16);
      std::fprintf(stderr, "%f", static_cast<double>(static_cast<volatile float*>(memory)[index]));
    });
  };
  const auto [inside, status] = reads(1);
  CHECK_THAT(inside, Contains("the host touched device memory: byte 4 of allocation 1 of 16 bytes"));
  CHECK(status == 139);
  CHECK_THAT(reads(4).first, Contains("0 bytes behind the end of allocation 1 of 16 bytes"));
  const auto [after_work, after_status] = child([] {
    reset();
    void* memory = nullptr;
    (void)cudaMalloc(&memory, 16);
    (void)cudaMemsetAsync(memory, 0, 16, nullptr);
    (void)cudaDeviceSynchronize();
    std::memset(memory, 0, 1);
  });
  CHECK_THAT(after_work, Contains("the host touched device memory: byte 0 of allocation 1"));
  CHECK(after_status == 139);
  const auto [freed, freed_status] = child([] {
    reset();
    void* memory = nullptr;
    (void)cudaMalloc(&memory, 16);
    (void)cudaFree(memory);
    std::memset(memory, 0, 1);
  });
  CHECK_THAT(freed, Contains("device memory that is not allocated"));
  CHECK(freed_status == 139);
}

TEST_CASE("a kernel that reads beyond its memory fails, and so does every call from then on") {
  Bench bench;
  float* const a = bench.allocate(100);
  float* const b = bench.allocate(101);
  CHECK(launch_doubled(a, b, 101, nullptr) == cudaSuccess);
  CHECK(cudaStreamSynchronize(nullptr) == cudaErrorLaunchFailure);
  CHECK_THAT(kernel_failure(), Contains("kernel doubled: fakecuda_test.cc:"));
  CHECK_THAT(kernel_failure(),
             Contains("an access of 4 bytes to 0 bytes behind the end of allocation 1 of 400 "
                      "bytes, by thread (36, 0, 0) of block (1, 0, 0)"));
  void* more = nullptr;
  CHECK(cudaMalloc(&more, 4) == cudaErrorLaunchFailure);
  CHECK(cudaGetLastError() == cudaErrorLaunchFailure);
  CHECK_THAT(cudaGetErrorString(cudaErrorLaunchFailure), Contains("kernel doubled"));
  reset();
  CHECK(cudaMalloc(&more, 4) == cudaSuccess);
}

TEST_CASE("an atomic is an access like any other") {
  Bench bench;
  auto* const a = reinterpret_cast<unsigned*>(bench.allocate(1));
  CHECK(cudaMemsetAsync(a, 0, 4, nullptr) == cudaSuccess);
  CHECK(launch("counts", {{1}, {32}}, nullptr, [=] { atomicAdd(a, 1); }) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(traffic().at("counts").stored_bytes == 128);
  CHECK(launch("counts", {{1}, {32}}, nullptr, [=] { atomicAdd(a + 1, 1); }) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  CHECK_THAT(kernel_failure(), Contains("0 bytes behind the end of allocation 1 of 4 bytes"));
}

TEST_CASE("what a kernel writes behind an allocation past all checks is found when that is freed") {
  const auto [text, status] = child([] {
    reset();
    void* memory = nullptr;
    (void)cudaMalloc(&memory, 12);
    (void)launch("writes", {{1}, {1}}, nullptr, [=] { static_cast<volatile float*>(memory)[3] = 1; });
    (void)cudaDeviceSynchronize();
    (void)cudaFree(memory);
  });
  CHECK_THAT(text, Contains("something was written behind byte 0 of allocation 1 of 12 bytes"));
  CHECK(status == 128 + SIGABRT);
}

TEST_CASE("a kernel that touches memory of the host fails") {
  Bench bench;
  float host = 1;
  float* const a = bench.allocate(1);
  CHECK(launch_doubled(&host, a, 1, nullptr) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  CHECK_THAT(kernel_failure(), Contains("an access of 4 bytes to memory of the host"));
}

TEST_CASE("a copy of the wrong direction, or beyond what is there, is refused at once") {
  Bench bench;
  std::vector<float> host(8);
  float* const a = bench.allocate(8);
  CHECK(cudaMemcpyAsync(host.data(), a, 32, cudaMemcpyHostToDevice, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMemcpyAsync(a, host.data(), 33, cudaMemcpyHostToDevice, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(a + 1, host.data(), 32, cudaMemcpyHostToDevice, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(a, 0, 33, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(a + 1, a, 28, cudaMemcpyDeviceToDevice, nullptr) ==
        cudaErrorInvalidValue);  // overlap
  CHECK(cudaMemcpyAsync(a + 4, a, 16, cudaMemcpyDeviceToDevice, nullptr) == cudaSuccess);
  const auto negative = static_cast<std::size_t>(-4);
  CHECK(cudaMemcpyAsync(a, host.data(), negative, cudaMemcpyHostToDevice, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(a + 1, 0, negative, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(host.data(), a, 33, cudaMemcpyDeviceToHost, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaFree(a + 1) == cudaErrorInvalidValue);
  CHECK(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(&host)) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("the named call fails when it is told to, once") {
  Bench bench;
  fail_call("cudaMalloc", 2, cudaErrorMemoryAllocation);
  void* memory = nullptr;
  CHECK(cudaMalloc(&memory, 4) == cudaSuccess);
  CHECK(has_failures_left());
  CHECK(cudaMalloc(&memory, 4) == cudaErrorMemoryAllocation);
  CHECK(memory == nullptr);
  CHECK_FALSE(has_failures_left());
  CHECK(cudaPeekAtLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaMalloc(&memory, 4) == cudaSuccess);
  CHECK(cudaMalloc(&memory, std::size_t{1} << 60) == cudaErrorMemoryAllocation);
}

TEST_CASE("what is left behind is named, until it is given back") {
  Bench bench;
  CHECK(leaks().empty());
  float* const a = bench.allocate(3);
  void* pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, 10) == cudaSuccess);
  const cudaStream_t stream = bench.stream();
  cudaEvent_t event = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  REQUIRE(cudaMemsetAsync(a, 0, 12, stream) == cudaSuccess);
  CHECK(leaks() == std::vector<std::string>{"12 bytes of device memory", "10 bytes of pinned memory",
                                            "a stream with 1 pieces of work", "1 events"});
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventDestroy(event) == cudaSuccess);
  CHECK(cudaEventDestroy(event) == cudaErrorInvalidResourceHandle);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  CHECK(cudaFree(a) == cudaSuccess);
  CHECK(leaks().empty());
}

TEST_CASE("kernels run by the schedule that is set") {
  Bench bench;
  std::vector<unsigned> order;
  const auto noted = [&] { simt::on_host([&] { order.push_back(threadIdx.x); }); };
  set_schedule({simt::Schedule::kReverse, 1});
  CHECK(launch("noted", {{1}, {3}}, nullptr, noted) == cudaSuccess);
  CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
  CHECK(order == std::vector<unsigned>{2, 1, 0});
}

}  // namespace
}  // namespace nanduti::fakecuda
