#pragma once

#include "cuda/runtime/kernel_language.cuh"

/// Fields of bits in words that several threads write and that were zero, lowest bits first.
namespace nanduti::device {

using BitPosition = std::uint64_t;

/// Precondition: 0 < width <= 32, value < 2^width.
__device__ inline void or_bits(unsigned* words, BitPosition at, unsigned width, unsigned value) {
  const unsigned shift = static_cast<unsigned>(at % 32);
  if (value == 0) return;
  atomicOr(words + at / 32, value << shift);
  if (shift + width > 32) atomicOr(words + at / 32 + 1, value >> (32 - shift));
}

/// Precondition: width <= 32; there is a word behind those that hold the field.
__device__ inline unsigned read_bits(const unsigned* words, BitPosition at, unsigned width) {
  if (width == 0) return 0;
  const unsigned shift = static_cast<unsigned>(at % 32);
  unsigned value = load(words + at / 32) >> shift;
  if (shift + width > 32) value |= load(words + at / 32 + 1) << (32 - shift);
  return width == 32 ? value : value & ((1u << width) - 1);
}

/// Writes `count` fields of `width` bits, one behind the other from bit `begin` on; field(k) gives one. Each
/// thread of the block makes whole words; only those that others may write too are combined.
template <class Field>
__device__ void write_fields(unsigned* words, BitPosition begin, unsigned width, unsigned count,
                             const Field& field) {
  if (width == 0 || count == 0) return;
  const BitPosition end = begin + static_cast<BitPosition>(count) * width;
  for (BitPosition word = begin / 32 + threadIdx.x; word * 32 < end; word += blockDim.x) {
    const BitPosition low = word * 32, high = low + 32;
    const unsigned first = low <= begin ? 0 : static_cast<unsigned>((low - begin) / width);
    unsigned bits = 0;
    for (unsigned k = first; k < count; ++k) {
      const BitPosition at = begin + static_cast<BitPosition>(k) * width;
      if (at >= high) break;
      const unsigned value = field(k);
      bits |= at >= low ? value << static_cast<unsigned>(at - low) : value >> static_cast<unsigned>(low - at);
    }
    if (begin <= low && high <= end)
      store(words + word, bits);
    else
      atomicOr(words + word, bits);
  }
}

}  // namespace nanduti::device
