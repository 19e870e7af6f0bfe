#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/codec/block_codec.h"
#include "common/tensor/parameter_range.h"
#include "cuda/codec/device_codec.h"
#include "cuda/replica/kernels.h"
#include "cuda/runtime/device_buffer.h"

namespace nanduti {

/// The numbers of one shard in a worker, on a device: what WorkingShard (worker/client/working_memory.h) asks
/// for, with the bits that HostShard gives but for sums of squares. Shadow and residual stay there, and
/// so do pushes, coded, until they are settled. Work goes to one stream; calls return once it is handed over,
/// but where something comes back. One thread. Errors: kUnavailable, kExhausted, after which the values are
/// anything.
class DeviceShard {
 public:
  /// `range`: of the parameter space. `initial`: the shadow, in the host's memory; empty: zeros. `stream`
  /// outlives the shard.
  static Result<std::unique_ptr<DeviceShard>> create(const ParameterRange& range,
                                                     std::span<const float> initial, cudaStream_t stream);

  ~DeviceShard();
  DeviceShard(const DeviceShard&) = delete;
  DeviceShard& operator=(const DeviceShard&) = delete;

  /// shadow += what a payload of BlockCodec's says. Also kCorrupt; nothing has changed then.
  Status add_to_shadow(const SharedBytes& payload);
  /// shadow += values, shape [size], in the host's memory.
  Status add_to_shadow(std::span<const float> values);
  /// shadow[range] = values, in the host's memory until wait(); the range counts from the shard's begin.
  Status assign(const ParameterRange& range, const float* values);

  /// As BlockCodec would. progress: the device's, shape [size], or null: nothing.
  Result<SharedBytes> push_coded(const float* progress, const BlockCodecOptions& options, std::uint64_t round,
                                 double epochs_done);
  /// As DenseFloat32Codec would.
  Result<SharedBytes> push_exactly(const float* progress);
  Status settle_oldest();
  Status take_back(std::size_t k);
  Status take_back_rest(std::size_t k, float part);
  /// Until all that was asked for is done.
  Status wait() const;
  [[nodiscard]] std::size_t bytes_in_flight(std::size_t k) const { return in_flight_.at(k)->bytes; }

  /// x and pending: the device's, shape [size]; pending may be null: nothing. x is there when this returns.
  Status compute_parameters(float* x, const float* pending, float own_work, float rho);
  Result<device::ResidualPart> measure_residual();

  /// Both of shape [size], in the host's memory: for tests.
  Status read(std::span<float> shadow, std::span<float> residual);

 private:
  /// A push: coded, or all values.
  struct Sent {
    bool is_coded = false;
    DevicePayload payload;
    DeviceBuffer<float> values;
    float part = 1;  ///< of each value, that the shard applies
    std::size_t bytes = 0;
  };

  DeviceShard(const ParameterRange& range, cudaStream_t stream) : range_(range), stream_(stream) {}
  void keep_spare(std::unique_ptr<Sent> sent);
  Status prepare(std::span<const float> initial);
  [[nodiscard]] std::uint64_t size() const { return range_.size(); }
  [[nodiscard]] std::unique_ptr<Sent> take_spare();
  DeviceCodec& codec_of(const BlockCodecOptions& options);
  /// to += factor * the push, as the shard applies it.
  Status add(const Sent& sent, float factor, float* to);

  const ParameterRange range_;
  const cudaStream_t stream_;
  DeviceBuffer<float> shadow_, residual_, staged_;
  DeviceBuffer<device::ResidualPart> parts_;
  std::optional<BlockCodecOptions> options_;  // codec_'s
  std::unique_ptr<DeviceCodec> codec_;
  std::deque<std::unique_ptr<Sent>> in_flight_;
  std::vector<std::unique_ptr<Sent>> spare_;  // coded ones, with their memory: no allocation for each push
};

}  // namespace nanduti
