// Compiled for AVX-512 with VBMI and VBMI2 (Ice Lake, Zen 4). Nothing here may call an inline function of a
// shared header: the linker might keep this file's copy of it for everybody.
#include "common/codec/codec_kernels.h"

#if defined(__AVX512VBMI2__) && defined(__AVX512VBMI__) && defined(__BMI2__)
#include <immintrin.h>

namespace nanduti {
namespace {

constexpr std::size_t kLanes = 16;
__m512i load(const void* at) { return _mm512_loadu_si512(at); }
void store(void* at, __m512i value) { _mm512_storeu_si512(at, value); }
__m512i set(std::uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
__m512i iota() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
std::size_t ones(std::uint32_t mask) { return static_cast<std::size_t>(_mm_popcnt_u32(mask)); }
/// Which of `remaining` > 0 values are there.
__mmask16 lanes_left(std::size_t remaining) {
  return static_cast<__mmask16>(remaining < kLanes ? (1u << remaining) - 1 : 0xFFFFu);
}

std::size_t accumulate(float* residual, const float* progress, std::size_t size, std::uint32_t bin_log2,
                       std::uint32_t* bin_maxima) {
  const __m512i magnitude = set(kMagnitudeBits);
  std::size_t at = 0;
  std::uint32_t* out = bin_maxima;
  for (; at < size; out += kLanes) {
    __m512i maxima = _mm512_setzero_si512();
    const std::size_t end = at + (kLanes << bin_log2);
    for (; at < end && at + kLanes <= size; at += kLanes) {
      __m512 values = _mm512_loadu_ps(residual + at);
      if (progress != nullptr) {
        values = _mm512_add_ps(values, _mm512_loadu_ps(progress + at));
        _mm512_storeu_ps(residual + at, values);
      }
      maxima = _mm512_max_epu32(maxima, _mm512_and_si512(_mm512_castps_si512(values), magnitude));
    }
    if (at < end && at < size) {
      const __mmask16 there = lanes_left(size - at);
      __m512 values = _mm512_maskz_loadu_ps(there, residual + at);
      if (progress != nullptr) {
        values = _mm512_add_ps(values, _mm512_maskz_loadu_ps(there, progress + at));
        _mm512_mask_storeu_ps(residual + at, there, values);
      }
      maxima = _mm512_max_epu32(maxima, _mm512_and_si512(_mm512_castps_si512(values), magnitude));
      at = size;
    }
    store(out, maxima);
  }
  return static_cast<std::size_t>(out - bin_maxima);
}

std::size_t collect(const float* values, const float* progress, std::size_t size, std::uint32_t threshold,
                    Candidates out) {
  const __m512i magnitude = set(kMagnitudeBits), least = set(threshold);
  const float* const next = values + size;
  const float* const next_progress = progress == nullptr ? next : progress + size;
  __m512i index = iota();
  std::size_t count = 0, at = 0;
  const auto append = [&](__m512i bits, __mmask16 there) __attribute__((always_inline)) {
    const __mmask16 found = _mm512_mask_cmpge_epu32_mask(there, _mm512_and_si512(bits, magnitude), least);
    store(out.bits + count, _mm512_maskz_compress_epi32(found, bits));
    store(out.indices + count, _mm512_maskz_compress_epi32(found, index));
    index = _mm512_add_epi32(index, set(kLanes));
    count += ones(found);
  };
  for (; at + kLanes <= size; at += kLanes) {
    _mm_prefetch(next + at, _MM_HINT_T1);
    _mm_prefetch(next_progress + at, _MM_HINT_T1);
    append(load(values + at), 0xFFFF);
  }
  if (at < size)
    append(_mm512_castps_si512(_mm512_maskz_loadu_ps(lanes_left(size - at), values + at)),
           lanes_left(size - at));
  return count;
}

std::size_t count_from(const std::uint32_t* bits, std::size_t count, std::uint32_t least) {
  const __m512i magnitude = set(kMagnitudeBits), limit = set(least);
  const auto reached = [&](std::size_t at, __mmask16 there) __attribute__((always_inline)) {
    return ones(_mm512_mask_cmpge_epu32_mask(there, _mm512_and_si512(load(bits + at), magnitude), limit));
  };
  std::size_t sum = 0, at = 0;
  for (; at + kLanes <= count; at += kLanes) sum += reached(at, 0xFFFF);
  return at < count ? sum + reached(at, lanes_left(count - at)) : sum;
}

void keep_largest(Candidates from, std::size_t count, std::size_t wanted, std::uint32_t magnitude,
                  std::uint32_t offset, std::uint32_t* out_indices, float* out_values) {
  std::size_t equals = wanted - count_from(from.bits, count, magnitude + 1);
  const __m512i magnitudes = set(kMagnitudeBits), limit = set(magnitude), offsets = set(offset);
  std::size_t kept = 0;
  for (std::size_t at = 0; at < count; at += kLanes) {
    const __m512i bits = load(from.bits + at);
    const __m512i key = _mm512_and_si512(bits, magnitudes);
    const __mmask16 left = lanes_left(count - at);
    std::uint32_t equal = _mm512_mask_cmpeq_epu32_mask(left, key, limit);
    if (ones(equal) > equals) equal = _pdep_u32((1u << equals) - 1, equal);
    equals -= ones(equal);
    const auto mask = static_cast<__mmask16>(equal | _mm512_mask_cmpgt_epu32_mask(left, key, limit));
    store(out_values + kept, _mm512_maskz_compress_epi32(mask, bits));
    store(out_indices + kept,
          _mm512_maskz_compress_epi32(mask, _mm512_add_epi32(load(from.indices + at), offsets)));
    kept += ones(mask);
  }
}

void positions_of_ones(const std::byte* bytes, std::size_t byte_count, std::uint32_t* out) {
  alignas(64) std::uint8_t counting[64];
  for (std::uint8_t k = 0; k < 64; ++k) counting[k] = k;
  const __m512i bit_positions = load(counting);
  __m512i base = _mm512_setzero_si512();
  for (std::size_t at = 0; at < byte_count; at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    __builtin_memcpy(&word, bytes + at, sizeof word);
    if (byte_count - at < sizeof word) word = _bzhi_u64(word, static_cast<unsigned>(8 * (byte_count - at)));
    const auto count = static_cast<std::size_t>(_mm_popcnt_u64(word));
    const __m512i found = _mm512_maskz_compress_epi8(word, bit_positions);
    store(out, _mm512_add_epi32(_mm512_cvtepu8_epi32(_mm512_castsi512_si128(found)), base));
    if (count > 16)
      store(out + 16, _mm512_add_epi32(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(found, 1)), base));
    if (count > 32) {
      store(out + 32, _mm512_add_epi32(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(found, 2)), base));
      if (count > 48)
        store(out + 48, _mm512_add_epi32(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(found, 3)), base));
    }
    base = _mm512_add_epi32(base, set(64));
    out += count;
  }
}

