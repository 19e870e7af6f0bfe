#include "test/sim/problem.h"

#include <cmath>
#include <cstring>

#include "common/codec/block_codec.h"

namespace nanduti::sim {

std::vector<float> initial_values(std::uint64_t begin, std::uint64_t end) {
  std::vector<float> values;
  for (std::uint64_t i = begin; i < end; ++i) values.push_back(static_cast<float>(i % 5) - 2.0f);
  return values;
}

std::vector<float> progress_of(std::span<const float> x, const SampleRange& range) {
  float target = 0;
  for (std::uint64_t sample = range.begin; sample < range.end; ++sample)
    target += static_cast<float>((sample * 5 + range.epoch.value()) % 8);
  target = range.size() == 0 ? 0 : target / static_cast<float>(range.size());
  std::vector<float> progress(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float pull = 0.125f * (x[i] - target - static_cast<float>(i % 8));
    progress[i] = std::nearbyint(pull * 1024.0f) / 1024.0f;
  }
  return progress;
}

ServerOptimizerSpec server_optimizer_of(const Plan& plan) {
  ServerOptimizerSpec spec;
  spec.type = plan.server_optimizer;
  if (spec.type != ServerOptimizerType::kAdd) spec.learning_rate = 0.5;
  spec.momentum = 0.5;
  return spec;
}

std::vector<std::uint64_t> rows_of(std::uint64_t begin, std::uint64_t end) {
  constexpr std::uint64_t kRow = 1000;
  std::vector<std::uint64_t> ends;
  for (std::uint64_t row_end = (begin / kRow + 1) * kRow; row_end < end; row_end += kRow)
    ends.push_back(row_end - begin);
  if (end > begin) ends.push_back(end - begin);
  return ends;
}

TestFigures evaluated(std::uint64_t begin, std::uint64_t end) {
  TestFigures figures;
  for (std::uint64_t sample = begin; sample < end; ++sample) {
    ++figures.total;
    figures.correct += sample % 3 == 0 ? 1 : 0;
    figures.loss_sum += static_cast<double>(sample % 4) / 4;
  }
  return figures;
}

EncodedUpdate QuarterCodec::encode(std::span<float> residual, std::span<const float> progress,
                                   const CodingContext& context) const {
  for (std::size_t i = 0; i < progress.size(); ++i) residual[i] += progress[i];
  struct Owner {
    std::vector<std::uint32_t> indices;
    std::vector<float> values;
  };
  auto owner = std::make_shared<Owner>();
  for (std::size_t i = context.round % 4; i < residual.size(); i += 4) {
    if (residual[i] == 0.0f) continue;
    owner->indices.push_back(static_cast<std::uint32_t>(i));
    owner->values.push_back(residual[i]);
    residual[i] = 0;
  }
  std::vector<std::byte> bytes(owner->indices.size() * 8 + 1);  // never empty
  if (!owner->indices.empty()) {
    std::memcpy(bytes.data(), owner->indices.data(), owner->indices.size() * 4);
    std::memcpy(bytes.data() + owner->indices.size() * 4, owner->values.data(), owner->values.size() * 4);
  }
  return {SharedBytes::take(std::move(bytes)),
          {residual.size(), false, owner->indices, owner->values, owner}};
}

Result<Update> QuarterCodec::decode(const SharedBytes& payload, std::uint64_t size) const {
  if (payload.size() % 8 != 1) return make_error(ErrorCode::kCorrupt, "not of the quarter codec");
  struct Owner {
    std::vector<std::uint32_t> indices;
    std::vector<float> values;
  };
  const std::size_t count = payload.size() / 8;
  auto owner = std::make_shared<Owner>();
  owner->indices.resize(count);
  owner->values.resize(count);
  if (count > 0) {
    std::memcpy(owner->indices.data(), payload.data(), count * 4);
    std::memcpy(owner->values.data(), payload.data() + count * 4, count * 4);
  }
  for (const std::uint32_t index : owner->indices)
    if (index >= size) return make_error(ErrorCode::kCorrupt, "index {} of {}", index, size);
  return Update{size, false, owner->indices, owner->values, owner};
}

JobCodecs codecs_of(PlanCodec which) {
  if (which == PlanCodec::kBlocks) {
    BlockCodecOptions push, publish;
    push.value_bits = 32;  // sums of progress stay exact
    publish.value_bits = 2;
    push.density = publish.density = 0.25;
    return {std::make_shared<BlockCodec>(push), std::make_shared<BlockCodec>(publish)};
  }
  std::shared_ptr<const Codec> codec = std::make_shared<DenseFloat32Codec>();
  if (which == PlanCodec::kQuarter) codec = std::make_shared<QuarterCodec>();
  return {codec, codec};
}

std::string settings_text(PlanCodec codec) { return fmt::format("codec {}", static_cast<int>(codec)); }

Result<PlanCodec> read_settings(const std::string& text) {
  for (const PlanCodec codec : {PlanCodec::kDense, PlanCodec::kQuarter, PlanCodec::kBlocks})
    if (text == settings_text(codec)) return codec;
  return make_error(ErrorCode::kInvalidArgument, "settings that nobody has made: '{}'", text);
}

ShardSettings shard_settings(const Plan& plan, PlanCodec codec) { return {codecs_of(codec), plan.age_power}; }

RoundSettings round_settings(const Plan& plan, PlanCodec codec) {
  RoundSettings settings;
  settings.bound = plan.bound;
  settings.round_samples = plan.round_samples;
  settings.accumulate_rounds_max = plan.accumulate ? kAccumulateRounds : 1;
  settings.codecs = codecs_of(codec);
  settings.weights = {static_cast<float>(plan.own_work), static_cast<float>(plan.rho)};
  return settings;
}

}  // namespace nanduti::sim
