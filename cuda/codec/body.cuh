#pragma once

#include "cuda/codec/bits.cuh"
#include "cuda/codec/quantise.cuh"

namespace nanduti::device {

__device__ inline GroupEntry load_entry(const GroupEntry* from) {
  GroupEntry entry;
  entry.count_and_form = load(&from->count_and_form);
  entry.unary_and_rice = load(&from->unary_and_rice);
  for (unsigned which = 0; which < 2; ++which) entry.scales[which] = load(&from->scales[which]);
  return entry;
}

/// Where the sections of a group's body begin in a payload, in bits.
struct Body {
  BitPosition indices;
  BitPosition remainders;
  BitPosition codes;
};

/// `begin`: the byte at which the body does.
__device__ inline Body body_of(const GroupEntry& entry, unsigned size, std::uint64_t begin) {
  const GroupSections sections = sections_of(entry, size);
  Body body{8 * begin, 0, 0};
  body.remainders = body.indices + 8 * sections.index_bytes;
  body.codes = body.remainders + 8 * sections.remainder_bytes;
  return body;
}

}  // namespace nanduti::device
