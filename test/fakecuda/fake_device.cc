#include "test/fakecuda/fake_device.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "common/base/check.h"
#include "test/fakecuda/device_memory.h"
#include "test/fakecuda/library.h"

/// CUDA's opaque types. A stream does what it has to in order, when somebody waits.
struct CUstream_st {
  std::deque<std::function<void()>> work;
  std::uint64_t done = 0;  // of all that it was ever handed
  [[nodiscard]] std::uint64_t handed() const { return done + work.size(); }
};

/// An event has happened once its stream has done so much.
struct CUevent_st {
  using Time = std::chrono::steady_clock::time_point;
  CUstream_st* stream = nullptr;
  std::uint64_t after = 0;
  std::shared_ptr<std::optional<Time>> happened;  // when the stream came to it
  bool times = true;
};

namespace nanduti::fakecuda {
namespace {

struct Failure {
  std::string function;
  std::uint64_t calls_left = 0;
  cudaError_t error = cudaSuccess;
};

class FakeDevice {
 public:
  ~FakeDevice() { simt::set_memory_check({}); }
  FakeDevice() {
    simt::set_memory_check(
        [this](const void* address, std::size_t bytes) { return memory.check(address, bytes); });
  }
  FakeDevice(const FakeDevice&) = delete;
  FakeDevice& operator=(const FakeDevice&) = delete;

  DeviceMemory memory;
  CUstream_st default_stream;
  std::set<CUstream_st*> streams;
  /// Destroyed, maybe with work left and with events that name them. The device goes on with that work.
  std::vector<std::unique_ptr<CUstream_st>> destroyed;
  std::set<CUevent_st*> events;
  std::map<void*, std::size_t> pinned;
  std::map<std::string, int> library_objects;  // how many of each kind
  simt::RunOptions schedule;
  std::vector<Failure> failures;
  std::string kernel_failure;
  std::map<std::string, simt::Traffic> traffic;
  Crossed crossed;
  cudaError_t last_error = cudaSuccess;

  /// Every function of CUDA's begins with this, and ends with done().
  [[nodiscard]] cudaError_t entered(const char* function) {
    for (auto failure = failures.begin(); failure != failures.end(); ++failure) {
      if (failure->function != function || --failure->calls_left > 0) continue;
      const cudaError_t error = failure->error;
      failures.erase(failure);
      return error;
    }
    return kernel_failure.empty() ? cudaSuccess : cudaErrorLaunchFailure;
  }
  cudaError_t done(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
  }

  [[nodiscard]] CUstream_st* known(cudaStream_t stream) {
    if (stream == nullptr) return &default_stream;
    return streams.contains(stream) ? stream : nullptr;
  }

  cudaError_t hand_over(cudaStream_t stream, std::function<void()> work) {
    CUstream_st* const to = known(stream);
    if (to == nullptr) return cudaErrorInvalidResourceHandle;
    to->work.push_back(std::move(work));
    return cudaSuccess;
  }

  /// Does what the stream has to, up to `through` of all that it was ever handed.
  cudaError_t run(CUstream_st& stream, std::uint64_t through) {
    while (stream.done < through && kernel_failure.empty()) {
      const std::function<void()> work = std::move(stream.work.front());
      stream.work.pop_front();
      ++stream.done;
      const DeviceMemory::Opened opened(memory);
      work();
    }
    return kernel_failure.empty() ? cudaSuccess : cudaErrorLaunchFailure;
  }
  cudaError_t run(CUstream_st& stream) { return run(stream, stream.handed()); }
  cudaError_t run_all() {
    cudaError_t error = run(default_stream);
    for (CUstream_st* stream : streams)
      if (error == cudaSuccess) error = run(*stream);
    for (const auto& stream : destroyed)
      if (error == cudaSuccess) error = run(*stream);
    return error;
  }

