#include "worker/client/host_memory.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/base/check.h"
#include "common/codec/coding_spec.h"

namespace nanduti {

HostShard::HostShard(std::uint64_t size, std::span<const float> initial)
    : shadow_(initial.begin(), initial.end()), residual_(size), touched_(size) {
  NANDUTI_CHECK(initial.empty() || initial.size() == size);
  shadow_.resize(size);
  base_ = shadow_;
}

Status HostShard::add_to_shadow(std::uint8_t coding, const SharedBytes& payload, const Codec& own) {
  const Result<Update> update = decode_update(coding, payload, shadow_.size(), own);
  if (!update.ok()) return update.error();
  nanduti::add(shadow_, *update, 1.0f);
  touch(*update);
  return {};
}

void HostShard::assign(const ParameterRange& range, const std::byte* values) {
  const std::size_t bytes = range.size() * sizeof(float);
  std::memcpy(shadow_.data() + range.begin, values, bytes);
  touch(range);
}

SharedBytes HostShard::push(std::span<const float> progress, const Codec& codec,
                            const CodingContext& context) {
  EncodedUpdate encoded = codec.encode(residual_, progress, context);
  nanduti::add(base_, encoded.update, -1.0f);
  in_flight_.push_back(std::move(encoded.update));
  return std::move(encoded.payload);
}

void HostShard::settle_oldest() {
  touch(in_flight_.front());
  in_flight_.pop_front();
}

void HostShard::take_back(std::size_t k) {
  const auto sent = in_flight_.begin() + static_cast<std::ptrdiff_t>(k);
  touch(*sent);
  nanduti::add(residual_, *sent, 1.0f);
  in_flight_.erase(sent);
}

void HostShard::take_back_rest(std::size_t k, float part) {
  struct Owner {
    std::vector<std::uint32_t> indices;
    std::vector<float> values;
  };
  Update& update = in_flight_.at(k);
  touch(update);
  nanduti::add(residual_, update, 1.0f);
  auto owner = std::make_shared<Owner>(
      Owner{{update.indices.begin(), update.indices.end()}, {update.values.begin(), update.values.end()}});
  for (float& value : owner->values) value *= part;
  update = {update.size, update.dense, owner->indices, owner->values, owner};
  nanduti::add(residual_, update, -1.0f);
}

std::size_t HostShard::bytes_in_flight(std::size_t k) const {
  const Update& update = in_flight_.at(k);
  return update.values.size_bytes() + update.indices.size_bytes();
}

void HostShard::touch(const Update& update) {
  if (update.dense || all_touched_) {
    all_touched_ = true;
    return;
  }
  for (const std::uint32_t index : update.indices) {
    if (touched_[index] != 0) continue;
    touched_[index] = 1;
    touched_indices_.push_back(index);
  }
}

void HostShard::touch(const ParameterRange& range) {
  all_touched_ = all_touched_ || range.size() > shadow_.size() / 4;
  if (all_touched_) return;
  for (std::uint64_t i = range.begin; i < range.end; ++i) {
    if (touched_[i] != 0) continue;
    touched_[i] = 1;
    touched_indices_.push_back(static_cast<std::uint32_t>(i));
  }
}

void HostShard::rebase() {
  if (all_touched_) {
    std::copy(shadow_.begin(), shadow_.end(), base_.begin());
    for (const Update& sent : in_flight_) nanduti::add(base_, sent, -1.0f);
  } else {
    for (const std::uint32_t i : touched_indices_) base_[i] = shadow_[i];
    for (const Update& sent : in_flight_) {
      if (sent.dense) {
        for (const std::uint32_t i : touched_indices_) base_[i] -= sent.values[i];
        continue;
      }
      if (touched_indices_.empty()) break;
      for (std::size_t k = 0; k < sent.indices.size(); ++k) {
        const std::uint32_t i = sent.indices[k];
        if (touched_[i] != 0) base_[i] -= sent.values[k];
      }
    }
  }
  for (const std::uint32_t i : touched_indices_) touched_[i] = 0;
  touched_indices_.clear();
  all_touched_ = false;
}

void HostShard::compute_parameters(std::span<float> x, std::span<const float> pending, MergeWeights weights) {
  NANDUTI_CHECK(x.size() == base_.size() && (pending.empty() || pending.size() == x.size()));
  const auto [own_work, rho] = weights;
  if (own_work != 1) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float on_its_way = (shadow_[i] - base_[i]) + (pending.empty() ? 0 : pending[i]);
      x[i] = (shadow_[i] - own_work * on_its_way) - rho * residual_[i];
    }
  } else if (pending.empty()) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = base_[i] - rho * residual_[i];
  } else {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = (base_[i] - pending[i]) - rho * residual_[i];
  }
}

ResidualMeasure HostShard::measure_residual() const {
  ResidualMeasure measure;
  for (const float value : residual_) {
    measure.squares += static_cast<double>(value) * value;
    measure.is_left = measure.is_left || (value != 0.0f && std::isfinite(value));
  }
  return measure;
}

std::unique_ptr<WorkingShard> HostMemory::make_shard(const ParameterRange& range,
                                                     std::span<const float> initial) {
  return std::make_unique<HostShard>(range.size(), initial);
}

std::shared_ptr<RoundBuffers> HostMemory::make_buffers(std::uint64_t parameters) {
  auto values = std::make_shared<std::vector<float>>(2 * parameters);
  const std::span<float> both(*values);
  return std::make_shared<RoundBuffers>(
      RoundBuffers{both.first(parameters), both.last(parameters), std::move(values)});
}

void HostMemory::add(std::span<float> sum, std::span<const float> more) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
}

}  // namespace nanduti
