#pragma once

#include <cstdint>
#include <vector>

#include "common/codec/codec.h"
#include "common/tensor/parameter_range.h"

namespace nanduti {

/// A density of its own for some blocks: of a tensor, say.
struct DensityRange {
  ParameterRange range;  ///< in the parameter space, whole blocks
  double density = 0.01;
  friend bool operator==(const DensityRange&, const DensityRange&) = default;
};

struct BlockCodecOptions {
  /// Parameters from here on are all sent, with 8 bits, whatever the density.
  std::uint64_t dense_segment_begin = ~std::uint64_t{0};
  std::uint32_t value_bits = 2;         ///< 2, 4, 8 or 32: those are exact
  double density = 0.01;                ///< share of a block's values that is sent, in (0, 1]
  std::vector<DensityRange> densities;  ///< ascending; other blocks have the usual density
  double warmup_epochs = 0;             ///< over so long densities fall from a quarter, by halves
  friend bool operator==(const BlockCodecOptions&, const BlockCodecOptions&) = default;
};

/// How often densities are doubled after so many epochs: as often as takes the usual one to a quarter at the
/// beginning, then one time less after equal parts of the warm-up.
std::uint32_t warmup_doublings(const BlockCodecOptions& options, double epochs_done);

/// How many of a block's first `size` <= kBlockSize values are sent; at least 1, at most `size` > 0.
/// `doublings` raise the density up to a quarter, or not at all if it is higher.
std::uint64_t selected_per_block(double density, std::uint32_t doublings, std::uint64_t size);

/// Sends each block's largest values, quantised (common/codec/README.md); what is left stays in the residual.
/// NaN and infinity go first and as they are, so that the receiver refuses them. Values: fewer than 2^32.
class BlockCodec final : public Codec {
 public:
  /// Precondition: options are within their bounds.
  explicit BlockCodec(BlockCodecOptions options);

  [[nodiscard]] const BlockCodecOptions& options() const { return options_; }
  [[nodiscard]] Coding coding() const override { return Coding::kBlocks; }
  [[nodiscard]] EncodedUpdate encode(std::span<float> residual, std::span<const float> progress,
                                     const CodingContext& context) const override;
  /// Payloads describe themselves: any BlockCodec decodes what any other has encoded.
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override;

 private:
  const BlockCodecOptions options_;
};

}  // namespace nanduti
