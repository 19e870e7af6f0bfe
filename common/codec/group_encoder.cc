#include "common/codec/group_encoder.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "common/base/check.h"
#include "common/codec/bit_packing.h"
#include "common/codec/group_layout.h"
#include "common/codec/rice.h"

namespace nanduti {
namespace {

/// What is best for the values selected.
GroupLayout best_layout(std::span<const std::uint32_t> indices, std::uint64_t size, ValueCode code) {
  return shortest_layout(indices.size(), size, code, indices.empty() ? RiceChoice() : choose_rice(indices));
}

/// Moves the values to their places among `size`; zeros go between them, whose code is 0 too.
void spread(std::span<const std::uint32_t> indices, std::uint64_t size, QuantisedValues& values) {
  values.codes.resize(size);
  values.sent.resize(size);
  // From behind: a place is never before where the value stands.
  for (std::size_t k = indices.size(); k-- > 0;) {
    const std::uint32_t code = std::exchange(values.codes[k], 0);
    const float sent = std::exchange(values.sent[k], 0.0f);
    values.codes[indices[k]] = code;
    values.sent[indices[k]] = sent;
  }
}

template <class Body>
void for_each_block(const ParameterRange& place, Body body) {
  for (std::uint64_t begin = place.begin; begin < place.end; begin += kBlockSize)
    body(begin, std::min(kBlockSize, place.end - begin));
}

}  // namespace

GroupEncoder::GroupEncoder(const EncodingPlan& plan, std::span<float> residual,
                           std::span<const float> progress, const CodecKernels& kernels)
    : plan_(plan), residual_(residual), progress_(progress), selector_(kernels) {}

void GroupEncoder::select(std::uint64_t index, Amount amount, Accumulate accumulate) {
  const ParameterRange place = plan_.grid().place(index);
  selection_.reset(amount == Amount::kAll ? place.size() : plan_.allowed(index));
  for_each_block(place, [&](std::uint64_t begin, std::uint64_t size) {
    const float* const progress =
        accumulate == Accumulate::kDone || progress_.empty() ? nullptr : progress_.data() + begin;
    selector_.select(residual_.subspan(begin, size), progress,
                     amount == Amount::kAll ? size : plan_.allowed_in_block(index, begin, size),
                     static_cast<std::uint32_t>(begin - place.begin), selection_);
  });
}

ValueCode GroupEncoder::choose_code(std::uint64_t index) const {
  constexpr std::uint32_t kInfinity = 0x7F800000;
  for (std::size_t i = 0; i < selection_.count; ++i)
    if ((std::bit_cast<std::uint32_t>(selection_.values[i]) & kMagnitudeBits) >= kInfinity)
      return ValueCode::kFloat32;
  return plan_.usual_code(index);
}

void GroupEncoder::reserve(std::uint64_t begin, std::uint64_t end, EncodedGroups& out) const {
  std::uint64_t values = 0, bits = 0;
  for (std::uint64_t index = begin; index < end; ++index) {
    values += plan_.allowed(index);
    bits += plan_.usual_bits(index, plan_.usual_code(index));
  }
  out.directory.reserve(end - begin);
  out.indices.reserve(values);
  out.values.reserve(values);
  out.bodies.reserve(bytes_of_bits(bits));
}

void GroupEncoder::encode(std::uint64_t index, EncodedGroups& out) {
  const ParameterRange place = plan_.grid().place(index);
  select(index, Amount::kAllowed, Accumulate::kDue);
  ValueCode code = choose_code(index);
  const std::uint64_t usual = plan_.usual_bits(index, code);
  if (code != ValueCode::kFloat32 && selection_.count * bits_of(ValueCode::kFloat32) <= usual) {
    // So few that all may be within what is usual, exactly.
    const std::size_t selected = selection_.count;
    select(index, Amount::kAll, Accumulate::kDone);
    const std::span<const std::uint32_t> all(selection_.indices.data(), selection_.count);
    if (8 * best_layout(all, place.size(), ValueCode::kFloat32).bytes <= usual)
      code = ValueCode::kFloat32;
    else if (selection_.count > selected)
      select(index, Amount::kAllowed, Accumulate::kDone);
  }
  append(place, code, out);
}

void GroupEncoder::append(const ParameterRange& place, ValueCode code, EncodedGroups& out) {
  const std::span<const std::uint32_t> indices(selection_.indices.data(), selection_.count);
  const std::span<const float> values(selection_.values.data(), selection_.count);
  GroupEntry entry = best_layout(indices, place.size(), code).entry;
  const GroupSections sections = sections_of(entry, place.size());
  quantise(values, code, entry.form() == IndexForm::kDense, quantised_);
  entry.scales[0] = quantised_.scales[0];
  entry.scales[1] = quantised_.scales[1];
  out.directory.push_back(entry);

  float* const group = residual_.data() + place.begin;
  for (std::size_t k = 0; k < indices.size(); ++k) group[indices[k]] = values[k] - quantised_.sent[k];

  const std::size_t body_begin = out.bodies.size();
  out.bodies.resize(body_begin + sections.bytes());
  std::byte* const index_section = out.bodies.data() + body_begin;
  if (entry.form() == IndexForm::kRice)
    write_rice(indices, entry.rice_parameter(), index_section, index_section + sections.index_bytes);
  if (entry.form() == IndexForm::kBitmap)
    for (const std::uint32_t index : indices) set_bit(index_section, index);
  const std::size_t first = out.indices.size();
  if (entry.form() == IndexForm::kDense) {
    spread(indices, place.size(), quantised_);
    out.indices.resize(first + place.size());
    std::iota(out.indices.begin() + static_cast<std::ptrdiff_t>(first), out.indices.end(), 0u);
  } else {
    out.indices.insert(out.indices.end(), indices.begin(), indices.end());
  }
  for (std::size_t k = first; k < out.indices.size(); ++k)
    out.indices[k] += static_cast<std::uint32_t>(place.begin);
  pack_codes(quantised_.codes, bits_of(code),
             index_section + sections.index_bytes + sections.remainder_bytes);
  out.values.insert(out.values.end(), quantised_.sent.begin(), quantised_.sent.end());
}

}  // namespace nanduti
