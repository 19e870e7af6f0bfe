// A replica's kernels and their launches: compiled by nvcc for devices, and for the emulated one by the
// tests' compiler (test/fakecuda/launch.h comes first there).
#include "cuda/replica/kernels.h"
#include "cuda/replica/values.cuh"

namespace nanduti::device {
namespace {

unsigned blocks_for(std::uint64_t count) {
  return static_cast<unsigned>((count + kReplicaThreads - 1) / kReplicaThreads);
}

}  // namespace

cudaError_t add_values(const float* what, float factor, float* to, std::uint64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return NANDUTI_LAUNCH(add_some_values, blocks_for(count), kReplicaThreads, stream, what, factor, to, count);
}

cudaError_t compute_parameters(const WorkingCopy& copy, cudaStream_t stream) {
  if (copy.count == 0) return cudaSuccess;
  return NANDUTI_LAUNCH(compute_some_parameters, blocks_for(copy.count), kReplicaThreads, stream, copy);
}

unsigned residual_parts(std::uint64_t count) {
  const unsigned blocks = blocks_for(count);
  return blocks < kResidualPartsMax ? blocks : kResidualPartsMax;
}

cudaError_t measure_residual(const float* values, std::uint64_t count, ResidualPart* parts,
                             cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return NANDUTI_LAUNCH(measure_some_residual, residual_parts(count), kReplicaThreads, stream, values, count,
                        parts);
}

}  // namespace nanduti::device
