// The kernels beside cuDNN and cuBLAS, and their launches: compiled by nvcc for devices, and for the emulated
// one by the tests' compiler (test/fakecuda/launch.h comes first there).
#include "cuda/compute/kernels.h"
#include "cuda/compute/loss.cuh"
#include "cuda/compute/optimizer.cuh"
#include "cuda/compute/statistics.cuh"

namespace nanduti::device {
namespace {

constexpr unsigned kChannelThreads = 128;

constexpr unsigned kValueThreads = 256;

unsigned value_blocks(std::uint64_t values) {
  return static_cast<unsigned>((values + kValueThreads - 1) / kValueThreads);
}
unsigned channel_blocks(unsigned channels) { return (channels + kChannelThreads - 1) / kChannelThreads; }

}  // namespace

cudaError_t softmax_cross_entropy(const LossArguments& arguments, cudaStream_t stream) {
  return NANDUTI_LAUNCH(softmax_cross_entropy_of_batch, 1, kLossThreads, stream, arguments);
}

cudaError_t optimizer_step(const OptimizerStep& step, cudaStream_t stream) {
  const unsigned blocks = value_blocks(step.count);
  if (blocks == 0) return cudaSuccess;
  return step.kind == OptimizerKind::kAdamW
             ? NANDUTI_LAUNCH(adamw_step_of_values, blocks, kValueThreads, stream, step)
             : NANDUTI_LAUNCH(sgd_step_of_values, blocks, kValueThreads, stream, step);
}

cudaError_t scale(float* values, float factor, std::uint64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return NANDUTI_LAUNCH(scale_values, value_blocks(count), kValueThreads, stream, values, factor, count);
}

cudaError_t subtract(const float* what, float* to, std::uint64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return NANDUTI_LAUNCH(subtract_values, value_blocks(count), kValueThreads, stream, what, to, count);
}

cudaError_t take_progress(const float* before, const float* after, float* progress, std::uint64_t count,
                          unsigned* bad, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return NANDUTI_LAUNCH(take_progress_of_values, value_blocks(count), kValueThreads, stream, before, after,
                        progress, count, bad);
}

cudaError_t statistics_change(const float* running, const float* of_batch, float momentum, float* change,
                              unsigned count, cudaStream_t stream) {
  return NANDUTI_LAUNCH(statistics_change_of_channels, channel_blocks(count), kChannelThreads, stream,
                        running, of_batch, momentum, change, count);
}

cudaError_t at_least_zero(const float* from, float* to, unsigned count, cudaStream_t stream) {
  return NANDUTI_LAUNCH(at_least_zero_of_channels, channel_blocks(count), kChannelThreads, stream, from, to,
                        count);
}

}  // namespace nanduti::device
