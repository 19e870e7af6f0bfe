// Compiled for AVX2, BMI and popcnt. Nothing here may call an inline function of a shared header: the linker
// might keep this file's copy of it for everybody.
#include "common/codec/codec_kernels.h"

#if defined(__AVX2__) && defined(__BMI2__)
#include <immintrin.h>

namespace nanduti {
namespace {

constexpr std::size_t kLanes = 8;

/// The positions of the ones in a byte, ascending.
struct PositionTable {
  alignas(64) std::uint8_t of[256][kLanes] = {};
  constexpr PositionTable() {
    for (unsigned byte = 0; byte < 256; ++byte)
      for (unsigned bit = 0, next = 0; bit < 8; ++bit)
        if ((byte >> bit) % 2 == 1) of[byte][next++] = static_cast<std::uint8_t>(bit);
  }
};
constexpr PositionTable kPositions;

__m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
void store(void* at, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(at), value); }
__m256i set(std::uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
__m256i iota() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
__m256i positions(std::uint32_t byte) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPositions.of[byte])));
}
std::uint32_t mask_of(__m256i lanes) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(lanes)));
}
std::size_t ones(std::uint32_t mask) { return static_cast<std::size_t>(_mm_popcnt_u32(mask)); }
/// Which of `remaining` > 0 values are there, as lanes.
__m256i lanes_left(std::size_t remaining) {
  return _mm256_cmpgt_epi32(set(remaining < kLanes ? static_cast<std::uint32_t>(remaining) : 8u), iota());
}

std::size_t accumulate(float* residual, const float* progress, std::size_t size, std::uint32_t bin_log2,
                       std::uint32_t* bin_maxima) {
  const __m256i magnitude = set(kMagnitudeBits);
  std::size_t at = 0;
  std::uint32_t* out = bin_maxima;
  for (; at < size; out += kBinLanes) {
    // A bin's lane is one of two vectors'.
    __m256i maxima[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    const std::size_t end = at + (kBinLanes << bin_log2);
    for (std::size_t half = 0; at < end && at + kLanes <= size; at += kLanes, half ^= 1) {
      __m256 values = _mm256_loadu_ps(residual + at);
      if (progress != nullptr) {
        values = _mm256_add_ps(values, _mm256_loadu_ps(progress + at));
        _mm256_storeu_ps(residual + at, values);
      }
      maxima[half] = _mm256_max_epu32(maxima[half], _mm256_and_si256(_mm256_castps_si256(values), magnitude));
    }
    if (at < end && at < size) {
      const __m256i left = lanes_left(size - at);
      __m256 values = _mm256_maskload_ps(residual + at, left);
      if (progress != nullptr) {
        values = _mm256_add_ps(values, _mm256_maskload_ps(progress + at, left));
        _mm256_maskstore_ps(residual + at, left, values);
      }
      const std::size_t half = at / kLanes % 2;
      maxima[half] = _mm256_max_epu32(maxima[half], _mm256_and_si256(_mm256_castps_si256(values), magnitude));
      at = size;
    }
    store(out, maxima[0]);
    store(out + kLanes, maxima[1]);
  }
  return static_cast<std::size_t>(out - bin_maxima);
}

std::size_t collect(const float* values, const float* progress, std::size_t size, std::uint32_t threshold,
                    Candidates out) {
  const __m256i magnitude = set(kMagnitudeBits), below = set(threshold - 1);
  const float* const next = values + size;
  const float* const next_progress = progress == nullptr ? next : progress + size;
  std::size_t count = 0, at = 0;
  const auto append = [&](__m256i bits, std::uint32_t there) __attribute__((always_inline)) {
    const std::uint32_t mask = mask_of(_mm256_cmpgt_epi32(_mm256_and_si256(bits, magnitude), below)) & there;
    const __m256i order = positions(mask);
    store(out.bits + count, _mm256_permutevar8x32_epi32(bits, order));
    store(out.indices + count, _mm256_add_epi32(order, set(static_cast<std::uint32_t>(at))));
    count += ones(mask);
  };
  for (; at + kLanes <= size; at += kLanes) {
    _mm_prefetch(next + at, _MM_HINT_T1);
    _mm_prefetch(next_progress + at, _MM_HINT_T1);
    append(load(values + at), 0xFF);
  }
  if (at < size) {
    const __m256i left = lanes_left(size - at);
    append(_mm256_castps_si256(_mm256_maskload_ps(values + at, left)), mask_of(left));
  }
  return count;
}

std::size_t count_from(const std::uint32_t* bits, std::size_t count, std::uint32_t least) {
  const __m256i magnitude = set(kMagnitudeBits), below = set(least - 1);
  const auto reached = [&](std::size_t at) __attribute__((always_inline)) {
    return _mm256_cmpgt_epi32(_mm256_and_si256(load(bits + at), magnitude), below);
  };
  std::size_t sum = 0, at = 0;
  for (; at + kLanes <= count; at += kLanes) sum += ones(mask_of(reached(at)));
  if (at == count) return sum;
  return sum + ones(mask_of(_mm256_and_si256(reached(at), lanes_left(count - at))));
}

void keep_largest(Candidates from, std::size_t count, std::size_t wanted, std::uint32_t magnitude,
                  std::uint32_t offset, std::uint32_t* out_indices, float* out_values) {
  std::size_t equals = wanted - count_from(from.bits, count, magnitude + 1);
  const __m256i magnitudes = set(kMagnitudeBits), limit = set(magnitude), offsets = set(offset);
  std::size_t kept = 0;
  for (std::size_t at = 0; at < count; at += kLanes) {
    const __m256i bits = load(from.bits + at);
    const __m256i key = _mm256_and_si256(bits, magnitudes);
    const __m256i left = lanes_left(count - at);
    std::uint32_t equal = mask_of(_mm256_and_si256(_mm256_cmpeq_epi32(key, limit), left));
    if (ones(equal) > equals) equal = _pdep_u32((1u << equals) - 1, equal);
    equals -= ones(equal);
    const std::uint32_t mask = equal | mask_of(_mm256_and_si256(_mm256_cmpgt_epi32(key, limit), left));
    const __m256i order = positions(mask);
    store(out_values + kept, _mm256_permutevar8x32_epi32(bits, order));
    store(out_indices + kept,
          _mm256_add_epi32(_mm256_permutevar8x32_epi32(load(from.indices + at), order), offsets));
    kept += ones(mask);
  }
}

void positions_of_ones(const std::byte* bytes, std::size_t byte_count, std::uint32_t* out) {
  __m256i base = _mm256_setzero_si256();
  for (std::size_t at = 0; at < byte_count; ++at) {
    const auto byte = static_cast<std::uint32_t>(bytes[at]);
    store(out, _mm256_add_epi32(positions(byte), base));
    base = _mm256_add_epi32(base, set(8));
    out += ones(byte);
  }
}

void rice_indices(const std::byte* remainders, std::uint32_t parameter, std::size_t count,
                  std::uint32_t offset, std::uint32_t* out) {
  // Eight remainders are `parameter` bytes: every vector begins at a whole byte. Three bytes hold any of
  // them.
  alignas(32) std::uint8_t bytes_of[32];
  alignas(32) std::uint32_t shift_of[kLanes];
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    const std::uint32_t bit = lane * parameter;
    for (std::uint32_t k = 0; k < 4; ++k)
      bytes_of[4 * lane + k] = static_cast<std::uint8_t>(k < 3 ? bit / 8 + k : 0x80);
    shift_of[lane] = bit % 8;
  }
  const __m256i spread = load(bytes_of), shifts = load(shift_of), mask = set((1u << parameter) - 1);
  const __m256i fourth = set(3), last = set(7);
  const __m128i quotient_shift = _mm_cvtsi32_si128(static_cast<int>(parameter));
  __m256i rank = iota(), sum = set(offset);
  for (std::size_t k = 0; k < count; k += kLanes) {
    const __m256i packed = _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(remainders + k / kLanes * parameter)));
    __m256i prefix = _mm256_shuffle_epi8(packed, spread);
    prefix = _mm256_and_si256(_mm256_srlv_epi32(prefix, shifts), mask);
    prefix = _mm256_add_epi32(prefix, _mm256_slli_si256(prefix, 4));
    prefix = _mm256_add_epi32(prefix, _mm256_slli_si256(prefix, 8));
    const __m256i of_lower = _mm256_permutevar8x32_epi32(prefix, fourth);
    prefix = _mm256_add_epi32(prefix, _mm256_blend_epi32(_mm256_setzero_si256(), of_lower, 0xF0));
    const __m256i quotients = _mm256_sll_epi32(_mm256_sub_epi32(load(out + k), rank), quotient_shift);
    store(out + k, _mm256_add_epi32(_mm256_add_epi32(quotients, rank), _mm256_add_epi32(prefix, sum)));
    sum = _mm256_add_epi32(sum, _mm256_permutevar8x32_epi32(prefix, last));
    rank = _mm256_add_epi32(rank, set(kLanes));
  }
}

