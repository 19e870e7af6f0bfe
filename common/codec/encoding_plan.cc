#include "common/codec/encoding_plan.h"

#include <algorithm>

#include "common/codec/rice.h"

namespace nanduti {
namespace {

/// A header of 12 bytes among so many values is less than a tenth of a bit for each.
constexpr std::uint64_t kGroupValuesMin = 1200;

ValueCode code_of_bits(std::uint32_t bits) {
  for (const ValueCode code : {ValueCode::kTwoBits, ValueCode::kFourBits, ValueCode::kEightBits})
    if (bits_of(code) == bits) return code;
  return ValueCode::kFloat32;
}

}  // namespace

EncodingPlan::EncodingPlan(const BlockCodecOptions& options, const CodingContext& context, std::uint64_t size)
    : options_(options), begin_(context.begin), doublings_(warmup_doublings(options, context.epochs_done)) {
  grid_.size = size;
  grid_.dense_begin = options.dense_segment_begin < context.begin
                          ? 0
                          : std::min(size, options.dense_segment_begin - context.begin);
  const std::uint64_t selected = selected_per_block(options.density, doublings_, kBlockSize);
  while (grid_.group_blocks_log2 < kGroupBlocksLog2Max &&
         (selected << grid_.group_blocks_log2) < kGroupValuesMin)
    ++grid_.group_blocks_log2;
}

double EncodingPlan::density_at(std::uint64_t position) const {
  const std::uint64_t parameter = begin_ + position;
  for (const DensityRange& special : options_.densities)
    if (special.range.begin <= parameter && parameter < special.range.end) return special.density;
  return options_.density;
}

std::uint64_t EncodingPlan::allowed_in_block(std::uint64_t group, std::uint64_t begin,
                                             std::uint64_t size) const {
  return sends_all(group) ? size : selected_per_block(density_at(begin), doublings_, size);
}

std::uint64_t EncodingPlan::allowed(std::uint64_t group) const {
  const ParameterRange place = grid_.place(group);
  std::uint64_t sum = 0;
  for (std::uint64_t begin = place.begin; begin < place.end; begin += kBlockSize)
    sum += allowed_in_block(group, begin, std::min(kBlockSize, place.end - begin));
  return sum;
}

ValueCode EncodingPlan::usual_code(std::uint64_t group) const {
  return sends_all(group) ? ValueCode::kEightBits : code_of_bits(options_.value_bits);
}

std::uint64_t EncodingPlan::usual_bits(std::uint64_t group, ValueCode code) const {
  const std::uint64_t size = grid_.place(group).size(), most = allowed(group);
  const std::uint64_t index_bits = most == size ? 0 : std::min(size, rice_bits_max(size, most));
  return most * bits_of(code) + index_bits;
}

}  // namespace nanduti
