#include "cuda/codec/device_codec.h"

#include <algorithm>
#include <span>
#include <utility>

#include "common/base/check.h"
#include "common/codec/block_payload.h"

namespace nanduti {
namespace {

/// So many blocks of threads keep a device busy that clears memory.
constexpr std::uint64_t kClearingBlocksMax = 256;

/// No body is longer: it could be a bitmap with float32 values.
std::uint64_t body_bytes_max(std::uint64_t size, std::uint64_t allowed) {
  return bytes_of_bits(size) + allowed * sizeof(float);
}

/// A field that ends with the payload may be read with the word behind it.
std::size_t room_for(std::size_t payload_bytes) { return (payload_bytes + 3) / 4 * 4 + 4; }

/// What an encoder knows before it has seen a value, as the kernels read it.
struct PlanTables {
  std::vector<unsigned> wanted, slots;
  std::vector<device::PlannedGroup> groups;
  std::uint64_t values_max = 0;
  std::uint64_t payload_bytes_max = 0;
};

PlanTables tables_of(const EncodingPlan& plan) {
  PlanTables tables;
  const GroupGrid& grid = plan.grid();
  tables.payload_bytes_max = sizeof(PayloadHeader) + grid.count() * sizeof(GroupEntry);
  for (std::uint64_t group = 0; group < grid.count(); ++group) {
    const ParameterRange place = grid.place(group);
    device::PlannedGroup planned{};
    planned.begin = static_cast<unsigned>(place.begin);
    planned.size = static_cast<unsigned>(place.size());
    planned.first_block = static_cast<unsigned>(tables.wanted.size());
    planned.slot = static_cast<unsigned>(tables.values_max);
    for (std::uint64_t begin = place.begin; begin < place.end; begin += kBlockSize) {
      const std::uint64_t wanted =
          plan.allowed_in_block(group, begin, std::min(kBlockSize, place.end - begin));
      tables.wanted.push_back(static_cast<unsigned>(wanted));
      tables.slots.push_back(static_cast<unsigned>(tables.values_max));
      tables.values_max += wanted;
    }
    planned.blocks = static_cast<unsigned>(tables.wanted.size()) - planned.first_block;
    const ValueCode code = plan.usual_code(group);
    const std::uint64_t usual_bits = plan.usual_bits(group, code), allowed = tables.values_max - planned.slot;
    // What goes without loss has room in the list as well.
    NANDUTI_CHECK(code == ValueCode::kFloat32 || usual_bits / bits_of(ValueCode::kFloat32) <= allowed);
    planned.usual_bits = static_cast<unsigned>(usual_bits);
    planned.usual_code = static_cast<unsigned>(code);
    tables.groups.push_back(planned);
    tables.payload_bytes_max += body_bytes_max(place.size(), allowed);
  }
  return tables;
}

}  // namespace

DeviceCodec::DeviceCodec(BlockCodecOptions options, cudaStream_t stream, device::Form form)
    : options_(std::move(options)), stream_(stream), form_(form) {}

Status DeviceCodec::prepare(const PlanKey& key, const CodingContext& context) {
  if (planned_ && planned_->key == key) return {};
  planned_.reset();
  NANDUTI_RETURN_IF_ERROR(
      cuda_status(cudaStreamSynchronize(stream_), "waiting for what uses the plan before"));
  const EncodingPlan plan(options_, context, key.size);
  const GroupGrid& grid = plan.grid();
  NANDUTI_CHECK(grid.dense_begin % kBlockSize == 0 || grid.dense_begin == grid.size,
                "a dense segment from {} on", grid.dense_begin);
  const PlanTables tables = tables_of(plan);
  const StreamWait wait(stream_);
  const auto blocks = static_cast<unsigned>(tables.wanted.size());
  const auto groups = static_cast<unsigned>(tables.groups.size());
  NANDUTI_RETURN_IF_ERROR(wanted_.upload(tables.wanted, stream_));
  NANDUTI_RETURN_IF_ERROR(slots_.upload(tables.slots, stream_));
  NANDUTI_RETURN_IF_ERROR(groups_.upload(tables.groups, stream_));
  NANDUTI_RETURN_IF_ERROR(selected_.reserve(blocks));
  NANDUTI_RETURN_IF_ERROR(nonzeros_.reserve(blocks));
  for (DeviceBuffer<unsigned>* indices : {&block_indices_, &sent_indices_})
    NANDUTI_RETURN_IF_ERROR(indices->reserve(tables.values_max));
  for (DeviceBuffer<float>* values : {&block_values_, &sent_values_})
    NANDUTI_RETURN_IF_ERROR(values->reserve(tables.values_max));
  NANDUTI_RETURN_IF_ERROR(shaped_.reserve(groups));
  NANDUTI_RETURN_IF_ERROR(bodies_.reserve(groups));
  NANDUTI_RETURN_IF_ERROR(payload_bytes_.reserve(1));
  // Sixteen bytes are cleared at a time.
  NANDUTI_RETURN_IF_ERROR(payload_words_.reserve((tables.payload_bytes_max + 15) / 16 * 4));
  // The tables are gone when this returns.
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "preparing to encode"));
  const std::uint64_t fours_per_block = device::kFoursPerClearingBlock;
  planned_ = Planned{key, {}, blocks, groups, 0, tables.payload_bytes_max};
  planned_->clearing_blocks = static_cast<unsigned>(
      std::min(kClearingBlocksMax, (tables.payload_bytes_max / 16 + fours_per_block) / fours_per_block));
  planned_->header.group_blocks_log2 = static_cast<std::uint8_t>(grid.group_blocks_log2);
  planned_->header.dense_begin = static_cast<std::uint32_t>(grid.dense_begin);
  return {};
}

