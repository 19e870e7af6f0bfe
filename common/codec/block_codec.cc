#include "common/codec/block_codec.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <span>

#include "common/base/check.h"
#include "common/codec/block_layout.h"
#include "common/codec/codec_kernels.h"
#include "common/codec/group_decoder.h"
#include "common/codec/group_encoder.h"

namespace nanduti {
namespace {

struct DecodedValues {
  std::unique_ptr<std::uint32_t[]> indices;
  std::unique_ptr<float[]> values;
};

/// Header, directory and bodies behind each other.
SharedBytes assemble(const GroupGrid& grid, const EncodedGroups& groups) {
  PayloadHeader header;
  header.group_blocks_log2 = static_cast<std::uint8_t>(grid.group_blocks_log2);
  header.dense_begin = static_cast<std::uint32_t>(grid.dense_begin);
  const auto directory = std::as_bytes(std::span(groups.directory));
  std::vector<std::byte> payload(sizeof header);
  payload.reserve(sizeof header + directory.size() + groups.bodies.size());
  std::memcpy(payload.data(), &header, sizeof header);
  payload.insert(payload.end(), directory.begin(), directory.end());
  payload.insert(payload.end(), groups.bodies.begin(), groups.bodies.end());
  return SharedBytes::take(std::move(payload));
}

Update update_of(std::uint64_t size, EncodedGroups groups) {
  Update update;
  update.size = size;
  update.dense = std::all_of(groups.directory.begin(), groups.directory.end(),
                             [](const GroupEntry& entry) { return entry.form() == IndexForm::kDense; });
  auto owner = std::make_shared<const EncodedGroups>(std::move(groups));
  if (!update.dense) update.indices = owner->indices;
  update.values = owner->values;
  update.owner = std::move(owner);
  return update;
}

Error corrupt(const std::string& what) { return make_error(ErrorCode::kCorrupt, "a coded update: {}", what); }

/// A payload whose directory is known to fit it.
struct OpenedPayload {
  GroupGrid grid;
  std::span<const std::byte> directory;
  std::span<const std::byte> bodies;
  std::uint64_t value_count = 0;
  bool dense = true;

