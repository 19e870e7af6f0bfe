#include "common/codec/group_decoder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "common/codec/quantiser.h"

namespace nanduti {
namespace {

/// Whether the bits from `bit_count` on are zeros.
bool zero_from(std::span<const std::byte> bytes, std::uint64_t bit_count) {
  return bit_count % 8 == 0 || (static_cast<unsigned>(bytes.back()) >> (bit_count % 8)) == 0;
}

std::uint64_t count_ones(std::span<const std::byte> bytes) {
  std::uint64_t ones = 0;
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    ones += static_cast<std::uint64_t>(std::popcount(word));
  }
  for (; at < bytes.size(); ++at)
    ones += static_cast<std::uint64_t>(std::popcount(static_cast<unsigned>(bytes[at])));
  return ones;
}

Error corrupt(const char* what) { return make_error(ErrorCode::kCorrupt, "{}", what); }

Status decode_bitmap(std::uint32_t count, std::uint64_t begin, std::uint64_t size,
                     std::span<const std::byte> bitmap, const CodecKernels& kernels, std::uint32_t* indices) {
  if (count_ones(bitmap) != count || !zero_from(bitmap, size)) return corrupt("a bitmap with other ones");
  kernels.positions_of_ones(bitmap.data(), bitmap.size(), indices);
  for (std::uint32_t k = 0; k < count; ++k) indices[k] += static_cast<std::uint32_t>(begin);
  return {};
}

Status decode_rice(const GroupEntry& entry, std::uint64_t begin, std::uint64_t size,
                   std::span<const std::byte> unary, std::span<const std::byte> remainders,
                   const CodecKernels& kernels, std::uint32_t* indices) {
  const std::uint32_t count = entry.count(), parameter = entry.rice_parameter();
  if (count_ones(unary) != count || unary.back() == std::byte{0})
    return corrupt("a group with another number of indices");
  // Up to here, all sums stay below 2^32: see check_entry.
  const std::uint64_t last =
      8 * unary.size() - 1 -
      static_cast<std::uint64_t>(std::countl_zero(static_cast<std::uint8_t>(unary.back())));
  if (((last + 1 - count) << parameter) >= size || !zero_from(remainders, std::uint64_t{count} * parameter))
    return corrupt("indices beyond their group");
  kernels.positions_of_ones(unary.data(), unary.size(), indices);
  const auto offset = static_cast<std::uint32_t>(begin);
  kernels.rice_indices(remainders.data(), parameter, count, offset, indices);
  if (indices[count - 1] - offset >= size) return corrupt("indices beyond their group");
  return {};
}

Status decode_values(const GroupEntry& entry, std::uint64_t count, std::span<const std::byte> codes,
                     const CodecKernels& kernels, float* values) {
  if (entry.code() == ValueCode::kFloat32) {
    std::memcpy(values, codes.data(), codes.size());
    bool finite = true;
    for (std::uint64_t k = 0; k < count; ++k) finite = finite && std::isfinite(values[k]);
    if (!finite) return corrupt("a payload with NaN or infinity");
    return {};
  }
  const std::uint32_t code_bits = bits_of(entry.code());
  if (!zero_from(codes, count * code_bits)) return corrupt("a group with more values than it says");
  std::array<float, 256> table{};
  fill_value_table(entry.code(), entry.scales, table.data());
  if (entry.code() == ValueCode::kEightBits)
    for (std::uint64_t k = 0; k < count; ++k) values[k] = table[static_cast<std::uint8_t>(codes[k])];
  else
    kernels.look_up(codes.data(), code_bits, count, table.data(), values);
  return {};
}

}  // namespace

Status check_entry(const GroupEntry& entry, std::uint64_t size) {
  const IndexForm form = entry.form();
  const bool good_count = form == IndexForm::kEmpty   ? entry.count_and_form == 0
                          : form == IndexForm::kDense ? entry.count() == size
                                                      : entry.count() > 0 && entry.count() <= size;
  // A larger parameter than this is never the best: one less would take fewer bits. It bounds all sums.
  const bool good_rice =
      form != IndexForm::kRice
          ? entry.unary_and_rice == 0
          : entry.unary_bytes() > 0 && (std::uint64_t{entry.count()} << entry.rice_parameter()) <= 2 * size;
  if (entry.reserved_bits() || !good_count || !good_rice) return corrupt("a group that cannot be");
  constexpr std::uint16_t kInfinity = 0x7F80;
  const bool scaled = form != IndexForm::kEmpty && entry.code() != ValueCode::kFloat32;
  if (!scaled) {
    if (entry.scales[0] != 0 || entry.scales[1] != 0) return corrupt("scales without use");
    return {};
  }
  std::array<float, 256> table{};
  if (entry.scales[0] >= kInfinity || entry.scales[1] >= kInfinity)
    return corrupt("a scale that is not finite");
  fill_value_table(entry.code(), entry.scales, table.data());
  if (!std::isfinite(table[(1u << bits_of(entry.code())) - 1])) return corrupt("a scale that is too large");
  return {};
}

Status decode_group(const GroupEntry& entry, std::uint64_t begin, std::uint64_t size,
                    std::span<const std::byte> body, const CodecKernels& kernels, std::uint32_t* indices,
                    float* values) {
  const GroupSections sections = sections_of(entry, size);
  const auto index_section = body.first(sections.index_bytes);
  const auto remainders = body.subspan(sections.index_bytes, sections.remainder_bytes);
  const auto codes = body.last(sections.value_bytes);
  switch (entry.form()) {
    case IndexForm::kEmpty:
      return {};
    case IndexForm::kDense:
      if (indices != nullptr)
        for (std::uint64_t i = 0; i < size; ++i) indices[i] = static_cast<std::uint32_t>(begin + i);
      return decode_values(entry, size, codes, kernels, values);
    case IndexForm::kBitmap:
      NANDUTI_RETURN_IF_ERROR(decode_bitmap(entry.count(), begin, size, index_section, kernels, indices));
      break;
    case IndexForm::kRice:
      NANDUTI_RETURN_IF_ERROR(decode_rice(entry, begin, size, index_section, remainders, kernels, indices));
      break;
  }
  return decode_values(entry, entry.count(), codes, kernels, values);
}

}  // namespace nanduti
