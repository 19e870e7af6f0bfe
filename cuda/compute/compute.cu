// The kernels beside cuDNN and cuBLAS, and their launches: compiled by nvcc for devices, and for the emulated
// one by the tests' compiler (test/fakecuda/launch.h comes first there).
#include "cuda/compute/kernels.h"
#include "cuda/compute/loss.cuh"
#include "cuda/compute/statistics.cuh"

namespace nanduti::device {
namespace {

constexpr unsigned kChannelThreads = 128;

unsigned channel_blocks(unsigned channels) { return (channels + kChannelThreads - 1) / kChannelThreads; }

}  // namespace

cudaError_t softmax_cross_entropy(const LossArguments& arguments, cudaStream_t stream) {
  return NANDUTI_LAUNCH(softmax_cross_entropy_of_batch, 1, kLossThreads, stream, arguments);
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
