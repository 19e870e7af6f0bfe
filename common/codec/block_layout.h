#pragma once

#include <cstddef>
#include <cstdint>

#include "common/tensor/parameter_range.h"

/// The bytes of Coding::kBlocks. common/codec/README.md has the table; a change there is a new kBlockFormat.
namespace nanduti {

inline constexpr std::uint8_t kBlockFormat = 1;

/// A sparse group has at most 2^8 blocks, a group of the dense segment has one.
inline constexpr std::uint32_t kGroupBlocksLog2Max = 8;
inline constexpr std::uint32_t kRiceParameterMax = 15;
/// Indices of an Update have 32 bits.
inline constexpr std::uint64_t kCodedValuesMax = (std::uint64_t{1} << 32) - 1;

struct PayloadHeader {
  std::uint8_t format = kBlockFormat;
  std::uint8_t group_blocks_log2 = 0;
  std::uint16_t zero = 0;
  std::uint32_t dense_begin = 0;  ///< first value of the dense segment; the number of values if there is none
};
static_assert(sizeof(PayloadHeader) == 8);

/// How a group says which of its values are sent.
enum class IndexForm : std::uint8_t {
  kEmpty = 0,   ///< none
  kDense = 1,   ///< all
  kBitmap = 2,  ///< a bit for each
  kRice = 3,    ///< Rice codes of the gaps between them
};

/// How a value is written. Magnitudes of 2, 4 and 8 bits are relative to the two scales of the group.
enum class ValueCode : std::uint8_t {
  kTwoBits = 0,    ///< sign; the first scale or the second
  kFourBits = 1,   ///< sign; first scale + 0 to 7 times the second
  kEightBits = 2,  ///< sign; first scale + 0 to 127 times the second
  kFloat32 = 3,    ///< exact
};

[[nodiscard]] constexpr std::uint32_t bits_of(ValueCode code) {
  return code == ValueCode::kFloat32 ? 32 : 2u << static_cast<unsigned>(code);
}

/// One group in the directory: everything that the sizes of its sections depend on.
struct GroupEntry {
  std::uint32_t count_and_form = 0;  ///< bits 0-23: values sent; 24-25: IndexForm; 26-27: ValueCode; 28-31: 0
  std::uint32_t unary_and_rice = 0;  ///< bits 0-23: bytes of unary quotients; 24-27: Rice parameter; 28-31: 0
  std::uint16_t scales[2] = {0, 0};  ///< upper halves of float32

  [[nodiscard]] constexpr std::uint32_t count() const { return count_and_form & 0xFFFFFF; }
  [[nodiscard]] constexpr IndexForm form() const {
    return static_cast<IndexForm>((count_and_form >> 24) & 3);
  }
  [[nodiscard]] constexpr ValueCode code() const {
    return static_cast<ValueCode>((count_and_form >> 26) & 3);
  }
  [[nodiscard]] constexpr std::uint32_t unary_bytes() const { return unary_and_rice & 0xFFFFFF; }
  [[nodiscard]] constexpr std::uint32_t rice_parameter() const { return (unary_and_rice >> 24) & 15; }
  [[nodiscard]] bool reserved_bits() const { return ((count_and_form | unary_and_rice) >> 28) != 0; }
};
static_assert(sizeof(GroupEntry) == 12);

[[nodiscard]] constexpr std::uint64_t bytes_of_bits(std::uint64_t bits) { return (bits + 7) / 8; }

/// The sections of a group's body, in their order.
struct GroupSections {
  std::uint64_t index_bytes = 0;      ///< bitmap, or unary quotients
  std::uint64_t remainder_bytes = 0;  ///< of Rice codes
  std::uint64_t value_bytes = 0;
  [[nodiscard]] constexpr std::uint64_t bytes() const { return index_bytes + remainder_bytes + value_bytes; }
};

/// Of a group with `size` positions.
[[nodiscard]] constexpr GroupSections sections_of(const GroupEntry& entry, std::uint64_t size) {
  GroupSections sections;
  const std::uint64_t count = entry.form() == IndexForm::kDense ? size : entry.count();
  sections.value_bytes = bytes_of_bits(count * bits_of(entry.code()));
  if (entry.form() == IndexForm::kBitmap) sections.index_bytes = bytes_of_bits(size);
  if (entry.form() == IndexForm::kRice) {
    sections.index_bytes = entry.unary_bytes();
    sections.remainder_bytes = bytes_of_bits(count * entry.rice_parameter());
  }
  return sections;
}

/// How `size` values are cut into groups: runs of 2^group_blocks_log2 blocks up to dense_begin, then single
/// blocks; the last of each kind may be shorter.
struct GroupGrid {
  std::uint64_t size = 0;
  std::uint64_t dense_begin = 0;
  std::uint32_t group_blocks_log2 = 0;

  [[nodiscard]] std::uint64_t group_size() const { return kBlockSize << group_blocks_log2; }
  [[nodiscard]] std::uint64_t sparse_count() const { return (dense_begin + group_size() - 1) / group_size(); }
  [[nodiscard]] std::uint64_t count() const {
    return sparse_count() + (size - dense_begin + kBlockSize - 1) / kBlockSize;
  }
  /// The values of group `index`.
  [[nodiscard]] ParameterRange place(std::uint64_t index) const {
    const bool sparse = index < sparse_count();
    const std::uint64_t length = sparse ? group_size() : kBlockSize;
    const std::uint64_t begin = sparse ? index * length : dense_begin + (index - sparse_count()) * length;
    const std::uint64_t limit = sparse ? dense_begin : size;
    return {begin, begin + length < limit ? begin + length : limit};
  }
};

}  // namespace nanduti
