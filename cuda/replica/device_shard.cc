#include "cuda/replica/device_shard.h"

#include <utility>

#include "common/base/check.h"

namespace nanduti {

Result<std::unique_ptr<DeviceShard>> DeviceShard::create(const ParameterRange& range,
                                                         std::span<const float> initial,
                                                         cudaStream_t stream) {
  std::unique_ptr<DeviceShard> shard(new DeviceShard(range, stream));
  NANDUTI_RETURN_IF_ERROR(shard->prepare(initial));
  return shard;
}

Status DeviceShard::prepare(std::span<const float> initial) {
  NANDUTI_CHECK(initial.empty() || initial.size() == size());
  NANDUTI_RETURN_IF_ERROR(residual_.clear(size(), stream_));
  NANDUTI_RETURN_IF_ERROR(parts_.reserve(device::residual_parts(size())));
  NANDUTI_RETURN_IF_ERROR(shadow_.clear(size(), stream_));
  if (initial.empty()) return {};
  const StreamWait wait(stream_);
  return assign({0, size()}, initial.data());
}

Status DeviceShard::add_to_shadow(const SharedBytes& payload) {
  // Payloads describe themselves: before the first push, any options will do.
  return codec_of(options_.value_or(BlockCodecOptions())).merge(payload, {shadow_.data(), size()}, 1.0f);
}

Status DeviceShard::add_to_shadow(std::span<const float> values) {
  NANDUTI_CHECK(values.size() == size());
  const StreamWait wait(stream_);
  NANDUTI_RETURN_IF_ERROR(staged_.upload(values, stream_));
  return cuda_status(device::add_values(staged_.data(), 1.0f, shadow_.data(), size(), stream_),
                     "adding to the shadow");
}

Status DeviceShard::assign(const ParameterRange& range, const float* values) {
  NANDUTI_CHECK(range.begin <= range.end && range.end <= size());
  if (range.size() == 0) return {};
  return cuda_status(cudaMemcpyAsync(shadow_.data() + range.begin, values, range.size() * sizeof(float),
                                     cudaMemcpyHostToDevice, stream_),
                     "copying a shadow to the device");
}

Result<SharedBytes> DeviceShard::push_coded(const float* progress, const BlockCodecOptions& options,
                                            std::uint64_t round, double epochs_done) {
  DeviceCodec& codec = codec_of(options);
  const Result<SharedBytes> payload =
      codec.encode({residual_.data(), size()}, progress, {round, range_.begin, epochs_done});
  if (!payload.ok()) return payload.error();
  std::unique_ptr<Sent> sent = take_spare();
  sent->is_coded = true;
  if (size() > 0) {
    const Status kept = codec.keep(sent->payload);
    if (!kept.ok()) (void)wait();  // it goes, with what is half copied
    NANDUTI_RETURN_IF_ERROR(kept);
  }
  sent->bytes = payload->size() + sent->payload.group_count * sizeof(device::CodedGroup);
  in_flight_.push_back(std::move(sent));
  return *payload;
}

Result<SharedBytes> DeviceShard::push_exactly(const float* progress) {
  std::vector<float> values(size());
  auto sent = std::make_unique<Sent>();
  {
    const StreamWait wait(stream_);
    if (progress != nullptr)
      NANDUTI_RETURN_IF_ERROR(
          cuda_status(device::add_values(progress, 1.0f, residual_.data(), size(), stream_),
                      "adding a round's progress"));
    NANDUTI_RETURN_IF_ERROR(sent->values.reserve(size()));
    NANDUTI_RETURN_IF_ERROR(residual_.download(values, stream_));
    NANDUTI_RETURN_IF_ERROR(
        cuda_status(cudaMemcpyAsync(sent->values.data(), residual_.data(), size() * sizeof(float),
                                    cudaMemcpyDeviceToDevice, stream_),
                    "keeping a push"));
    NANDUTI_RETURN_IF_ERROR(
        cuda_status(device::add_values(sent->values.data(), -1.0f, residual_.data(), size(), stream_),
                    "taking a push out of the residual"));
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "copying a push"));
  }
  sent->bytes = size() * sizeof(float);
  in_flight_.push_back(std::move(sent));
  return SharedBytes::take(std::move(values));
}