  /// Nothing, or what is wrong with it.
  [[nodiscard]] cudaError_t check_copy(const void* to, const void* from, std::size_t bytes,
                                       cudaMemcpyKind kind) const {
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault || bytes == 0)
      return bytes == 0 ? cudaSuccess : cudaErrorInvalidMemcpyDirection;
    const auto fits = [&](const void* address, bool device) {
      return device ? memory.check(address, bytes).empty() : !memory.is_device_address(address);
    };
    const auto to_begin = reinterpret_cast<std::uintptr_t>(to),
               from_begin = reinterpret_cast<std::uintptr_t>(from);
    const bool apart = bytes <= std::max(to_begin, from_begin) - std::min(to_begin, from_begin);
    return apart && fits(to, to_device) && fits(from, from_device) ? cudaSuccess : cudaErrorInvalidValue;
  }
};

std::unique_ptr<FakeDevice>& instance() {
  static std::unique_ptr<FakeDevice> device;
  if (!device) device = std::make_unique<FakeDevice>();
  return device;
}

FakeDevice& device() { return *instance(); }

}  // namespace

cudaError_t launch(const char* kernel, const simt::LaunchShape& shape, cudaStream_t stream,
                   std::function<void()> thread) {
  FakeDevice& on = device();
  if (const cudaError_t error = on.entered("cudaLaunchKernel"); error != cudaSuccess) return on.done(error);
  return on.done(on.hand_over(stream, [&on, name = std::string(kernel), shape, body = std::move(thread)] {
    const Result<simt::Traffic> moved = simt::run_grid(name, shape, on.schedule, body);
    if (!moved.ok()) {
      on.kernel_failure = moved.error().message;
      return;
    }
    simt::Traffic& sum = on.traffic[name];
    sum.loaded_bytes += moved->loaded_bytes;
    sum.stored_bytes += moved->stored_bytes;
  }));
}

cudaError_t entered(const char* function) { return device().entered(function); }

bool hand_over(cudaStream_t stream, std::function<void()> work) {
  return device().hand_over(stream, std::move(work)) == cudaSuccess;
}

bool is_there(const char* function, const Operand& operand) {
  FakeDevice& on = device();
  if (operand.bytes == 0) return true;
  const std::string problem = on.memory.check(operand.address, operand.bytes);
  if (problem.empty()) return true;
  if (on.kernel_failure.empty())
    on.kernel_failure = fmt::format("{}: {} of {} bytes: {}", function, operand.name, operand.bytes, problem);
  return false;
}

void made(const char* kind) { ++device().library_objects[kind]; }
void given_back(const char* kind) { --device().library_objects[kind]; }

void set_schedule(const simt::RunOptions& options) { device().schedule = options; }

void fail_call(const std::string& function, std::uint64_t nth, cudaError_t error) {
  device().failures.push_back({function, nth, error});
}
bool has_failures_left() { return !device().failures.empty(); }
std::string kernel_failure() { return device().kernel_failure; }
const std::map<std::string, simt::Traffic>& traffic() { return device().traffic; }

Crossed crossed() { return device().crossed; }

std::vector<std::string> leaks() {
  FakeDevice& on = device();
  std::vector<std::string> left;
  for (const std::size_t bytes : on.memory.allocated())
    left.push_back(fmt::format("{} bytes of device memory", bytes));
  for (const auto& [address, bytes] : on.pinned)
    left.push_back(fmt::format("{} bytes of pinned memory", bytes));
  if (!on.default_stream.work.empty()) left.emplace_back("work of the default stream");
  for (const CUstream_st* stream : on.streams)
    left.push_back(fmt::format("a stream with {} pieces of work", stream->work.size()));
  for (const auto& stream : on.destroyed)
    if (!stream->work.empty()) left.emplace_back("work of a stream that is destroyed");
  if (!on.events.empty()) left.push_back(fmt::format("{} events", on.events.size()));
  for (const auto& [kind, count] : on.library_objects)
    if (count != 0) left.push_back(fmt::format("{} {}", count, kind));
  return left;
}