void rice_indices(const std::byte* remainders, std::uint32_t parameter, std::size_t count,
                  std::uint32_t offset, std::uint32_t* out) {
  // Sixteen remainders are 2 * `parameter` <= 30 bytes: every vector begins at a whole byte.
  alignas(64) std::uint8_t bytes_of[64];
  alignas(64) std::uint32_t shift_of[kLanes];
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    const std::uint32_t bit = lane * parameter;
    for (std::uint32_t k = 0; k < 4; ++k)
      bytes_of[4 * lane + k] = static_cast<std::uint8_t>((bit / 8 + k) % 32);
    shift_of[lane] = bit % 8;
  }
  const __m512i spread = load(bytes_of), shifts = load(shift_of), mask = set((1u << parameter) - 1);
  const __m512i zero = _mm512_setzero_si512(), last = set(15);
  const __m128i quotient_shift = _mm_cvtsi32_si128(static_cast<int>(parameter));
  __m512i rank = iota(), sum = set(offset);
  for (std::size_t k = 0; k < count; k += kLanes) {
    const __m256i packed =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(remainders + k / 8 * parameter));
    __m512i prefix = _mm512_permutexvar_epi8(spread, _mm512_castsi256_si512(packed));
    prefix = _mm512_and_si512(_mm512_srlv_epi32(prefix, shifts), mask);
    prefix = _mm512_add_epi32(prefix, _mm512_alignr_epi32(prefix, zero, 15));
    prefix = _mm512_add_epi32(prefix, _mm512_alignr_epi32(prefix, zero, 14));
    prefix = _mm512_add_epi32(prefix, _mm512_alignr_epi32(prefix, zero, 12));
    prefix = _mm512_add_epi32(prefix, _mm512_alignr_epi32(prefix, zero, 8));
    const __m512i quotients = _mm512_sll_epi32(_mm512_sub_epi32(load(out + k), rank), quotient_shift);
    store(out + k, _mm512_add_epi32(_mm512_add_epi32(quotients, rank), _mm512_add_epi32(prefix, sum)));
    sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(last, prefix));
    rank = _mm512_add_epi32(rank, set(kLanes));
  }
}

void look_up(const std::byte* codes, std::uint32_t code_bits, std::size_t count, const float* table,
             float* out) {
  // Sixteen codes are one or two words.
  const __m512i bit = _mm512_mullo_epi32(iota(), set(code_bits));
  const __m512i word = _mm512_srli_epi32(bit, 5), shifts = _mm512_and_si512(bit, set(31));
  const __m512i mask = set((1u << code_bits) - 1);
  const __m512 entries = _mm512_maskz_loadu_ps(code_bits == 2 ? 0xF : 0xFFFF, table);
  for (std::size_t k = 0; k < count; k += kLanes) {
    const __m128i packed = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + k / 8 * code_bits));
    const __m512i words = _mm512_permutexvar_epi32(word, _mm512_castsi128_si512(packed));
    const __m512i code = _mm512_and_si512(_mm512_srlv_epi32(words, shifts), mask);
    _mm512_storeu_ps(out + k, _mm512_permutexvar_ps(code, entries));
  }
}

constexpr CodecKernels kKernels{"avx512",     accumulate,        collect,      count_from,
                                keep_largest, positions_of_ones, rice_indices, look_up};

}  // namespace

const CodecKernels* avx512_kernels() {
  const bool there = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                     __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
                     __builtin_cpu_supports("avx512vbmi") != 0 &&
                     __builtin_cpu_supports("avx512vbmi2") != 0 && __builtin_cpu_supports("bmi2") != 0;
  return there ? &kKernels : nullptr;
}

}  // namespace nanduti
#else
namespace nanduti {
const CodecKernels* avx512_kernels() { return nullptr; }
}  // namespace nanduti
#endif
