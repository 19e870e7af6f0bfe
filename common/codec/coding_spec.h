#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/codec/block_codec.h"
#include "common/codec/codec.h"
#include "common/tensor/parameter_space.h"

namespace nanduti {

/// One value of a block.
inline constexpr double kDensityMin = 1.0 / static_cast<double>(kBlockSize);

/// How one direction of a job is coded: compression.push, compression.publish.
struct CodingSpec {
  struct TensorDensity {
    std::string tensor;  ///< as ParameterSpace names it: "0.weight"
    double density = 1.0;
    friend bool operator==(const TensorDensity&, const TensorDensity&) = default;
  };

  double density = 1.0;                ///< share of each block's values that is sent, kDensityMin to 1
  std::uint32_t value_bits = 32;       ///< 2, 4, 8 or 32 (float32)
  double warmup_epochs = 0.0;          ///< over so long the density falls from a quarter, by halves
  std::vector<TensorDensity> tensors;  ///< tensors of a block or more with another density
  friend bool operator==(const CodingSpec&, const CodingSpec&) = default;

  /// Everything is sent, exactly.
  [[nodiscard]] bool is_exact() const { return density == 1.0 && value_bits == 32 && tensors.empty(); }
};

/// What a job's `compression` says; what it does not say is as common/codec/README.md has measured it.
struct CompressionSpec {
  CodingSpec push = {0.01, 2, 0.0, {}};
  CodingSpec publish = {0.02, 4, 0.0, {}};

  /// `compression: none`
  [[nodiscard]] static CompressionSpec exact() { return {CodingSpec(), CodingSpec()}; }
  friend bool operator==(const CompressionSpec&, const CompressionSpec&) = default;
};

/// A payload in whatever coding it says it has: in that of `own`, or in one that a job may have used before
/// it was tuned. Errors: kCorrupt as Codec::decode(), or if the coding is neither.
Result<Update> decode_update(std::uint8_t coding, const SharedBytes& payload, std::uint64_t size,
                             const Codec& own);

/// Errors: kInvalidArgument, if a density is for a tensor that the model does not have, or for one that is
/// too small to have one.
Result<JobCodecs> make_codecs(const CompressionSpec& spec, const ParameterSpace& space);

}  // namespace nanduti
