#pragma once

#include "cuda/codec/bits.cuh"
#include "cuda/codec/shape.cuh"

/// From entries and lists to the payload: what common/codec/block_payload.cc and rice.cc write.
namespace nanduti::device {

/// Bytes before the first body.
__device__ inline std::uint64_t bodies_begin(unsigned groups) {
  return sizeof(PayloadHeader) + static_cast<std::uint64_t>(groups) * sizeof(GroupEntry);
}

/// One thread.
__global__ void place_groups_plainly(const ShapedGroup* shaped, unsigned groups, Payload payload) {
  std::uint64_t at = bodies_begin(groups);
  for (unsigned group = 0; group < groups; ++group) {
    store(&payload.bodies[group], at);
    at += load(&shaped[group].body_bytes);
  }
  store(payload.bytes, at);
}

/// One block.
__global__ void place_groups_fast(const ShapedGroup* shaped, unsigned groups, Payload payload) {
  NANDUTI_SHARED(unsigned, shared, 2 * kWarps);
  BlockScan scan(shared);
  std::uint64_t at = bodies_begin(groups);
  for (unsigned first = 0; first < groups; first += kThreads) {
    const unsigned group = first + threadIdx.x;
    // A body is at most 2^20 values and as many bits: kThreads of them are less than 2^32 bytes.
    const auto own = group < groups ? static_cast<unsigned>(load(&shaped[group].body_bytes)) : 0u;
    unsigned total;
    const unsigned before = scan.before(own, total);
    if (group < groups) store(&payload.bodies[group], at + before);
    at += total;
  }
  if (threadIdx.x == 0) store(payload.bytes, at);
}

/// Any shape.
__global__ void clear_payload_plainly(Payload payload) {
  const std::uint64_t words = (load(payload.bytes) + 3) / 4;
  const unsigned step = gridDim.x * blockDim.x;
  for (std::uint64_t word = blockIdx.x * blockDim.x + threadIdx.x; word < words; word += step)
    store(&payload.words[word], 0u);
}

/// Any shape.
__global__ void clear_payload_fast(Payload payload) {
  const std::uint64_t fours = (load(payload.bytes) + 15) / 16;
  const unsigned step = gridDim.x * blockDim.x;
  for (std::uint64_t four = blockIdx.x * blockDim.x + threadIdx.x; four < fours; four += step)
    store(reinterpret_cast<uint4*>(payload.words) + four, uint4{0, 0, 0, 0});
}

/// What both forms of write_groups() know about their group.
struct Writing {
  GroupEntry entry;
  Quantiser quantiser;
  unsigned size, count;
  const unsigned* indices;
  const float* values;
  float* residual;   // of the group
  unsigned* words;   // of the payload
  BitPosition body;  // its sections: index, remainders, values
  BitPosition remainders;
  BitPosition codes;
};

__device__ inline Writing writing_of(const WriteArguments& arguments, unsigned group) {
  Writing writing;
  const PlannedGroup* const planned = arguments.planned + group;
  const ShapedGroup* const shaped = arguments.shaped + group;
  writing.entry.count_and_form = load(&shaped->entry.count_and_form);
  writing.entry.unary_and_rice = load(&shaped->entry.unary_and_rice);
  for (unsigned which = 0; which < 2; ++which)
    writing.entry.scales[which] = load(&shaped->entry.scales[which]);
  writing.quantiser = quantiser_of(writing.entry, load(&shaped->middle));
  writing.size = load(&planned->size);
  writing.count = load(&shaped->count);
  const unsigned slot = load(&planned->slot);
  writing.indices = arguments.sent.indices + slot;
  writing.values = arguments.sent.values + slot;
  writing.residual = arguments.residual + load(&planned->begin);
  writing.words = arguments.payload.words;
  const GroupSections sections = sections_of(writing.entry, writing.size);
  writing.body = 8 * load(&arguments.payload.bodies[group]);
  writing.remainders = writing.body + 8 * sections.index_bytes;
  writing.codes = writing.remainders + 8 * sections.remainder_bytes;
  return writing;
}

/// By one thread.
__device__ inline void write_entry(const WriteArguments& arguments, unsigned group, const GroupEntry& entry) {
  unsigned* const words = arguments.payload.words;
  if (group == 0) {
    const PayloadHeader& header = arguments.header;
    store(&words[0], header.format | (static_cast<unsigned>(header.group_blocks_log2) << 8) |
                         (static_cast<unsigned>(header.zero) << 16));
    store(&words[1], header.dense_begin);
  }
  unsigned* const at = words + (sizeof(PayloadHeader) + group * sizeof(GroupEntry)) / 4;
  store(&at[0], entry.count_and_form);
  store(&at[1], entry.unary_and_rice);
  store(&at[2], entry.scales[0] | (static_cast<unsigned>(entry.scales[1]) << 16));
}

/// One thread for each group.
__global__ void write_groups_plainly(WriteArguments arguments) {
  const unsigned group = blockIdx.x * blockDim.x + threadIdx.x;
  if (group >= arguments.groups) return;
  const Writing writing = writing_of(arguments, group);
  write_entry(arguments, group, writing.entry);
  const unsigned width = bits_of(writing.entry.code()), rice = writing.entry.rice_parameter();
  BitPosition ones = writing.body;
  for (unsigned k = 0; k < writing.count; ++k) {
    const unsigned index = load(&writing.indices[k]);
    const float value = load(&writing.values[k]);
    const unsigned code = writing.quantiser.code_of(value);
    store(&writing.residual[index], __fsub_rn(value, writing.quantiser.value_of(code)));
    const IndexForm form = writing.entry.form();
    or_bits(writing.words, writing.codes + (form == IndexForm::kDense ? index : k) * width, width, code);
    if (form == IndexForm::kBitmap) or_bits(writing.words, writing.body + index, 1, 1);
    if (form != IndexForm::kRice) continue;
    const unsigned gap = gap_before(writing.indices, k);
    ones += gap >> rice;
    or_bits(writing.words, ones++, 1, 1);
    or_bits(writing.words, writing.remainders + static_cast<BitPosition>(k) * rice, rice,
            gap & ((1u << rice) - 1));
  }
}

/// kThreads for each group.
__global__ void write_groups_fast(WriteArguments arguments) {
  NANDUTI_SHARED(unsigned, shared, 2 * kWarps);
  BlockScan scan(shared);
  const Writing writing = writing_of(arguments, blockIdx.x);
  const unsigned thread = threadIdx.x, count = writing.count;
  if (thread == 0) write_entry(arguments, blockIdx.x, writing.entry);
  const IndexForm form = writing.entry.form();
  const unsigned width = bits_of(writing.entry.code()), rice = writing.entry.rice_parameter();

  unsigned quotients = 0;  // of those before
  for (unsigned first = 0; first < count; first += kThreads) {
    const unsigned k = first + thread;
    unsigned index = 0, gap = 0;
    if (k < count) {
      index = load(&writing.indices[k]);
      const float value = load(&writing.values[k]);
      const unsigned code = writing.quantiser.code_of(value);
      store(&writing.residual[index], __fsub_rn(value, writing.quantiser.value_of(code)));
      if (form == IndexForm::kDense && count < writing.size)
        or_bits(writing.words, writing.codes + static_cast<BitPosition>(index) * width, width, code);
      if (form == IndexForm::kBitmap) or_bits(writing.words, writing.body + index, 1, 1);
      gap = gap_before(writing.indices, k);
    }
    if (form != IndexForm::kRice) continue;
    unsigned total;
    const unsigned before = quotients + scan.before(gap >> rice, total);
    quotients += total;
    if (k < count) or_bits(writing.words, writing.body + before + (gap >> rice) + k, 1, 1);
  }
  if (form == IndexForm::kRice)
    write_fields(writing.words, writing.remainders, rice, count,
                 [&](unsigned k) { return gap_before(writing.indices, k) & ((1u << rice) - 1); });
  if (form != IndexForm::kDense || count == writing.size)
    write_fields(writing.words, writing.codes, width, count,
                 [&](unsigned k) { return writing.quantiser.code_of(load(&writing.values[k])); });
}

}  // namespace nanduti::device
