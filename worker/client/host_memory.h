#pragma once

#include <deque>
#include <vector>

#include "worker/client/working_memory.h"

namespace nanduti {

/// In the host's memory.
class HostShard final : public WorkingShard {
 public:
  HostShard(std::uint64_t size, std::span<const float> initial);

  Status add_to_shadow(std::uint8_t coding, const SharedBytes& payload, const Codec& own) override;
  void assign(const ParameterRange& range, const std::byte* values) override;
  SharedBytes push(std::span<const float> progress, const Codec& codec,
                   const CodingContext& context) override;
  void settle_oldest() override;
  void take_back(std::size_t k) override;
  void take_back_rest(std::size_t k, float part) override;
  [[nodiscard]] std::size_t bytes_in_flight(std::size_t k) const override;
  void rebase() override;
  void compute_parameters(std::span<float> x, std::span<const float> pending, MergeWeights weights) override;
  [[nodiscard]] ResidualMeasure measure_residual() const override;

  [[nodiscard]] std::span<const float> shadow() const { return shadow_; }
  [[nodiscard]] std::span<const float> residual() const { return residual_; }
  /// What the shard will apply, at full weight here.
  [[nodiscard]] const std::deque<Update>& in_flight() const { return in_flight_; }

 private:
  void touch(const Update& update);
  void touch(const ParameterRange& range);

  std::vector<float> shadow_;
  std::vector<float> residual_;
  std::deque<Update> in_flight_;
  // shadow - in flight, summed in this order from the shadow on at every touched coordinate, so that
  // roundings do not pile up.
  std::vector<float> base_;
  std::vector<std::uint8_t> touched_;  // since the last rebase(), as flags and as a list
  std::vector<std::uint32_t> touched_indices_;
  bool all_touched_ = false;
};

class HostMemory final : public WorkingMemory {
 public:
  std::unique_ptr<WorkingShard> make_shard(const ParameterRange& range,
                                           std::span<const float> initial) override;
  std::shared_ptr<RoundBuffers> make_buffers(std::uint64_t parameters) override;
  void add(std::span<float> sum, std::span<const float> more) override;
  [[nodiscard]] Status status() const override { return {}; }
};

}  // namespace nanduti
