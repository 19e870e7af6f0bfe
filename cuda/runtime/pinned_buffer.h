#pragma once

#include <cstddef>
#include <span>

#include <cuda_runtime_api.h>

#include "cuda/runtime/device_buffer.h"

namespace nanduti {

/// Items in the host's memory that the device copies while the host goes on. One thread.
template <class T>
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  ~PinnedBuffer() { (void)cuda_status(cudaFreeHost(data_), "giving pinned memory back"); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  /// Room for so many items; what was there may be lost. No copy is under way.
  Status reserve(std::size_t count) {
    if (count <= capacity_) return {};
    const Status freed = cuda_status(cudaFreeHost(data_), "giving pinned memory back");
    data_ = nullptr;
    capacity_ = 0;
    NANDUTI_RETURN_IF_ERROR(freed);
    void* memory = nullptr;
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaMallocHost(&memory, count * sizeof(T)), "pinned memory"));
    data_ = static_cast<T*>(memory);
    capacity_ = count;
    return {};
  }
  [[nodiscard]] std::span<T> first(std::size_t count) const { return {data_, count}; }

 private:
  T* data_ = nullptr;
  std::size_t capacity_ = 0;
};

}  // namespace nanduti
