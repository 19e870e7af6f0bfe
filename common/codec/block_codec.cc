#include "common/codec/block_codec.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>

#include "common/base/check.h"
#include "common/codec/block_payload.h"
#include "common/codec/codec_kernels.h"
#include "common/codec/group_encoder.h"

namespace nanduti {
namespace {

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

}  // namespace

std::uint32_t warmup_doublings(const BlockCodecOptions& options, double epochs_done) {
  if (!(epochs_done < options.warmup_epochs)) return 0;
  std::uint32_t all = 0;
  for (double density = options.density; density < 0.25; density *= 2) ++all;
  const double left = 1.0 - std::max(epochs_done, 0.0) / options.warmup_epochs;
  return static_cast<std::uint32_t>(std::ceil(static_cast<double>(all) * left));
}

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
  const EncodingPlan plan(options_, context, residual.size());
  const std::uint64_t count = plan.grid().count();
  GroupEncoder encoder(plan, residual, progress, best_kernels());
  EncodedGroups groups;
  encoder.reserve(0, count, groups);
  for (std::uint64_t index = 0; index < count; ++index) encoder.encode(index, groups);
  SharedBytes payload = write_block_payload(plan.grid(), {&groups, 1});
  return {std::move(payload), update_of(residual.size(), std::move(groups))};
}

Result<Update> BlockCodec::decode(const SharedBytes& payload, std::uint64_t size) const {
  return read_block_payload(payload, size, best_kernels());
}

}  // namespace nanduti
