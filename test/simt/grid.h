#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <typeindex>

#include <vector_types.h>

#include "common/base/result.h"

/// CUDA's model of execution on the CPU: a grid of blocks, each of threads that are fibres and run until they
/// have to wait for each other. Blocks run one after the other, and nothing here is parallel: what depends on
/// the order is found by running with several schedules, races by ThreadSanitizer, to which every thread is
/// one. It proves algorithms, indices, barriers and accesses; nothing about speed.
namespace nanduti::simt {

inline constexpr unsigned kWarpSize = 32;
inline constexpr unsigned kBlockThreadsMax = 1024;
/// Without asking for more, as on every device that we build for.
inline constexpr std::size_t kSharedBytesMax = std::size_t{48} << 10;

/// The order in which blocks run, and the threads of a block that may.
enum class Schedule : std::uint8_t {
  kForward,
  kReverse,
  kRandom,  ///< at every step another one; and threads stop before accesses to shared memory now and then
};

struct LaunchShape {
  dim3 grid;
  dim3 block;
};

struct RunOptions {
  Schedule schedule = Schedule::kForward;
  std::uint64_t seed = 1;  ///< of kRandom
};

/// What a run has moved, as its threads asked for it: each thread's bytes count, also where several read the
/// same ones.
struct Traffic {
  std::uint64_t loaded_bytes = 0;
  std::uint64_t stored_bytes = 0;
};

/// Runs `thread` once for each thread of the grid. Errors: kInvalidArgument, if the shape is none that a
/// device takes; kRefused for what a kernel does wrong, with file and line: a deadlock, a barrier that not
/// all reach, a shuffle with lanes that are not there, an access outside of its array. What a thread throws
/// comes through.
Result<Traffic> run_grid(const std::string& kernel, const LaunchShape& shape, const RunOptions& options,
                         const std::function<void()>& thread);

// ---- for threads of a grid that runs (kernel_language.h) ----

struct Place {
  uint3 thread_index{};
  uint3 block_index{};
  dim3 block_shape;
  dim3 grid_shape;
};
/// Of the thread that runs.
const Place& place();

/// Ends the run with an error that names the kernel, the thread and the line.
[[noreturn]] void fail(const std::string& what, std::source_location at);

void synchronise_block(std::source_location at);

/// What lanes of a warp do together: each of `mask` brings a value and takes a result.
enum class WarpOperation : std::uint8_t {
  kSynchronise,
  kShuffle,  ///< the value of the lane that `argument` names
  kBallot,   ///< the lanes whose value is not 0
  kSum,      ///< of unsigned 32 bits
  kMaximum,  ///< of unsigned 32 bits
  kOr,
};
std::uint64_t operate_in_warp(WarpOperation operation, unsigned mask, std::uint64_t value, unsigned argument,
                              std::source_location at);
/// 0 to 31.
unsigned lane();

struct SharedLayout {
  std::type_index type;  ///< of the array
  std::size_t bytes = 0;
  std::size_t alignment = 1;
};
/// The shared memory of the block that the declaration of this type at this place stands for; its bytes are
/// all ones until they are written. Behind it lies a canary.
void* shared_memory(const SharedLayout& layout, std::source_location at);
/// An access to shared memory is about to happen.
void before_shared_access();
/// An atomic access is about to happen, to shared or to global memory.
void before_atomic(const void* address, std::size_t bytes, std::source_location at);
/// For tests, from inside of a kernel: `action` is the host's, and races with nothing; nor does what comes
/// after it.
void on_host(const std::function<void()>& action);

/// Device memory that a kernel may touch, where somebody knows (test/fakecuda). Throws nothing; returns what
/// is wrong, or nothing.
using MemoryCheck = std::function<std::string(const void* address, std::size_t bytes)>;
void set_memory_check(MemoryCheck check);
/// Counts, and checks: alignment to its size, up to 16 bytes, and whose it is.
void before_global_access(const void* address, std::size_t bytes, bool stores, std::source_location at);

}  // namespace nanduti::simt
