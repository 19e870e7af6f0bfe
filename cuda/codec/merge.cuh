#pragma once

#include "cuda/codec/bits.cuh"
#include "cuda/codec/quantise.cuh"

/// From a payload to the values that it changes: what common/codec/group_decoder.cc and add() do.
namespace nanduti::device {

/// What both kernels know about their group.
struct Reading {
  GroupEntry entry;
  Quantiser quantiser;
  unsigned size, count;
  unsigned index_bytes;
  float* target;  // of the group
  const unsigned* words;
  BitPosition body;  // its sections: index, remainders, values
  BitPosition remainders;
  BitPosition codes;
};

__device__ inline Reading reading_of(const MergeArguments& arguments, unsigned group) {
  Reading reading;
  const CodedGroup* const coded = arguments.groups + group;
  reading.entry.count_and_form = load(&coded->entry.count_and_form);
  reading.entry.unary_and_rice = load(&coded->entry.unary_and_rice);
  for (unsigned which = 0; which < 2; ++which)
    reading.entry.scales[which] = load(&coded->entry.scales[which]);
  reading.quantiser = quantiser_of(reading.entry, 0);
  reading.size = load(&coded->size);
  const GroupSections sections = sections_of(reading.entry, reading.size);
  reading.count = reading.entry.count();
  reading.index_bytes = static_cast<unsigned>(sections.index_bytes);
  reading.target = arguments.target + load(&coded->begin);
  reading.words = arguments.words;
  reading.body = 8 * load(&coded->body);
  reading.remainders = reading.body + 8 * sections.index_bytes;
  reading.codes = reading.remainders + 8 * sections.remainder_bytes;
  return reading;
}

__device__ inline unsigned remainder_of(const Reading& reading, unsigned k) {
  const unsigned rice = reading.entry.rice_parameter();
  return read_bits(reading.words, reading.remainders + static_cast<BitPosition>(k) * rice, rice);
}

__device__ inline unsigned code_at(const Reading& reading, unsigned k) {
  const unsigned width = bits_of(reading.entry.code());
  return read_bits(reading.words, reading.codes + static_cast<BitPosition>(k) * width, width);
}

/// Whether the bits after `bits` up to a whole byte are zeros.
__device__ inline bool ends_with_zeros(const unsigned* words, BitPosition begin, std::uint64_t bits) {
  const unsigned used = static_cast<unsigned>(bits % 8);
  return used == 0 || read_bits(words, begin + bits, 8 - used) == 0;
}

/// Whether what is beside the index section and the values is as it should be: `ones` in the index section,
/// the last at bit `last`, remainders with this sum.
__device__ inline bool good_indices(const Reading& reading, unsigned ones, unsigned last,
                                    unsigned sum_of_remainders) {
  const IndexForm form = reading.entry.form();
  const unsigned rice = reading.entry.rice_parameter(), count = reading.count;
  if (form == IndexForm::kBitmap)
    return ones == count && ends_with_zeros(reading.words, reading.body, reading.size);
  if (form != IndexForm::kRice) return true;
  if (ones != count || last / 8 + 1 != reading.index_bytes) return false;
  // Up to here, all sums stay below 2^32 (check_entry).
  if ((static_cast<std::uint64_t>(last + 1 - count) << rice) >= reading.size) return false;
  if (!ends_with_zeros(reading.words, reading.remainders, static_cast<std::uint64_t>(count) * rice))
    return false;
  return ((last + 1 - count) << rice) + sum_of_remainders + count - 1 < reading.size;
}

__device__ inline void apply(const Reading& reading, float factor, unsigned index, unsigned k) {
  float* const at = reading.target + index;
  store(at, __fadd_rn(load(at), __fmul_rn(factor, reading.quantiser.value_of(code_at(reading, k)))));
}

/// One thread for each group.
__global__ void list_groups_of_payload(const PlannedGroup* planned, const ShapedGroup* shaped,
                                       const std::uint64_t* bodies, CodedGroup* coded, unsigned groups) {
  const unsigned group = blockIdx.x * blockDim.x + threadIdx.x;
  if (group >= groups) return;
  CodedGroup* const to = coded + group;
  const GroupEntry& entry = shaped[group].entry;
  store(&to->entry.count_and_form, load(&entry.count_and_form));
  store(&to->entry.unary_and_rice, load(&entry.unary_and_rice));
  for (unsigned which = 0; which < 2; ++which) store(&to->entry.scales[which], load(&entry.scales[which]));
  store(&to->begin, load(&planned[group].begin));
  store(&to->size, load(&planned[group].size));
  store(&to->body, load(&bodies[group]));
}

/// One thread for each group.
__global__ void check_groups_plainly(MergeArguments arguments, unsigned groups) {
  const unsigned group = blockIdx.x * blockDim.x + threadIdx.x;
  if (group >= groups) return;
  const Reading reading = reading_of(arguments, group);
  unsigned ones = 0, last = 0, sum = 0;
  for (unsigned bit = 0; bit < 8 * reading.index_bytes; ++bit) {
    if (read_bits(reading.words, reading.body + bit, 1) == 0) continue;
    ++ones;
    last = bit;
  }
  if (reading.entry.form() == IndexForm::kRice)
    for (unsigned k = 0; k < reading.count; ++k) sum += remainder_of(reading, k);
  bool good = good_indices(reading, ones, last, sum);
  const unsigned width = bits_of(reading.entry.code());
  good = good &&
         ends_with_zeros(reading.words, reading.codes, static_cast<std::uint64_t>(reading.count) * width);
  if (reading.entry.code() == ValueCode::kFloat32)
    for (unsigned k = 0; k < reading.count; ++k)
      good = good && (code_at(reading, k) & kMagnitudeBits) < kInfinityBits;
  if (!good) atomicOr(arguments.failed, 1u);
}

/// One thread for each group.
__global__ void merge_groups_plainly(MergeArguments arguments, unsigned groups) {
  const unsigned group = blockIdx.x * blockDim.x + threadIdx.x;
  if (group >= groups || load(arguments.failed) != 0) return;
  const Reading reading = reading_of(arguments, group);
  const IndexForm form = reading.entry.form();
  if (form == IndexForm::kDense)
    for (unsigned i = 0; i < reading.size; ++i) apply(reading, arguments.factor, i, i);
  unsigned k = 0, sum = 0;
  for (unsigned bit = 0; bit < 8 * reading.index_bytes; ++bit) {
    if (read_bits(reading.words, reading.body + bit, 1) == 0) continue;
    if (form == IndexForm::kRice) sum += remainder_of(reading, k);
    apply(reading, arguments.factor,
          form == IndexForm::kRice ? ((bit - k) << reading.entry.rice_parameter()) + sum + k : bit, k);
    ++k;
  }
}

/// kThreads for each group.
__global__ void check_groups_fast(MergeArguments arguments) {
  NANDUTI_SHARED(unsigned, shared, 2 * kWarps);
  BlockScan scan(shared);
  const Reading reading = reading_of(arguments, blockIdx.x);
  const unsigned thread = threadIdx.x, bits = 8 * reading.index_bytes;
  unsigned ones = 0, end = 0, sum = 0;  // end: behind the last one
  for (unsigned bit = 32 * thread; bit < bits; bit += 32 * kThreads) {
    const unsigned width = bits - bit < 32 ? bits - bit : 32;
    const unsigned some = read_bits(reading.words, reading.body + bit, width);
    ones += static_cast<unsigned>(__popc(some));
    if (some != 0) end = bit + 32 - static_cast<unsigned>(__clz(static_cast<int>(some)));
  }
  if (reading.entry.form() == IndexForm::kRice)
    for (unsigned k = thread; k < reading.count; k += kThreads) sum += remainder_of(reading, k);
  unsigned bad = 0;
  if (reading.entry.code() == ValueCode::kFloat32)
    for (unsigned k = thread; k < reading.count; k += kThreads)
      if ((code_at(reading, k) & kMagnitudeBits) >= kInfinityBits) bad = 1;
  ones = scan.sum(ones);
  end = scan.maximum(end);
  sum = scan.sum(sum);
  bad = scan.sum(bad);
  if (thread != 0) return;
  const unsigned width = bits_of(reading.entry.code());
  const bool good =
      bad == 0 && good_indices(reading, ones, end == 0 ? 0 : end - 1, sum) &&
      ends_with_zeros(reading.words, reading.codes, static_cast<std::uint64_t>(reading.count) * width);
  if (!good) atomicOr(arguments.failed, 1u);
}

/// kThreads for each group.
__global__ void merge_groups_fast(MergeArguments arguments) {
  NANDUTI_SHARED(unsigned, shared, 2 * kWarps);
  BlockScan scan(shared);
  if (load(arguments.failed) != 0) return;
  const Reading reading = reading_of(arguments, blockIdx.x);
  const unsigned thread = threadIdx.x;
  const IndexForm form = reading.entry.form();
  if (form == IndexForm::kDense)
    for (unsigned i = thread; i < reading.size; i += kThreads) apply(reading, arguments.factor, i, i);
  const unsigned bits = 8 * reading.index_bytes, rice = reading.entry.rice_parameter();
  // A row is a byte of the index section for each thread, so that none has many ones.
  unsigned ones_before = 0, sum_before = 0;
  for (unsigned row = 0; row < bits; row += 8 * kThreads) {
    const unsigned bit = row + 8 * thread;
    unsigned ones = bit < bits ? read_bits(reading.words, reading.body + bit, 8) : 0, of_row;
    unsigned k = ones_before + scan.before(static_cast<unsigned>(__popc(ones)), of_row);
    ones_before += of_row;
    unsigned sum = 0;
    if (form == IndexForm::kRice) {
      unsigned own = 0;
      for (unsigned i = 0; i < static_cast<unsigned>(__popc(ones)); ++i) own += remainder_of(reading, k + i);
      sum = sum_before + scan.before(own, of_row);
      sum_before += of_row;
    }
    for (; ones != 0; ones &= ones - 1, ++k) {
      const unsigned at = bit + static_cast<unsigned>(__ffs(static_cast<int>(ones))) - 1;
      if (form == IndexForm::kRice) sum += remainder_of(reading, k);
      apply(reading, arguments.factor, form == IndexForm::kRice ? ((at - k) << rice) + sum + k : at, k);
    }
  }
}

}  // namespace nanduti::device