Result<SharedBytes> DeviceCodec::encode(const DeviceValues& residual, const float* progress,
                                        const CodingContext& context) {
  NANDUTI_CHECK(residual.size <= kCodedValuesMax);
  if (residual.size == 0) return write_block_payload(EncodingPlan(options_, context, 0).grid(), {});
  const PlanKey key{residual.size, context.begin, warmup_doublings(options_, context.epochs_done)};
  NANDUTI_RETURN_IF_ERROR(prepare(key, context));
  std::uint64_t bytes = 0;
  std::vector<unsigned> words;
  const StreamWait wait(stream_);
  const device::Candidates candidates{slots_.data(), block_indices_.data(), block_values_.data(),
                                      selected_.data(), nonzeros_.data()};
  const device::SentList sent{sent_indices_.data(), sent_values_.data()};
  const device::Payload payload{payload_words_.data(), bodies_.data(), payload_bytes_.data()};
  const unsigned blocks = planned_->blocks, groups = planned_->groups;
  const device::SelectArguments select{residual.data, progress, residual.size, wanted_.data(), candidates};
  NANDUTI_RETURN_IF_ERROR(cuda_status(device::select(select, blocks, form_, stream_), "selecting values"));
  const device::ShapeArguments shape{residual.data, groups_.data(), candidates, sent, shaped_.data()};
  NANDUTI_RETURN_IF_ERROR(cuda_status(device::shape_groups(shape, groups, form_, stream_), "shaping groups"));
  NANDUTI_RETURN_IF_ERROR(
      cuda_status(device::place_groups(shaped_.data(), groups, payload, form_, stream_), "placing groups"));
  NANDUTI_RETURN_IF_ERROR(cuda_status(
      device::clear_payload(payload, planned_->clearing_blocks, form_, stream_), "clearing a payload"));
  const device::WriteArguments write{residual.data, groups_.data(), shaped_.data(),  sent,
                                     payload,       groups,         planned_->header};
  NANDUTI_RETURN_IF_ERROR(cuda_status(device::write_groups(write, form_, stream_), "writing a payload"));

  NANDUTI_RETURN_IF_ERROR(payload_bytes_.download({&bytes, 1}, stream_));
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "encoding"));
  if (bytes > planned_->payload_bytes_max)
    return make_error(ErrorCode::kUnavailable, "the device says that it has made a payload of {} bytes",
                      bytes);
  encoded_bytes_ = bytes;
  words.resize((bytes + 3) / 4);
  NANDUTI_RETURN_IF_ERROR(payload_words_.download(words, stream_));
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "copying a payload"));
  return SharedBytes::take(std::move(words)).slice(0, bytes);
}

