#include "common/codec/group_encoder.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "common/base/check.h"
#include "common/codec/bit_packing.h"
#include "common/codec/rice.h"

namespace nanduti {
namespace {

/// A header of 12 bytes among so many values is less than a tenth of a bit for each.
constexpr std::uint64_t kGroupValuesMin = 1200;

ValueCode code_of_bits(std::uint32_t bits) {
  for (const ValueCode code : {ValueCode::kTwoBits, ValueCode::kFourBits, ValueCode::kEightBits})
    if (bits_of(code) == bits) return code;
  return ValueCode::kFloat32;
}

/// Header and body sizes of one way to write a group.
struct Layout {
  GroupEntry entry;
  std::uint64_t bytes = 0;
};

Layout layout_of(IndexForm form, ValueCode code, std::uint64_t count, std::uint64_t size, RiceChoice rice) {
  Layout layout;
  layout.entry.count_and_form = static_cast<std::uint32_t>(count) | (static_cast<std::uint32_t>(form) << 24) |
                                (static_cast<std::uint32_t>(code) << 26);
  if (form == IndexForm::kRice)
    layout.entry.unary_and_rice =
        static_cast<std::uint32_t>(bytes_of_bits(rice.unary_bits)) | (rice.parameter << 24);
  layout.bytes = sections_of(layout.entry, size).bytes();
  return layout;
}

/// The shortest form; of equally short ones the one that is faster to read.
Layout shortest_layout(std::span<const std::uint32_t> indices, std::uint64_t size, ValueCode code) {
  if (indices.empty()) return {};
  const std::uint64_t count = indices.size();
  Layout best = layout_of(IndexForm::kRice, code, count, size, choose_rice(indices));
  const Layout bitmap = layout_of(IndexForm::kBitmap, code, count, size, {});
  if (bitmap.bytes <= best.bytes) best = bitmap;
  // Two bits cannot say 0.
  if (code == ValueCode::kTwoBits && count < size) return best;
  const Layout dense = layout_of(IndexForm::kDense, code, size, size, {});
  return dense.bytes <= best.bytes ? dense : best;
}

/// What a group takes that has as many values to send as it may.
std::uint64_t usual_bits(std::uint64_t size, std::uint64_t allowed, ValueCode code) {
  const std::uint64_t index_bits = allowed == size ? 0 : std::min(size, rice_bits_max(size, allowed));
  return allowed * bits_of(code) + index_bits;
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

GroupGrid grid_of(const BlockCodecOptions& options, const CodingContext& context, std::uint64_t size) {
  GroupGrid grid;
  grid.size = size;
  grid.dense_begin = options.dense_segment_begin < context.begin
                         ? 0
                         : std::min(size, options.dense_segment_begin - context.begin);
  const std::uint64_t selected =
      selected_per_block(options.density, warmup_doublings(options, context.epochs_done), kBlockSize);
  while (grid.group_blocks_log2 < kGroupBlocksLog2Max &&
         (selected << grid.group_blocks_log2) < kGroupValuesMin)
    ++grid.group_blocks_log2;
  return grid;
}

GroupEncoder::GroupEncoder(const BlockCodecOptions& options, const CodingContext& context,
                           const GroupGrid& grid, std::span<float> residual, std::span<const float> progress,
                           const CodecKernels& kernels)
    : options_(options),
      context_(context),
      grid_(grid),
      residual_(residual),
      progress_(progress),
      selector_(kernels) {}

double GroupEncoder::density_at(std::uint64_t position) const {
  const std::uint64_t parameter = context_.begin + position;
  for (const DensityRange& special : options_.densities)
    if (special.range.begin <= parameter && parameter < special.range.end) return special.density;
  return options_.density;
}

GroupEncoder::Amount GroupEncoder::amount_of(std::uint64_t index) const {
  return index < grid_.sparse_count() ? Amount::kDensity : Amount::kAll;
}

std::uint64_t GroupEncoder::allowed(const ParameterRange& place, Amount amount) const {
  if (amount == Amount::kAll) return place.size();
  const std::uint32_t doublings = warmup_doublings(options_, context_.epochs_done);
  std::uint64_t sum = 0;
  for_each_block(place, [&](std::uint64_t begin, std::uint64_t size) {
    sum += selected_per_block(density_at(begin), doublings, size);
  });
  return sum;
}

void GroupEncoder::select(const ParameterRange& place, Amount amount, Accumulate accumulate) {
  selection_.reset(allowed(place, amount));
  for_each_block(place, [&](std::uint64_t begin, std::uint64_t size) {
    const float* const progress =
        accumulate == Accumulate::kDone || progress_.empty() ? nullptr : progress_.data() + begin;
    selector_.select(residual_.subspan(begin, size), progress, allowed({begin, begin + size}, amount),
                     static_cast<std::uint32_t>(begin - place.begin), selection_);
  });
}

ValueCode GroupEncoder::choose_code(Amount amount) const {
  constexpr std::uint32_t kInfinity = 0x7F800000;
  for (std::size_t i = 0; i < selection_.count; ++i)
    if ((std::bit_cast<std::uint32_t>(selection_.values[i]) & kMagnitudeBits) >= kInfinity)
      return ValueCode::kFloat32;
  return amount == Amount::kAll ? ValueCode::kEightBits : code_of_bits(options_.value_bits);
}

void GroupEncoder::reserve(std::uint64_t begin, std::uint64_t end, EncodedGroups& out) const {
  std::uint64_t values = 0, bits = 0;
  for (std::uint64_t index = begin; index < end; ++index) {
    const ParameterRange place = grid_.place(index);
    const std::uint64_t most = allowed(place, amount_of(index));
    values += most;
    bits += usual_bits(place.size(), most, code_of_bits(options_.value_bits));
  }
  out.directory.reserve(end - begin);
  out.indices.reserve(values);
  out.values.reserve(values);
  out.bodies.reserve(bytes_of_bits(bits));
}

void GroupEncoder::encode(std::uint64_t index, EncodedGroups& out) {
  const ParameterRange place = grid_.place(index);
  const Amount amount = amount_of(index);
  const std::uint64_t most = allowed(place, amount);
  select(place, amount, Accumulate::kDue);
  ValueCode code = choose_code(amount);
  const std::uint64_t usual = usual_bits(place.size(), most, code);
  if (code != ValueCode::kFloat32 && selection_.count * bits_of(ValueCode::kFloat32) <= usual) {
    // So few that all may be within what is usual, exactly.
    const std::size_t selected = selection_.count;
    select(place, Amount::kAll, Accumulate::kDone);
    const std::span<const std::uint32_t> all(selection_.indices.data(), selection_.count);
    if (8 * shortest_layout(all, place.size(), ValueCode::kFloat32).bytes <= usual)
      code = ValueCode::kFloat32;
    else if (selection_.count > selected)
      select(place, amount, Accumulate::kDone);
  }
  append(place, code, out);
}

void GroupEncoder::append(const ParameterRange& place, ValueCode code, EncodedGroups& out) {
  const std::span<const std::uint32_t> indices(selection_.indices.data(), selection_.count);
  const std::span<const float> values(selection_.values.data(), selection_.count);
  GroupEntry entry = shortest_layout(indices, place.size(), code).entry;
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
