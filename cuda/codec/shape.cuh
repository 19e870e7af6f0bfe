#pragma once

#include "cuda/codec/quantise.cuh"
#include "cuda/codec/select.cuh"

/// From candidates to entries: what common/codec/group_encoder.cc decides about a group.
namespace nanduti::device {

inline constexpr unsigned kGroupBlocksMax = 1u << kGroupBlocksLog2Max;

/// The gap before the value at place `k` of a list.
__device__ inline unsigned gap_before(const unsigned* indices, unsigned k) {
  const unsigned index = load(&indices[k]);
  return k == 0 ? index : index - load(&indices[k - 1]) - 1;
}

/// choose_rice(): sum_of_quotients(p) gives the sum of all gaps, each divided by 2^p.
template <class Sum>
__device__ RiceChoice choose_rice_on_device(unsigned count, unsigned last_index,
                                            const Sum& sum_of_quotients) {
  const unsigned mean_gap = (last_index + 1 - count) / count;
  unsigned parameter = static_cast<unsigned>(32 - __clz(static_cast<int>(mean_gap)));
  if (parameter > kRiceParameterMax) parameter = kRiceParameterMax;
  unsigned bits = count + sum_of_quotients(parameter);
  while (parameter > 0) {
    const unsigned fewer = count + sum_of_quotients(parameter - 1);
    if (fewer > bits + count) break;
    bits = fewer;
    --parameter;
  }
  return {parameter, bits};
}

__device__ inline void store_shape(ShapedGroup* to, const GroupLayout& layout, const Quantiser& quantiser,
                                   unsigned count) {
  store(&to->entry.count_and_form, layout.entry.count_and_form);
  store(&to->entry.unary_and_rice, layout.entry.unary_and_rice);
  for (unsigned which = 0; which < 2; ++which) store(&to->entry.scales[which], quantiser.scales[which]);
  store(&to->count, count);
  store(&to->middle, quantiser.middle);
  store(&to->body_bytes, layout.bytes);
}

/// One thread for each group.
__global__ void shape_groups_plainly(ShapeArguments arguments, unsigned groups) {
  const unsigned group = blockIdx.x * blockDim.x + threadIdx.x;
  if (group >= groups) return;
  const PlannedGroup* const planned = arguments.planned + group;
  const unsigned begin = load(&planned->begin), size = load(&planned->size), slot = load(&planned->slot);
  const unsigned first_block = load(&planned->first_block), blocks = load(&planned->blocks);
  const Candidates& from = arguments.candidates;
  unsigned* const indices = arguments.sent.indices + slot;
  float* const values = arguments.sent.values + slot;
  auto code = static_cast<ValueCode>(load(&planned->usual_code));

  unsigned count = 0, nonzeros = 0;
  const auto take_candidates = [&] {
    count = 0;
    for (unsigned block = 0; block < blocks; ++block) {
      const unsigned of_block = load(&from.slots[first_block + block]);
      for (unsigned k = 0; k < load(&from.selected[first_block + block]); ++k) {
        store(&indices[count], block * kBlockValues + load(&from.indices[of_block + k]));
        store(&values[count], load(&from.values[of_block + k]));
        ++count;
      }
    }
  };
  const auto shortest = [&](ValueCode with) {
    const auto sum_of_quotients = [&](unsigned parameter) {
      unsigned sum = 0;
      for (unsigned k = 0; k < count; ++k) sum += gap_before(indices, k) >> parameter;
      return sum;
    };
    const RiceChoice rice =
        count == 0 ? RiceChoice() : choose_rice_on_device(count, load(&indices[count - 1]), sum_of_quotients);
    return shortest_layout(count, size, with, rice);
  };

  take_candidates();
  for (unsigned block = 0; block < blocks; ++block) nonzeros += load(&from.nonzeros[first_block + block]);
  for (unsigned k = 0; k < count; ++k)
    if ((__float_as_uint(load(&values[k])) & kMagnitudeBits) >= kInfinityBits) code = ValueCode::kFloat32;
  const unsigned usual_bits = load(&planned->usual_bits);
  if (code != ValueCode::kFloat32 && 32ull * nonzeros <= usual_bits) {
    count = 0;
    for (unsigned i = 0; i < size; ++i) {
      const float value = load(&arguments.residual[begin + i]);
      if (value == 0) continue;
      store(&indices[count], i);
      store(&values[count++], value);
    }
    if (8 * shortest(ValueCode::kFloat32).bytes <= usual_bits)
      code = ValueCode::kFloat32;
    else
      take_candidates();
  }

  const GroupLayout layout = shortest(code);
  Quantiser quantiser;
  quantiser.code = code;
  if (code == ValueCode::kTwoBits) {
    double lanes[kSumLanes];
    const auto sum_of = [&](const auto& value) {
      for (double& lane : lanes) lane = 0;
      for (unsigned k = 0; k < count; ++k)
        lanes[k % kSumLanes] =
            __dadd_rn(lanes[k % kSumLanes], static_cast<double>(value(magnitude_of(load(&values[k])))));
      for (unsigned width = kSumLanes / 2; width > 0; width /= 2)
        for (unsigned lane = 0; lane < width; ++lane)
          lanes[lane] = __dadd_rn(lanes[lane], lanes[lane + width]);
      return lanes[0];
    };
    const float middle = mean(sum_of([](float magnitude) { return magnitude; }), count);
    quantiser.middle = middle;
    unsigned high_count = 0;
    for (unsigned k = 0; k < count; ++k) high_count += magnitude_of(load(&values[k])) > middle ? 1 : 0;
    const double low = sum_of([&](float magnitude) { return magnitude > middle ? 0.0f : magnitude; });
    quantiser.scales[0] = nearest_bfloat16(mean(low, count - high_count));
    const double high = sum_of([&](float magnitude) { return magnitude > middle ? magnitude : 0.0f; });
    quantiser.scales[1] = nearest_bfloat16(mean(high, high_count));
  } else if (code != ValueCode::kFloat32 && count > 0) {
    float smallest = __uint_as_float(kInfinityBits - 1), largest = 0;
    for (unsigned k = 0; k < count; ++k) {
      const float magnitude = magnitude_of(load(&values[k]));
      if (magnitude < smallest) smallest = magnitude;
      if (magnitude > largest) largest = magnitude;
    }
    scale_evenly(quantiser, smallest, largest, layout.entry.form() == IndexForm::kDense);
  }
  store_shape(arguments.shaped + group, layout, quantiser, count);
}

/// kThreads for each group.
__global__ void shape_groups_fast(ShapeArguments arguments) {
  NANDUTI_SHARED(unsigned, shared, 2 * kWarps);
  NANDUTI_SHARED(unsigned, firsts, kGroupBlocksMax);  // per block: where its values begin in the list
  NANDUTI_SHARED(float, middle_shared, 1);
  NANDUTI_SHARED(float, means, 2);
  BlockScan scan(shared);
  const unsigned thread = threadIdx.x;
  const PlannedGroup* const planned = arguments.planned + blockIdx.x;
  const unsigned begin = load(&planned->begin), size = load(&planned->size), slot = load(&planned->slot);
  const unsigned first_block = load(&planned->first_block), blocks = load(&planned->blocks);
  const unsigned usual_bits = load(&planned->usual_bits);
  const Candidates& from = arguments.candidates;
  unsigned* const indices = arguments.sent.indices + slot;
  float* const values = arguments.sent.values + slot;

  // Copies the candidates of those blocks that go as they are; so many threads take one block together.
  unsigned per_block = kThreads;
  while (per_block * blocks > kThreads) per_block /= 2;
  const unsigned own_block = thread / per_block;
  unsigned of_block = 0, nonzeros_of_block = 0;
  if (thread < blocks) {
    of_block = load(&from.selected[first_block + thread]);
    nonzeros_of_block = load(&from.nonzeros[first_block + thread]);
  }
  unsigned selected;
  const unsigned first_selected = scan.before(of_block, selected);
  const unsigned nonzeros = scan.sum(nonzeros_of_block);
  unsigned finite = 1;
  const auto take_candidates = [&](bool all) {
    if (own_block >= blocks) return;
    const unsigned at = first_block + own_block;
    const unsigned count = load(&from.selected[at]), first = load(&from.slots[at]);
    if (all && count != load(&from.nonzeros[at])) return;
    for (unsigned k = thread % per_block; k < count; k += per_block) {
      const float value = load(&from.values[first + k]);
      if ((__float_as_uint(value) & kMagnitudeBits) >= kInfinityBits) finite = 0;
      store(&indices[firsts[own_block] + k], own_block * kBlockValues + load(&from.indices[first + k]));
      store(&values[firsts[own_block] + k], value);
    }
  };
  // A block that does not go as it is: its values that are not zero.
  const auto take_nonzeros = [&](unsigned block) {
    unsigned place = firsts[block];
    const unsigned end = size < (block + 1) * kBlockValues ? size : (block + 1) * kBlockValues;
    for (unsigned row = block * kBlockValues; row < end; row += 4 * kThreads) {
      const unsigned at = row + 4 * thread;
      float four[4] = {0, 0, 0, 0};
      if (at + 4 <= end) {
        const float4 loaded = load(reinterpret_cast<const float4*>(arguments.residual + begin + at));
        four[0] = loaded.x;
        four[1] = loaded.y;
        four[2] = loaded.z;
        four[3] = loaded.w;
      } else {
        for (unsigned c = 0; at + c < end; ++c) four[c] = load(&arguments.residual[begin + at + c]);
      }
      unsigned own = 0, of_row;
      for (const float value : four) own += value != 0 ? 1 : 0;
      unsigned to = place + scan.before(own, of_row);
      for (unsigned c = 0; c < 4; ++c) {
        if (four[c] == 0) continue;
        store(&indices[to], at + c);
        store(&values[to++], four[c]);
      }
      place += of_row;
    }
  };
  const auto shortest = [&](ValueCode with, unsigned count) {
    const auto sum_of_quotients = [&](unsigned parameter) {
      unsigned sum = 0;
      for (unsigned k = thread; k < count; k += kThreads) sum += gap_before(indices, k) >> parameter;
      return scan.sum(sum);
    };
    const RiceChoice rice =
        count == 0 ? RiceChoice() : choose_rice_on_device(count, load(&indices[count - 1]), sum_of_quotients);
    return shortest_layout(count, size, with, rice);
  };

  if (thread < blocks) firsts[thread] = first_selected;
  __syncthreads();
  take_candidates(false);
  // Whoever has counted has written its part of the list.
  const bool all_finite = scan.sum(finite) == kThreads;
  auto code = all_finite ? static_cast<ValueCode>(load(&planned->usual_code)) : ValueCode::kFloat32;
  unsigned count = selected;
  if (code != ValueCode::kFloat32 && 32ull * nonzeros <= usual_bits) {
    if (nonzeros > selected) {
      unsigned all;
      const unsigned first_nonzero = scan.before(nonzeros_of_block, all);
      if (thread < blocks) firsts[thread] = first_nonzero;
      __syncthreads();
      take_candidates(true);
      for (unsigned block = 0; block < blocks; ++block)
        if (load(&from.selected[first_block + block]) != load(&from.nonzeros[first_block + block]))
          take_nonzeros(block);
      __syncthreads();
    }
    if (8 * shortest(ValueCode::kFloat32, nonzeros).bytes <= usual_bits) {
      code = ValueCode::kFloat32;
      count = nonzeros;
    } else if (nonzeros > selected) {
      if (thread < blocks) firsts[thread] = first_selected;
      __syncthreads();
      take_candidates(false);
      __syncthreads();
    }
  }

  const GroupLayout layout = shortest(code, count);
  Quantiser quantiser;
  quantiser.code = code;
  if (code == ValueCode::kTwoBits) {
    if (thread < 32) {
      const double sum =
          sum_in_lanes(count, [&](unsigned k, unsigned) { return magnitude_of(load(&values[k])); });
      if (thread == 0) middle_shared[0] = mean(sum, count);
    }
    __syncthreads();
    const float middle = middle_shared[0];
    quantiser.middle = middle;
    unsigned own = 0;
    for (unsigned k = thread; k < count; k += kThreads)
      own += magnitude_of(load(&values[k])) > middle ? 1 : 0;
    const unsigned high_count = scan.sum(own);
    if (thread < 32) {
      const double sum = sum_in_lanes(count, [&](unsigned k, unsigned high) {
        const float magnitude = magnitude_of(load(&values[k]));
        return (magnitude > middle) == (high == 1) ? magnitude : 0.0f;
      });
      if (thread % kSumLanes == 0)
        means[thread / kSumLanes] = mean(sum, thread == 0 ? count - high_count : high_count);
    }
    __syncthreads();
    quantiser.scales[0] = nearest_bfloat16(means[0]);
    quantiser.scales[1] = nearest_bfloat16(means[1]);
  } else if (code != ValueCode::kFloat32 && count > 0) {
    unsigned smallest = kInfinityBits - 1, largest = 0;
    for (unsigned k = thread; k < count; k += kThreads) {
      const unsigned magnitude = __float_as_uint(load(&values[k])) & kMagnitudeBits;
      if (magnitude < smallest) smallest = magnitude;
      if (magnitude > largest) largest = magnitude;
    }
    smallest = ~scan.maximum(~smallest);
    largest = scan.maximum(largest);
    scale_evenly(quantiser, __uint_as_float(smallest), __uint_as_float(largest),
                 layout.entry.form() == IndexForm::kDense);
  }
  if (thread == 0) store_shape(arguments.shaped + blockIdx.x, layout, quantiser, count);
}

}  // namespace nanduti::device