  [[nodiscard]] GroupEntry entry(std::uint64_t index) const {
    GroupEntry entry;
    std::memcpy(&entry, directory.data() + index * sizeof entry, sizeof entry);
    return entry;
  }
};

Result<OpenedPayload> open(std::span<const std::byte> payload, std::uint64_t size) {
  PayloadHeader header;
  if (payload.size() < sizeof header) return corrupt("no header");
  std::memcpy(&header, payload.data(), sizeof header);
  if (header.format != kBlockFormat)
    return corrupt(fmt::format("format {}, not {}", header.format, kBlockFormat));
  if (header.zero != 0 || header.group_blocks_log2 > kGroupBlocksLog2Max || size > kCodedValuesMax ||
      header.dense_begin > size)
    return corrupt("a header that cannot be");
  OpenedPayload opened;
  opened.grid = {size, header.dense_begin, header.group_blocks_log2};
  const std::uint64_t groups = opened.grid.count();
  if ((payload.size() - sizeof header) / sizeof(GroupEntry) < groups)
    return corrupt("cut off in its directory");
  opened.directory = payload.subspan(sizeof header, groups * sizeof(GroupEntry));
  opened.bodies = payload.subspan(sizeof header + opened.directory.size());
  std::uint64_t bytes = 0;
  for (std::uint64_t index = 0; index < groups; ++index) {
    const GroupEntry entry = opened.entry(index);
    const std::uint64_t group_size = opened.grid.place(index).size();
    if (const Status status = check_entry(entry, group_size); !status.ok())
      return corrupt(status.error().message);
    bytes += sections_of(entry, group_size).bytes();
    opened.value_count += entry.count();
    opened.dense = opened.dense && entry.form() == IndexForm::kDense;
  }
  if (bytes != opened.bodies.size())
    return corrupt(fmt::format("{} bytes where the directory says {}", opened.bodies.size(), bytes));
  return opened;
}

}  // namespace

std::uint64_t selected_per_block(double density, std::uint32_t doublings, std::uint64_t size) {
  constexpr std::uint64_t kDoubledMax = kBlockSize / 4;
  const auto usual = std::clamp(static_cast<std::uint64_t>(density * static_cast<double>(kBlockSize) + 0.5),
                                std::uint64_t{1}, kBlockSize);
  const std::uint64_t whole =
      std::min(std::max(kDoubledMax, usual), usual << std::min<std::uint32_t>(doublings, 12));
  return (whole * size + kBlockSize - 1) / kBlockSize;
}

BlockCodec::BlockCodec(BlockCodecOptions options) : options_(std::move(options)) {
  const std::uint32_t bits = options_.value_bits;
  NANDUTI_CHECK(bits == 2 || bits == 4 || bits == 8 || bits == 32, "{} value bits", bits);
  NANDUTI_CHECK(options_.density > 0 && options_.density <= 1, "density {}", options_.density);
  std::uint64_t end = 0;
  for (const DensityRange& special : options_.densities) {
    NANDUTI_CHECK(special.density > 0 && special.density <= 1, "density {}", special.density);
    NANDUTI_CHECK(special.range.begin >= end && special.range.end >= special.range.begin);
    end = special.range.end;
  }
}

EncodedUpdate BlockCodec::encode(std::span<float> residual, std::span<const float> progress,
                                 const CodingContext& context) const {
  NANDUTI_CHECK(progress.empty() || progress.size() == residual.size());
  NANDUTI_CHECK(residual.size() <= kCodedValuesMax);
  const GroupGrid grid = grid_of(options_, context, residual.size());
  GroupEncoder encoder(options_, context, grid, residual, progress, best_kernels());
  EncodedGroups groups;
  encoder.reserve(0, grid.count(), groups);
  for (std::uint64_t index = 0; index < grid.count(); ++index) encoder.encode(index, groups);
  SharedBytes payload = assemble(grid, groups);
  return {std::move(payload), update_of(residual.size(), std::move(groups))};
}

Result<Update> BlockCodec::decode(const SharedBytes& payload, std::uint64_t size) const {
  const Result<OpenedPayload> result = open(payload.view(), size);
  if (!result.ok()) return result.error();
  const OpenedPayload& opened = *result;
  const std::size_t room = opened.value_count + kKernelSlack;
  auto decoded = std::make_shared<DecodedValues>();
  decoded->values = std::make_unique_for_overwrite<float[]>(room);
  if (!opened.dense) decoded->indices = std::make_unique_for_overwrite<std::uint32_t[]>(room);

  std::vector<std::byte> padded;
  std::size_t read = 0, written = 0;
  for (std::uint64_t index = 0; index < opened.grid.count(); ++index) {
    const GroupEntry entry = opened.entry(index);
    const ParameterRange place = opened.grid.place(index);
    const std::size_t bytes = sections_of(entry, place.size()).bytes();
    auto body = opened.bodies.subspan(read, bytes);
    if (opened.bodies.size() - read - bytes < kKernelSlackBytes && bytes > 0) {
      padded.assign(body.begin(), body.end());
      padded.resize(bytes + kKernelSlackBytes);
      body = std::span<const std::byte>(padded).first(bytes);
    }
    const Status status = decode_group(entry, place.begin, place.size(), body, best_kernels(),
                                       opened.dense ? nullptr : decoded->indices.get() + written,
                                       decoded->values.get() + written);
    if (!status.ok()) return corrupt(status.error().message);
    read += bytes;
    written += entry.count();
  }
  Update update;
  update.size = size;
  update.dense = opened.dense;
  if (!update.dense) update.indices = {decoded->indices.get(), written};
  update.values = {decoded->values.get(), written};
  update.owner = std::move(decoded);
  return update;
}

}  // namespace nanduti