void reset() {
  for (CUstream_st* stream : device().streams) delete stream;
  for (CUevent_st* event : device().events) delete event;
  for (const auto& [address, bytes] : device().pinned) std::free(address);
  instance().reset();
}

}  // namespace nanduti::fakecuda

// ---- CUDA's own functions, as its headers declare them ----

using nanduti::fakecuda::device;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return device().done(device().entered("cudaGetDeviceCount"));
}

cudaError_t cudaSetDevice(int number) {
  const cudaError_t error = device().entered("cudaSetDevice");
  return device().done(error != cudaSuccess || number == 0 ? error : cudaErrorInvalidDevice);
}

cudaError_t cudaSetDeviceFlags(unsigned /*flags*/) {
  return device().done(device().entered("cudaSetDeviceFlags"));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int number) {
  if (const cudaError_t error = device().entered("cudaGetDeviceProperties"); error != cudaSuccess)
    return device().done(error);
  if (number != 0) return device().done(cudaErrorInvalidDevice);
  *properties = {};
  std::strncpy(properties->name, "an emulated device", sizeof properties->name - 1);
  properties->major = 8;
  properties->minor = 6;
  properties->totalGlobalMem = nanduti::fakecuda::DeviceMemory::kArenaBytes;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* /*kernel*/) {
  if (const cudaError_t error = device().entered("cudaFuncGetAttributes"); error != cudaSuccess)
    return device().done(error);
  *attributes = {};
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = device().kernel_failure.empty() ? device().last_error : cudaErrorLaunchFailure;
  device().last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  return device().kernel_failure.empty() ? device().last_error : cudaErrorLaunchFailure;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    default:
      return "an error that the fake device does not know";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure && !device().kernel_failure.empty() ? device().kernel_failure.c_str()
                                                                             : cudaGetErrorName(error);
}