Status DeviceShard::settle_oldest() {
  NANDUTI_CHECK(!in_flight_.empty());
  keep_spare(std::move(in_flight_.front()));
  in_flight_.pop_front();
  return {};
}

Status DeviceShard::take_back(std::size_t k) {
  const auto sent = in_flight_.begin() + static_cast<std::ptrdiff_t>(k);
  NANDUTI_CHECK(k < in_flight_.size());
  NANDUTI_RETURN_IF_ERROR(add(**sent, 1.0f, residual_.data()));
  keep_spare(std::move(*sent));
  in_flight_.erase(sent);
  return {};
}

Status DeviceShard::take_back_rest(std::size_t k, float part) {
  Sent& sent = *in_flight_.at(k);
  NANDUTI_CHECK(sent.part == 1);
  NANDUTI_RETURN_IF_ERROR(add(sent, 1.0f, residual_.data()));
  sent.part = part;
  return add(sent, -1.0f, residual_.data());
}

Status DeviceShard::compute_parameters(float* x, const float* pending, float own_work, float rho) {
  if (size() == 0) return {};
  NANDUTI_RETURN_IF_ERROR(cuda_status(
      cudaMemcpyAsync(x, shadow_.data(), size() * sizeof(float), cudaMemcpyDeviceToDevice, stream_),
      "copying the shadow"));
  for (const auto& sent : in_flight_) NANDUTI_RETURN_IF_ERROR(add(*sent, -1.0f, x));
  const device::WorkingCopy copy{x, shadow_.data(), pending, residual_.data(), own_work, rho, size()};
  NANDUTI_RETURN_IF_ERROR(cuda_status(device::compute_parameters(copy, stream_), "a round's parameters"));
  return cuda_status(cudaStreamSynchronize(stream_), "a round's parameters");
}

Result<device::ResidualPart> DeviceShard::measure_residual() {
  std::vector<device::ResidualPart> parts(device::residual_parts(size()));
  NANDUTI_RETURN_IF_ERROR(cuda_status(
      device::measure_residual(residual_.data(), size(), parts_.data(), stream_), "measuring a residual"));
  {
    const StreamWait wait(stream_);
    NANDUTI_RETURN_IF_ERROR(parts_.download(parts, stream_));
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaStreamSynchronize(stream_), "measuring a residual"));
  }
  device::ResidualPart sum{};
  for (const device::ResidualPart& part : parts) {
    sum.squares += part.squares;
    sum.left += part.left;
  }
  return sum;
}

Status DeviceShard::read(std::span<float> shadow, std::span<float> residual) {
  const StreamWait wait(stream_);
  NANDUTI_RETURN_IF_ERROR(shadow_.download(shadow, stream_));
  NANDUTI_RETURN_IF_ERROR(residual_.download(residual, stream_));
  return cuda_status(cudaStreamSynchronize(stream_), "reading a shard");
}

DeviceShard::~DeviceShard() { (void)wait(); }

Status DeviceShard::wait() const {
  return cuda_status(cudaStreamSynchronize(stream_), "waiting for a shard");
}

/// Exact ones are a shard's size and rare: they go.
void DeviceShard::keep_spare(std::unique_ptr<Sent> sent) {
  if (sent->is_coded)
    spare_.push_back(std::move(sent));
  else
    (void)wait();
}

std::unique_ptr<DeviceShard::Sent> DeviceShard::take_spare() {
  if (spare_.empty()) return std::make_unique<Sent>();
  std::unique_ptr<Sent> sent = std::move(spare_.back());
  spare_.pop_back();
  sent->part = 1;
  return sent;
}

DeviceCodec& DeviceShard::codec_of(const BlockCodecOptions& options) {
  if (!codec_ || options_ != options) {
    (void)wait();  // for what uses the old one
    codec_ = std::make_unique<DeviceCodec>(options, stream_);
    options_ = options;
  }
  return *codec_;
}

Status DeviceShard::add(const Sent& sent, float factor, float* to) {
  if (size() == 0) return {};
  if (!sent.is_coded)
    return cuda_status(device::add_values(sent.values.data(), factor * sent.part, to, size(), stream_),
                       "adding a push");
  return codec_->add(sent.payload, {to, size()}, factor * sent.part);
}

}  // namespace nanduti
