#include "common/codec/coding_spec.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace nanduti {

namespace {

Result<std::shared_ptr<const Codec>> make_codec(const CodingSpec& spec, std::string_view direction,
                                                const ParameterSpace& space) {
  using Made = std::shared_ptr<const Codec>;
  if (spec.is_exact()) return Made(std::make_shared<DenseFloat32Codec>());
  BlockCodecOptions options;
  options.dense_segment_begin = space.dense_segment_begin();
  options.value_bits = spec.value_bits;
  options.density = spec.density;
  options.warmup_epochs = spec.warmup_epochs;
  for (const CodingSpec::TensorDensity& other : spec.tensors) {
    const auto place = std::find_if(space.tensors().begin(), space.tensors().end(),
                                    [&](const TensorPlace& tensor) { return tensor.name == other.tensor; });
    if (place == space.tensors().end())
      return make_error(ErrorCode::kInvalidArgument, "compression.{}.tensors: the model has no tensor '{}'",
                        direction, other.tensor);
    if (place->offset >= space.dense_segment_begin())
      return make_error(
          ErrorCode::kInvalidArgument,
          "compression.{}.tensors: '{}' has {} values, and tensors of less than {} are sent whole, as "
          "running means and variances are",
          direction, other.tensor, place->size(), kBlockSize);
    const std::uint64_t blocks = (place->size() + kBlockSize - 1) / kBlockSize;
    options.densities.push_back({{place->offset, place->offset + blocks * kBlockSize}, other.density});
  }
  std::sort(options.densities.begin(), options.densities.end(),
            [](const DensityRange& a, const DensityRange& b) { return a.range.begin < b.range.begin; });
  return Made(std::make_shared<BlockCodec>(std::move(options)));
}

}  // namespace

Result<Update> decode_update(std::uint8_t coding, const SharedBytes& payload, std::uint64_t size,
                             const Codec& own) {
  if (coding == static_cast<std::uint8_t>(own.coding())) return own.decode(payload, size);
  // What they decode does not depend on how they were set up.
  if (coding == static_cast<std::uint8_t>(Coding::kDenseFloat32))
    return DenseFloat32Codec().decode(payload, size);
  if (coding == static_cast<std::uint8_t>(Coding::kBlocks))
    return BlockCodec(BlockCodecOptions()).decode(payload, size);
  return make_error(ErrorCode::kCorrupt, "a payload in coding {}, which does not exist", coding);
}

Result<JobCodecs> make_codecs(const CompressionSpec& spec, const ParameterSpace& space) {
  Result<std::shared_ptr<const Codec>> push = make_codec(spec.push, "push", space);
  if (!push.ok()) return push.error();
  Result<std::shared_ptr<const Codec>> publish = make_codec(spec.publish, "publish", space);
  if (!publish.ok()) return publish.error();
  return JobCodecs{*push, *publish};
}

}  // namespace nanduti