Status DeviceCodec::merge(const SharedBytes& payload, const DeviceValues& target, float factor) {
  const Result<OpenedBlockPayload> opened = open_block_payload(payload.view(), target.size);
  if (!opened.ok()) return opened.error();
  const GroupGrid& grid = opened->grid;
  std::vector<device::CodedGroup> groups(grid.count());
  auto body = static_cast<std::uint64_t>(opened->bodies.data() - payload.data());
  for (std::uint64_t index = 0; index < groups.size(); ++index) {
    const ParameterRange place = grid.place(index);
    device::CodedGroup& group = groups[index];
    group = {opened->entry(index), static_cast<unsigned>(place.begin), static_cast<unsigned>(place.size()), 0,
             body};
    body += sections_of(group.entry, place.size()).bytes();
  }
  unsigned failed = 0;
  const StreamWait wait(stream_);
  NANDUTI_RETURN_IF_ERROR(received_.bytes.clear(room_for(payload.size()), stream_));
  NANDUTI_RETURN_IF_ERROR(received_.bytes.upload(payload.view(), stream_));
  NANDUTI_RETURN_IF_ERROR(received_.groups.upload(groups, stream_));
  received_.group_count = static_cast<unsigned>(groups.size());
  NANDUTI_RETURN_IF_ERROR(failed_.clear(1, stream_));
  NANDUTI_RETURN_IF_ERROR(cuda_status(
      device::check_groups(merge_of(received_, target, factor), received_.group_count, form_, stream_),
      "checking a payload"));
  NANDUTI_RETURN_IF_ERROR(launch_merge(received_, target, factor));
  NANDUTI_RETURN_IF_ERROR(failed_.download({&failed, 1}, stream_));
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "merging"));
  if (failed == 0) return {};
  // What exactly is wrong, the host says.
  const Result<Update> update = read_block_payload(payload, target.size, plain_kernels());
  if (update.ok())
    return make_error(ErrorCode::kUnavailable, "the device refuses a payload that the host takes");
  return update.error();
}

Status DeviceCodec::keep(DevicePayload& to) {
  NANDUTI_CHECK(planned_ && encoded_bytes_ > 0);
  const std::size_t words = (encoded_bytes_ + 3) / 4;
  NANDUTI_RETURN_IF_ERROR(to.bytes.reserve(room_for(encoded_bytes_)));
  NANDUTI_RETURN_IF_ERROR(cuda_status(
      cudaMemcpyAsync(to.bytes.data(), payload_words_.data(), words * 4, cudaMemcpyDeviceToDevice, stream_),
      "keeping a payload"));
  NANDUTI_RETURN_IF_ERROR(
      cuda_status(cudaMemsetAsync(to.bytes.data() + words * 4, 0, 4, stream_), "keeping a payload"));
  NANDUTI_RETURN_IF_ERROR(to.groups.reserve(planned_->groups));
  to.group_count = planned_->groups;
  return cuda_status(device::list_groups(groups_.data(), shaped_.data(), bodies_.data(), to.groups.data(),
                                         to.group_count, stream_),
                     "keeping a payload");
}

Status DeviceCodec::add(const DevicePayload& payload, const DeviceValues& target, float factor) {
  NANDUTI_RETURN_IF_ERROR(failed_.clear(1, stream_));
  return launch_merge(payload, target, factor);
}

device::MergeArguments DeviceCodec::merge_of(const DevicePayload& payload, const DeviceValues& target,
                                             float factor) const {
  return {reinterpret_cast<const unsigned*>(payload.bytes.data()), payload.groups.data(), failed_.data(),
          target.data, factor};
}

/// Does nothing if failed_ is set.
Status DeviceCodec::launch_merge(const DevicePayload& payload, const DeviceValues& target, float factor) {
  return cuda_status(
      device::merge_groups(merge_of(payload, target, factor), payload.group_count, form_, stream_),
      "merging a payload");
}

}  // namespace nanduti
