#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/codec/codec.h"
#include "common/protocol/message.h"
#include "server/coordinator/coordinator_core.h"
#include "server/shard/shard_core.h"
#include "test/sim/plan.h"
#include "worker/client/replica.h"

/// The small learning problem of simulated jobs: every sample pulls every parameter towards a target of its
/// own. Progress depends on x, so that a wrong merge shows; it lies on a grid of 2^-10, so that sums of few
/// terms are exact.
namespace nanduti::sim {

/// Parameters at the start, shape [end - begin].
std::vector<float> initial_values(std::uint64_t begin, std::uint64_t end);
/// x_before - x_after of one round, shape [x.size()].
std::vector<float> progress_of(std::span<const float> x, const SampleRange& range);

/// How shards take pushes in, and where rows end in [begin, end) of the parameters, from begin on.
ServerOptimizerSpec server_optimizer_of(const Plan& plan);
std::vector<std::uint64_t> rows_of(std::uint64_t begin, std::uint64_t end);

/// Of test samples [begin, end): exact, whatever parts they are summed from.
TestFigures evaluated(std::uint64_t begin, std::uint64_t end);

/// Sends one coordinate in four, another quarter with every round: what is left out stays in the residual.
class QuarterCodec final : public Codec {
 public:
  [[nodiscard]] Coding coding() const override { return static_cast<Coding>(200); }
  [[nodiscard]] EncodedUpdate encode(std::span<float> residual, std::span<const float> progress,
                                     const CodingContext& context) const override;
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override;
};

JobCodecs codecs_of(PlanCodec codec);
/// Tune::settings, and what they say.
std::string settings_text(PlanCodec codec);
Result<PlanCodec> read_settings(const std::string& text);
/// What a shard and a worker of the job make of such settings; bound and length of rounds as in the plan.
ShardSettings shard_settings(const Plan& plan, PlanCodec codec);
RoundSettings round_settings(const Plan& plan, PlanCodec codec);

}  // namespace nanduti::sim
