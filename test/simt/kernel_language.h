#pragma once

/// What a CUDA compiler gives to kernels, for the CPU: comes before a kernel's source, which is CUDA as nvcc
/// takes it but for shared memory (NANDUTI_SHARED) and global memory (load, store), whose accesses are
/// checked and counted here. Every operation on numbers is a single rounded one, as with nvcc -fmad=false.
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>
#include <typeindex>

#include <cuda_runtime.h>

#include "test/simt/grid.h"

// CUDA's headers declare these, and nobody defines them.
#define threadIdx (::nanduti::simt::place().thread_index)
#define blockIdx (::nanduti::simt::place().block_index)
#define blockDim (::nanduti::simt::place().block_shape)
#define gridDim (::nanduti::simt::place().grid_shape)

/// An array in shared memory: NANDUTI_SHARED(float, tile, 256);
#define NANDUTI_SHARED(type, name, count) ::nanduti::simt::SharedArray<type, count> name

namespace nanduti::simt {

/// The same array for every thread of the block that comes by this declaration.
template <class T, std::size_t kCount>
class SharedArray {
 public:
  SharedArray(std::source_location at = std::source_location::current())
      : at_(at),
        items_(static_cast<T*>(shared_memory({typeid(SharedArray), sizeof(T) * kCount, alignof(T)}, at))) {}
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;

  T& operator[](std::size_t index) const {
    if (index >= kCount) fail(fmt::format("index {} in shared memory of {} items", index, kCount), at_);
    before_shared_access();
    return items_[index];
  }

 private:
  std::source_location at_;
  T* items_;
};

template <class T>
std::uint64_t as_bits(T value) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t) && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
T shuffle(unsigned mask, T value, unsigned from, std::source_location at) {
  return from_bits<T>(operate_in_warp(WarpOperation::kShuffle, mask, as_bits(value), from, at));
}

}  // namespace nanduti::simt

// ---- waiting for each other ----

inline void __syncthreads(std::source_location at = std::source_location::current()) {
  nanduti::simt::synchronise_block(at);
}

inline void __syncwarp(unsigned mask = ~0u, std::source_location at = std::source_location::current()) {
  nanduti::simt::operate_in_warp(nanduti::simt::WarpOperation::kSynchronise, mask, 0, 0, at);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int from, std::source_location at = std::source_location::current()) {
  return nanduti::simt::shuffle(mask, value, static_cast<unsigned>(from) % 32, at);
}

/// Lanes without one so far below keep their own value.
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta,
                 std::source_location at = std::source_location::current()) {
  const unsigned lane = nanduti::simt::lane();
  return nanduti::simt::shuffle(mask, value, lane >= delta ? lane - delta : lane, at);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta,
                   std::source_location at = std::source_location::current()) {
  const unsigned lane = nanduti::simt::lane();
  return nanduti::simt::shuffle(mask, value, lane + delta < 32 ? lane + delta : lane, at);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits,
                  std::source_location at = std::source_location::current()) {
  return nanduti::simt::shuffle(mask, value, (nanduti::simt::lane() ^ static_cast<unsigned>(bits)) % 32, at);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location at = std::source_location::current()) {
  return static_cast<unsigned>(nanduti::simt::operate_in_warp(nanduti::simt::WarpOperation::kBallot, mask,
                                                              predicate != 0 ? 1 : 0, 0, at));
}

inline int __any_sync(unsigned mask, int predicate,
                      std::source_location at = std::source_location::current()) {
  return __ballot_sync(mask, predicate, at) != 0 ? 1 : 0;
}

inline int __all_sync(unsigned mask, int predicate,
                      std::source_location at = std::source_location::current()) {
  return __ballot_sync(mask, predicate, at) == mask ? 1 : 0;
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value,
                                  std::source_location at = std::source_location::current()) {
  return static_cast<unsigned>(
      nanduti::simt::operate_in_warp(nanduti::simt::WarpOperation::kSum, mask, value, 0, at));
}

inline unsigned __reduce_max_sync(unsigned mask, unsigned value,
                                  std::source_location at = std::source_location::current()) {
  return static_cast<unsigned>(
      nanduti::simt::operate_in_warp(nanduti::simt::WarpOperation::kMaximum, mask, value, 0, at));
}

inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 std::source_location at = std::source_location::current()) {
  return static_cast<unsigned>(
      nanduti::simt::operate_in_warp(nanduti::simt::WarpOperation::kOr, mask, value, 0, at));
}

// ---- atomics, on shared or global memory ----

inline unsigned atomicAdd(unsigned* to, unsigned value,
                          std::source_location at = std::source_location::current()) {
  nanduti::simt::before_atomic(to, sizeof *to, at);
  return std::atomic_ref(*to).fetch_add(value, std::memory_order_relaxed);
}
inline unsigned atomicOr(unsigned* to, unsigned value,
                         std::source_location at = std::source_location::current()) {
  nanduti::simt::before_atomic(to, sizeof *to, at);
  return std::atomic_ref(*to).fetch_or(value, std::memory_order_relaxed);
}
inline unsigned atomicMax(unsigned* to, unsigned value,
                          std::source_location at = std::source_location::current()) {
  nanduti::simt::before_atomic(to, sizeof *to, at);
  const std::atomic_ref reference(*to);
  unsigned before = reference.load(std::memory_order_relaxed);
  while (before < value && !reference.compare_exchange_weak(before, value, std::memory_order_relaxed)) {
  }
  return before;
}

// ---- numbers ----

inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __clz(unsigned bits) { return std::countl_zero(bits); }
/// Counts from 1; 0: no bit is set.
inline int __ffs(unsigned bits) { return bits == 0 ? 0 : std::countr_zero(bits) + 1; }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float __double2float_rn(double value) { return static_cast<float>(value); }

namespace nanduti::device {

/// Of global memory; T has a power of two of bytes, at most 16, and is aligned to it.
template <class T>
T load(const T* from, std::source_location at = std::source_location::current()) {
  simt::before_global_access(from, sizeof(T), false, at);
  return *from;
}

template <class T>
void store(T* to, const std::type_identity_t<T>& value,
           std::source_location at = std::source_location::current()) {
  simt::before_global_access(to, sizeof(T), true, at);
  *to = value;
}

}  // namespace nanduti::device