void look_up(const std::byte* codes, std::uint32_t code_bits, std::size_t count, const float* table,
             float* out) {
  const __m256i shifts = _mm256_mullo_epi32(iota(), set(code_bits));
  if (code_bits == 2) {
    const __m256 entries = _mm256_castps128_ps256(_mm_loadu_ps(table));
    const __m256i mask = set(3);
    for (std::size_t k = 0; k < count; k += kLanes) {
      const std::byte* const at = codes + k / 4;
      const auto packed = static_cast<std::uint32_t>(at[0]) | static_cast<std::uint32_t>(at[1]) << 8;
      const __m256i code = _mm256_and_si256(_mm256_srlv_epi32(set(packed), shifts), mask);
      _mm256_storeu_ps(out + k, _mm256_permutevar8x32_ps(entries, code));
    }
    return;
  }
  const __m256 lower = _mm256_loadu_ps(table), upper = _mm256_loadu_ps(table + kLanes);
  for (std::size_t k = 0; k < count; k += kLanes) {
    std::uint32_t packed = 0;
    __builtin_memcpy(&packed, codes + k / 2, sizeof packed);
    const __m256i code = _mm256_srlv_epi32(set(packed), shifts);
    const __m256 is_upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28));
    _mm256_storeu_ps(out + k, _mm256_blendv_ps(_mm256_permutevar8x32_ps(lower, code),
                                               _mm256_permutevar8x32_ps(upper, code), is_upper));
  }
}

constexpr CodecKernels kKernels{"avx2",       accumulate,        collect,      count_from,
                                keep_largest, positions_of_ones, rice_indices, look_up};

}  // namespace

const CodecKernels* avx2_kernels() {
  const bool there = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi") != 0 &&
                     __builtin_cpu_supports("bmi2") != 0 && __builtin_cpu_supports("popcnt") != 0;
  return there ? &kKernels : nullptr;
}

}  // namespace nanduti
#else
namespace nanduti {
const CodecKernels* avx2_kernels() { return nullptr; }
}  // namespace nanduti
#endif
