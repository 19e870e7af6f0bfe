#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

/// What a worker does with a shard's values beside coding, as the host launches it. Pointers are the
/// device's, shape [count] where nothing else is said.
namespace nanduti::device {

/// to += factor * what, each product and sum rounded by itself.
cudaError_t add_values(const float* what, float factor, float* to, std::uint64_t count, cudaStream_t stream);

struct WorkingCopy {
  float* x;              ///< shadow - what is in flight; becomes the parameters
  const float* shadow;   ///< read if own_work is not 1
  const float* pending;  ///< null: nothing
  const float* residual;
  float own_work;
  float rho;
  std::uint64_t count;
};
/// x = shadow - own_work * (in flight + pending) - rho * residual, in the CPU's order
/// (worker/client/host_memory.cc).
cudaError_t compute_parameters(const WorkingCopy& copy, cudaStream_t stream);

/// Of some values.
struct ResidualPart {
  double squares;
  std::uint64_t left;  ///< how many are finite and not 0
};
/// So many parts make up what the next function says.
inline constexpr unsigned kResidualPartsMax = 256;
unsigned residual_parts(std::uint64_t count);
cudaError_t measure_residual(const float* values, std::uint64_t count, ResidualPart* parts,
                             cudaStream_t stream);

}  // namespace nanduti::device