cudaError_t cudaMalloc(void** to, std::size_t bytes) {
  *to = nullptr;
  if (const cudaError_t error = device().entered("cudaMalloc"); error != cudaSuccess)
    return device().done(error);
  if (bytes == 0) return cudaSuccess;
  *to = device().memory.allocate(bytes);
  return device().done(*to == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

/// Does not wait: CUDA's may, or not. What still uses the memory fails.
cudaError_t cudaFree(void* address) {
  if (const cudaError_t error = device().entered("cudaFree"); error != cudaSuccess)
    return device().done(error);
  if (address == nullptr) return cudaSuccess;
  return device().done(device().memory.release(address) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** to, std::size_t bytes) {
  *to = nullptr;
  if (const cudaError_t error = device().entered("cudaMallocHost"); error != cudaSuccess)
    return device().done(error);
  *to = std::malloc(bytes);
  if (*to == nullptr) return device().done(cudaErrorMemoryAllocation);
  std::memset(*to, 0xFF, bytes);
  device().pinned.emplace(*to, bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* address) {
  if (const cudaError_t error = device().entered("cudaFreeHost"); error != cudaSuccess)
    return device().done(error);
  if (address == nullptr) return cudaSuccess;
  if (device().pinned.erase(address) == 0) return device().done(cudaErrorInvalidValue);
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (const cudaError_t error = device().entered("cudaMemcpyAsync"); error != cudaSuccess)
    return device().done(error);
  if (const cudaError_t error = device().check_copy(to, from, bytes, kind); error != cudaSuccess)
    return device().done(error);
  if (kind == cudaMemcpyHostToDevice) device().crossed.to_device += bytes;
  if (kind == cudaMemcpyDeviceToHost) device().crossed.to_host += bytes;
  return device().done(device().hand_over(stream, [to, from, bytes] {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }));
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  if (const cudaError_t error = device().entered("cudaMemsetAsync"); error != cudaSuccess)
    return device().done(error);
  if (bytes > 0 && !device().memory.check(to, bytes).empty()) return device().done(cudaErrorInvalidValue);
  return device().done(device().hand_over(stream, [to, value, bytes] {
    if (bytes > 0) std::memset(to, value, bytes);
  }));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* to, unsigned /*flags*/) {
  *to = nullptr;
  if (const cudaError_t error = device().entered("cudaStreamCreateWithFlags"); error != cudaSuccess)
    return device().done(error);
  *to = new CUstream_st();
  device().streams.insert(*to);
  return cudaSuccess;
}

/// Does not wait.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (const cudaError_t error = device().entered("cudaStreamDestroy"); error != cudaSuccess)
    return device().done(error);
  if (!device().streams.contains(stream)) return device().done(cudaErrorInvalidResourceHandle);
  device().streams.erase(stream);
  device().destroyed.emplace_back(stream);
  return cudaSuccess;
}

/// A failure is told after the wait.
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const cudaError_t failure = device().entered("cudaStreamSynchronize");
  CUstream_st* const known = device().known(stream);
  const cudaError_t error = known == nullptr ? cudaErrorInvalidResourceHandle : device().run(*known);
  return device().done(failure != cudaSuccess ? failure : error);
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = device().entered("cudaDeviceSynchronize"); error != cudaSuccess)
    return device().done(error);
  return device().done(device().run_all());
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* to, unsigned flags) {
  *to = nullptr;
  if (const cudaError_t error = device().entered("cudaEventCreateWithFlags"); error != cudaSuccess)
    return device().done(error);
  *to = new CUevent_st();
  (*to)->times = (flags & cudaEventDisableTiming) == 0;
  device().events.insert(*to);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (const cudaError_t error = device().entered("cudaEventDestroy"); error != cudaSuccess)
    return device().done(error);
  if (device().events.erase(event) == 0) return device().done(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = device().entered("cudaEventRecord"); error != cudaSuccess)
    return device().done(error);
  CUstream_st* const known = device().known(stream);
  if (known == nullptr || !device().events.contains(event))
    return device().done(cudaErrorInvalidResourceHandle);
  const auto happened = std::make_shared<std::optional<CUevent_st::Time>>();
  known->work.emplace_back([happened] { *happened = std::chrono::steady_clock::now(); });
  *event = {known, known->handed(), happened, event->times};
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (const cudaError_t error = device().entered("cudaEventElapsedTime"); error != cudaSuccess)
    return device().done(error);
  for (CUevent_st* const event : {begin, end}) {
    if (!device().events.contains(event) || !event->times || !event->happened)
      return device().done(cudaErrorInvalidResourceHandle);
    if (!event->happened->has_value()) return device().done(cudaErrorNotReady);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(**end->happened - **begin->happened).count();
  return cudaSuccess;
}

/// It has a version; about clocks and widths it says nothing.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int number) {
  if (const cudaError_t error = device().entered("cudaDeviceGetAttribute"); error != cudaSuccess)
    return device().done(error);
  if (number != 0) return device().done(cudaErrorInvalidDevice);
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? 8
           : attribute == cudaDevAttrComputeCapabilityMinor ? 6
                                                            : 0;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t error = device().entered("cudaEventSynchronize"); error != cudaSuccess)
    return device().done(error);
  if (!device().events.contains(event)) return device().done(cudaErrorInvalidResourceHandle);
  return device().done(event->stream == nullptr ? cudaSuccess : device().run(*event->stream, event->after));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  if (const cudaError_t error = device().entered("cudaStreamWaitEvent"); error != cudaSuccess)
    return device().done(error);
  if (!device().events.contains(event)) return device().done(cudaErrorInvalidResourceHandle);
  return device().done(device().hand_over(stream, [of = *event] {
    if (of.stream != nullptr) (void)device().run(*of.stream, of.after);
  }));
}

}  // extern "C"
