#include "worker/train/augmentation.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/random.h"

namespace nanduti {
namespace {

constexpr std::uint32_t kAugmentStream = 0x4155474D;  // "AUGM": apart from every other use of the seed

/// Below `bound`, each value as likely to a part in 2^32 / bound.
std::int64_t below(std::uint32_t word, std::uint32_t bound) {
  return static_cast<std::int64_t>((std::uint64_t{word} * bound) >> 32);
}

}  // namespace

Augmentation::Augmentation(const AugmentSpec& spec, std::uint64_t seed, const DataShape& shape)
    : spec_(spec), seed_(seed), shape_(shape) {
  NANDUTI_CHECK(spec.crop < shape.height && spec.crop < shape.width);
}

void Augmentation::write(std::uint32_t epoch, std::uint32_t sample, std::span<const std::byte> pixels,
                         const std::array<float, 256>& values, float* out) const {
  const auto words = philox4x32({sample, epoch, kAugmentStream, 0},
                                {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
  const auto height = static_cast<std::int64_t>(shape_.height),
             width = static_cast<std::int64_t>(shape_.width);
  const auto crop = static_cast<std::int64_t>(spec_.crop);
  const std::int64_t down = below(words[0], 2 * spec_.crop + 1) - crop;
  const std::int64_t right = below(words[1], 2 * spec_.crop + 1) - crop;
  const bool flips = spec_.flip && (words[2] & 1) != 0;
  // Columns of the source that there are.
  const std::int64_t begin = std::max<std::int64_t>(right, 0), end = std::min(width + right, width);
  for (std::uint32_t c = 0; c < shape_.channels; ++c) {
    for (std::int64_t y = 0; y < height; ++y, out += width) {
      std::fill_n(out, width, values[0]);
      const std::int64_t row = y + down;
      if (row < 0 || row >= height) continue;
      const std::byte* from = pixels.data() + (static_cast<std::int64_t>(c) * height + row) * width;
      for (std::int64_t x = begin; x < end; ++x) {
        const std::int64_t place = x - right;
        out[flips ? width - 1 - place : place] = values[static_cast<std::size_t>(from[x])];
      }
    }
  }
}

}  // namespace nanduti
