#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include <cuda_runtime_api.h>

/// What the fake libraries (cuDNN, cuBLAS) are made of, beside CUDA's own functions. One thread.
namespace nanduti::fakecuda {

/// Every function of a library begins with this: the failure that fail_call() has for it, or the device's.
cudaError_t entered(const char* function);

/// Work for a stream, done when somebody waits for it, with the device's memory open. False if there is no
/// such stream.
bool hand_over(cudaStream_t stream, std::function<void()> work);

/// Memory that a library's work reads or writes.
struct Operand {
  const char* name;
  const void* address;
  std::size_t bytes;
};
/// Whether two operands have memory in common.
inline bool overlap(const Operand& a, const Operand& b) {
  const auto* a_begin = static_cast<const std::byte*>(a.address);
  const auto* b_begin = static_cast<const std::byte*>(b.address);
  return a.bytes > 0 && b.bytes > 0 && a_begin < b_begin + b.bytes && b_begin < a_begin + a.bytes;
}
/// While a stream does its work: whether the operand is device memory. If not, the work has failed like a
/// kernel that went wrong, and says so: kernel_failure().
bool is_there(const char* function, const Operand& operand);

/// Handles, descriptors and the like that leaks() names until they are given back.
void made(const char* kind);
void given_back(const char* kind);

}  // namespace nanduti::fakecuda
