#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nanduti {

/// Elements that a kernel may write behind what it was asked for: the width of the widest vector.
inline constexpr std::size_t kKernelSlack = 16;
/// Bytes that a kernel may read behind a section.
inline constexpr std::size_t kKernelSlackBytes = 64;

/// |value| as bits: orders like the magnitude, NaN above infinity above all numbers.
inline constexpr std::uint32_t kMagnitudeBits = 0x7FFFFFFF;

/// Values of a bin share a vector lane.
inline constexpr std::size_t kBinLanes = 16;

/// Values that may be selected, ascending by index.
struct Candidates {
  std::uint32_t* indices;
  std::uint32_t* bits;  ///< the float32 values, as bits
};

/// The codec's inner loops, which have a form for each instruction set. All give the same results, bit for
/// bit; the plain ones are the oracle. Buffers have room for kKernelSlack more elements than are asked for.
struct CodecKernels {
  const char* name;

  /// residual[i] += progress[i] for i < size (where progress is not null), and the largest magnitude bits of
  /// each bin: value i is in bin i / (16 << bin_log2) * 16 + i % 16, so that a bin has 2^bin_log2 values.
  /// Returns how many bins there are, a multiple of 16; where values are missing they count as 0.
  std::size_t (*accumulate)(float* residual, const float* progress, std::size_t size, std::uint32_t bin_log2,
                            std::uint32_t* bin_maxima);

  /// Lists the values whose magnitude bits are at least `threshold` > 0. Returns how many; `out` has room for
  /// `size`. What lies behind `values` and behind `progress` (if not null) is needed next: it is fetched.
  std::size_t (*collect)(const float* values, const float* progress, std::size_t size,
                         std::uint32_t threshold, Candidates out);

  /// How many of the magnitudes reach `least` > 0.
  std::size_t (*count_from)(const std::uint32_t* bits, std::size_t count, std::uint32_t least);

  /// Writes the `wanted` largest candidates in order, of equal ones the first; `offset` is added to the
  /// indices. `magnitude` is one that at least `wanted` reach and no more than `wanted` exceed.
  void (*keep_largest)(Candidates from, std::size_t count, std::size_t wanted, std::uint32_t magnitude,
                       std::uint32_t offset, std::uint32_t* out_indices, float* out_values);

  /// The positions of the ones among the 8 * `byte_count` bits.
  void (*positions_of_ones)(const std::byte* bytes, std::size_t byte_count, std::uint32_t* out);

  /// Turns the positions of Rice quotients' ends into what they stand for:
  /// out[k] = ((out[k] - k) << parameter) + (sum of the remainders up to k) + k + offset.
  void (*rice_indices)(const std::byte* remainders, std::uint32_t parameter, std::size_t count,
                       std::uint32_t offset, std::uint32_t* out);

  /// out[k] = table[code k] for codes of 2 or 4 bits; the table has 4 or 16 entries.
  void (*look_up)(const std::byte* codes, std::uint32_t code_bits, std::size_t count, const float* table,
                  float* out);
};

/// Loops without intrinsics.
const CodecKernels& plain_kernels();
/// Null where the processor or the build does not have them.
const CodecKernels* avx2_kernels();
const CodecKernels* avx512_kernels();
/// The fastest that this processor has.
const CodecKernels& best_kernels();
/// All that this processor has, the plain ones first and the best last.
std::vector<const CodecKernels*> available_kernels();

}  // namespace nanduti
