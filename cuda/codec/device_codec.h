#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/codec/block_codec.h"
#include "common/codec/encoding_plan.h"
#include "cuda/codec/kernels.h"
#include "cuda/runtime/device_buffer.h"

namespace nanduti {

/// Values on a device.
struct DeviceValues {
  float* data = nullptr;
  std::uint64_t size = 0;
};

/// A payload on a device, whose header, directory and bodies have been checked, or made here.
struct DevicePayload {
  DeviceBuffer<std::byte> bytes;  ///< ends with a word of zeros
  DeviceBuffer<device::CodedGroup> groups;
  unsigned group_count = 0;
};

/// What BlockCodec does, on a device and byte for byte the same, for values that lie there: one shard's. Its
/// work goes to one stream; calls wait for its end where nothing else is said. One thread.
class DeviceCodec {
 public:
  /// Precondition: options are within their bounds, the dense segment begins a block. `form`: kFast, but in
  /// tests.
  DeviceCodec(BlockCodecOptions options, cudaStream_t stream, device::Form form = device::Form::kFast);

  /// Error feedback, as Codec::encode(). `residual` is aligned to 16 bytes, and so is `progress`, of as many
  /// values or null: nothing. Errors: kUnavailable, and the residual is anything then.
  Result<SharedBytes> encode(const DeviceValues& residual, const float* progress,
                             const CodingContext& context);

  /// target += factor * what the payload says, each product and sum rounded by itself. Errors: kCorrupt as
  /// Codec::decode(), and nothing is added then; kUnavailable.
  Status merge(const SharedBytes& payload, const DeviceValues& target, float factor);

  /// Copies what encode() has made last; nobody waits. Nothing that uses `to` is under way.
  Status keep(DevicePayload& to);
  /// target += factor * what keep() has copied, of as many values, as merge(); nobody waits.
  Status add(const DevicePayload& payload, const DeviceValues& target, float factor);

 private:
  /// What tells one plan from another.
  struct PlanKey {
    std::uint64_t size = 0;
    std::uint64_t begin = 0;
    std::uint32_t doublings = 0;
    friend bool operator==(const PlanKey&, const PlanKey&) = default;
  };
  /// On the device, for all updates of one plan.
  struct Planned {
    PlanKey key;
    PayloadHeader header;
    unsigned blocks = 0;
    unsigned groups = 0;
    unsigned clearing_blocks = 1;
    std::uint64_t payload_bytes_max = 0;
  };

  Status prepare(const PlanKey& key, const CodingContext& context);
  [[nodiscard]] device::MergeArguments merge_of(const DevicePayload& payload, const DeviceValues& target,
                                                float factor) const;
  Status launch_merge(const DevicePayload& payload, const DeviceValues& target, float factor);

  const BlockCodecOptions options_;
  const cudaStream_t stream_;
  const device::Form form_;

  std::optional<Planned> planned_;
  DeviceBuffer<unsigned> wanted_, slots_;                // per block
  DeviceBuffer<unsigned> selected_, nonzeros_;           // per block
  DeviceBuffer<unsigned> block_indices_, sent_indices_;  // per value that may be sent
  DeviceBuffer<float> block_values_, sent_values_;
  DeviceBuffer<device::PlannedGroup> groups_;
  DeviceBuffer<device::ShapedGroup> shaped_;
  DeviceBuffer<std::uint64_t> bodies_, payload_bytes_;
  DeviceBuffer<unsigned> payload_words_;

  std::size_t encoded_bytes_ = 0;  // of the last payload

  DevicePayload received_;
  DeviceBuffer<unsigned> failed_;
};

}  // namespace nanduti
