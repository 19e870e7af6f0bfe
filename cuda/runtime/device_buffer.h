#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "common/base/result.h"

namespace nanduti {

/// Ok, or kUnavailable with CUDA's words and what was wanted: "copying a payload: invalid argument";
/// kExhausted where memory is what is missing.
Status cuda_status(cudaError_t error, const char* what);

/// At the end of its life it waits for a stream: declared after what the stream's copies read and write, it
/// keeps that alive, also when an error ends a function.
class StreamWait {
 public:
  explicit StreamWait(cudaStream_t stream) : stream_(stream) {}
  ~StreamWait() { (void)cuda_status(cudaStreamSynchronize(stream_), "waiting"); }
  StreamWait(const StreamWait&) = delete;
  StreamWait& operator=(const StreamWait&) = delete;

 private:
  const cudaStream_t stream_;
};

/// Items in a device's memory, which only the device may touch. One thread.
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer() { (void)cuda_status(cudaFree(data_), "giving memory back"); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  /// Room for so many items; what was there may be lost. Nothing that uses the buffer is under way: whether
  /// giving memory back waits for that, CUDA does not say.
  Status reserve(std::size_t count) {
    if (count <= capacity_) return {};
    // Sizes that creep up do not cost an allocation each.
    count = std::max(count, capacity_ + capacity_ / 2);
    const Status freed = cuda_status(cudaFree(data_), "giving memory back");
    data_ = nullptr;
    capacity_ = 0;
    NANDUTI_RETURN_IF_ERROR(freed);
    void* memory = nullptr;
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaMalloc(&memory, count * sizeof(T)), "device memory"));
    data_ = static_cast<T*>(memory);
    capacity_ = count;
    return {};
  }
  /// Makes room, and copies; `items` stay as they are until the stream has been waited for.
  Status upload(std::span<const T> items, cudaStream_t stream) {
    NANDUTI_RETURN_IF_ERROR(reserve(items.size()));
    if (items.empty()) return {};
    return cuda_status(
        cudaMemcpyAsync(data_, items.data(), items.size_bytes(), cudaMemcpyHostToDevice, stream),
        "copying to the device");
  }
  /// Copies the first items; they are there when the stream has been waited for.
  Status download(std::span<T> items, cudaStream_t stream) const {
    if (items.empty()) return {};
    return cuda_status(
        cudaMemcpyAsync(items.data(), data_, items.size_bytes(), cudaMemcpyDeviceToHost, stream),
        "copying from the device");
  }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  Status clear(std::size_t count, cudaStream_t stream) {
    NANDUTI_RETURN_IF_ERROR(reserve(count));
    if (count == 0) return {};
    return cuda_status(cudaMemsetAsync(data_, 0, count * sizeof(T), stream), "clearing device memory");
  }
  [[nodiscard]] T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  std::size_t capacity_ = 0;
};

}  // namespace nanduti
