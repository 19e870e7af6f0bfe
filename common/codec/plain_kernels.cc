#include <algorithm>
#include <bit>
#include <cstring>

#include "common/codec/codec_kernels.h"

namespace nanduti {
namespace {

std::size_t accumulate(float* residual, const float* progress, std::size_t size, std::uint32_t bin_log2,
                       std::uint32_t* bin_maxima) {
  const std::size_t chunk = kBinLanes << bin_log2;
  const std::size_t bins = (size + chunk - 1) / chunk * kBinLanes;
  std::fill_n(bin_maxima, bins, 0);
  for (std::size_t i = 0; i < size; ++i) {
    if (progress != nullptr) residual[i] += progress[i];
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(residual[i]) & kMagnitudeBits;
    std::uint32_t& maximum = bin_maxima[i / chunk * kBinLanes + i % kBinLanes];
    maximum = std::max(maximum, magnitude);
  }
  return bins;
}

std::size_t collect(const float* values, const float* /*progress*/, std::size_t size, std::uint32_t threshold,
                    Candidates out) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    if ((bits & kMagnitudeBits) < threshold) continue;
    out.indices[count] = static_cast<std::uint32_t>(i);
    out.bits[count++] = bits;
  }
  return count;
}

std::size_t count_from(const std::uint32_t* bits, std::size_t count, std::uint32_t least) {
  std::size_t reached = 0;
  for (std::size_t i = 0; i < count; ++i) reached += (bits[i] & kMagnitudeBits) >= least ? 1 : 0;
  return reached;
}

void keep_largest(Candidates from, std::size_t count, std::size_t wanted, std::uint32_t magnitude,
                  std::uint32_t offset, std::uint32_t* out_indices, float* out_values) {
  std::size_t equals = wanted - count_from(from.bits, count, magnitude + 1);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t of_this = from.bits[i] & kMagnitudeBits;
    if (of_this < magnitude || (of_this == magnitude && equals == 0)) continue;
    if (of_this == magnitude) --equals;
    out_indices[kept] = from.indices[i] + offset;
    out_values[kept++] = std::bit_cast<float>(from.bits[i]);
  }
}

void positions_of_ones(const std::byte* bytes, std::size_t byte_count, std::uint32_t* out) {
  for (std::size_t at = 0; at < byte_count; ++at)
    for (auto left = static_cast<std::uint32_t>(bytes[at]); left != 0; left &= left - 1)
      *out++ = static_cast<std::uint32_t>(8 * at) + static_cast<std::uint32_t>(std::countr_zero(left));
}

/// Bits [bit, bit + width) as a number; width <= 24.
std::uint32_t read_bits(const std::byte* bytes, std::size_t bit, std::uint32_t width) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes + bit / 8, sizeof word);
  return (word >> (bit % 8)) & ((1u << width) - 1);
}

void rice_indices(const std::byte* remainders, std::uint32_t parameter, std::size_t count,
                  std::uint32_t offset, std::uint32_t* out) {
  std::uint32_t sum = offset;
  for (std::size_t k = 0; k < count; ++k) {
    const auto rank = static_cast<std::uint32_t>(k);
    sum += read_bits(remainders, k * parameter, parameter);
    out[k] = ((out[k] - rank) << parameter) + sum + rank;
  }
}

void look_up(const std::byte* codes, std::uint32_t code_bits, std::size_t count, const float* table,
             float* out) {
  const std::uint32_t mask = (1u << code_bits) - 1;
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t bit = k * code_bits;
    out[k] = table[(static_cast<std::uint32_t>(codes[bit / 8]) >> (bit % 8)) & mask];
  }
}

}  // namespace

const CodecKernels& plain_kernels() {
  static constexpr CodecKernels kKernels{"plain",      accumulate,        collect,      count_from,
                                         keep_largest, positions_of_ones, rice_indices, look_up};
  return kKernels;
}

}  // namespace nanduti
