#pragma once

#include <cstdint>

#include "common/codec/block_layout.h"
#include "common/codec/rice.h"

namespace nanduti {

/// One way to write a group: its entry without scales, and how long its body is.
struct GroupLayout {
  GroupEntry entry;
  std::uint64_t bytes = 0;
};

/// `rice` is read for IndexForm::kRice only.
constexpr GroupLayout layout_of(IndexForm form, ValueCode code, std::uint64_t count, std::uint64_t size,
                                RiceChoice rice) {
  GroupLayout layout;
  layout.entry.count_and_form = static_cast<std::uint32_t>(count) | (static_cast<std::uint32_t>(form) << 24) |
                                (static_cast<std::uint32_t>(code) << 26);
  if (form == IndexForm::kRice)
    layout.entry.unary_and_rice =
        static_cast<std::uint32_t>(bytes_of_bits(rice.unary_bits)) | (rice.parameter << 24);
  layout.bytes = sections_of(layout.entry, size).bytes();
  return layout;
}

/// The shortest form for `count` values of a group of `size`; of equally short ones the one that is faster to
/// read. `rice` is the best choice for their indices. Host and device.
constexpr GroupLayout shortest_layout(std::uint64_t count, std::uint64_t size, ValueCode code,
                                      RiceChoice rice) {
  if (count == 0) return {};
  GroupLayout best = layout_of(IndexForm::kRice, code, count, size, rice);
  const GroupLayout bitmap = layout_of(IndexForm::kBitmap, code, count, size, {});
  if (bitmap.bytes <= best.bytes) best = bitmap;
  // Two bits cannot say 0.
  if (code == ValueCode::kTwoBits && count < size) return best;
  const GroupLayout dense = layout_of(IndexForm::kDense, code, size, size, {});
  return dense.bytes <= best.bytes ? dense : best;
}

}  // namespace nanduti
