#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "test/simt/grid.h"

/// A device for tests: the used part of CUDA's runtime, compiled against NVIDIA's headers, on the CPU. Work
/// that is handed to a stream is done when somebody waits for it, and not before. What tests do beside CUDA's
/// own functions stands here. One thread.
namespace nanduti::fakecuda {

/// A kernel, behind what the stream has to do already.
cudaError_t launch(const char* kernel, const simt::LaunchShape& shape, cudaStream_t stream,
                   std::function<void()> thread);

/// How kernels run from now on.
void set_schedule(const simt::RunOptions& options);

/// The `nth` call from now on (1: the next) of this function of CUDA's fails with `error`.
void fail_call(const std::string& function, std::uint64_t nth, cudaError_t error);
/// Whether such a failure has not struck yet.
bool has_failures_left();

/// What the first kernel that went wrong did, in words; empty: none has. Every call fails from then on, as on
/// a device.
std::string kernel_failure();

/// What kernels of each name have moved since the last reset().
const std::map<std::string, simt::Traffic>& traffic();

/// Bytes of copies between host and device since the last reset().
struct Crossed {
  std::uint64_t to_device = 0;
  std::uint64_t to_host = 0;
};
Crossed crossed();

/// What is still there: allocations, streams, events, work that nobody has waited for.
std::vector<std::string> leaks();

/// A new device. What is there of the old one is gone.
void reset();

}  // namespace nanduti::fakecuda
