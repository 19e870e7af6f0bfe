#include "common/codec/block_payload.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "common/codec/block_layout.h"
#include "common/codec/group_decoder.h"

namespace nanduti {
namespace {

struct DecodedValues {
  std::unique_ptr<std::uint32_t[]> indices;
  std::unique_ptr<float[]> values;
};

Error corrupt(const std::string& what) { return make_error(ErrorCode::kCorrupt, "a coded update: {}", what); }

}  // namespace

GroupEntry OpenedBlockPayload::entry(std::uint64_t index) const {
  GroupEntry entry;
  std::memcpy(&entry, directory.data() + index * sizeof entry, sizeof entry);
  return entry;
}

Result<OpenedBlockPayload> open_block_payload(std::span<const std::byte> payload, std::uint64_t size) {
  PayloadHeader header;
  if (payload.size() < sizeof header) return corrupt("no header");
  std::memcpy(&header, payload.data(), sizeof header);
  if (header.format != kBlockFormat)
    return corrupt(fmt::format("format {}, not {}", header.format, kBlockFormat));
  if (header.zero != 0 || header.group_blocks_log2 > kGroupBlocksLog2Max || size > kCodedValuesMax ||
      header.dense_begin > size)
    return corrupt("a header that cannot be");
  OpenedBlockPayload opened;
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

SharedBytes write_block_payload(const GroupGrid& grid, std::span<const EncodedGroups> parts) {
  PayloadHeader header;
  header.group_blocks_log2 = static_cast<std::uint8_t>(grid.group_blocks_log2);
  header.dense_begin = static_cast<std::uint32_t>(grid.dense_begin);
  std::size_t bytes = sizeof header + grid.count() * sizeof(GroupEntry);
  for (const EncodedGroups& part : parts) bytes += part.bodies.size();
  std::vector<std::byte> payload;
  payload.reserve(bytes);
  const auto append = [&](std::span<const std::byte> more) {
    payload.insert(payload.end(), more.begin(), more.end());
  };
  append(std::as_bytes(std::span(&header, 1)));
  for (const EncodedGroups& part : parts) append(std::as_bytes(std::span(part.directory)));
  for (const EncodedGroups& part : parts) append(part.bodies);
  NANDUTI_CHECK(payload.size() == bytes);
  return SharedBytes::take(std::move(payload));
}

Result<Update> read_block_payload(const SharedBytes& payload, std::uint64_t size,
                                  const CodecKernels& kernels) {
  const Result<OpenedBlockPayload> result = open_block_payload(payload.view(), size);
  if (!result.ok()) return result.error();
  const OpenedBlockPayload& opened = *result;
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
    const Status status = decode_group(entry, place.begin, place.size(), body, kernels,
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
