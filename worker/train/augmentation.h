#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/model/model_spec.h"
#include "common/model/training_spec.h"

namespace nanduti {

/// Random crops and flips of training images, as torchvision's RandomCrop with padding and
/// RandomHorizontalFlip. What an image goes through is a pure function of seed, epoch and the image's place
/// in the training set (Philox).
class Augmentation {
 public:
  /// Precondition: crop is less than both sides.
  Augmentation(const AugmentSpec& spec, std::uint64_t seed, const DataShape& shape);

  /// Writes one image, shape (channels, height, width), a float for each pixel value as `values` has it.
  void write(std::uint32_t epoch, std::uint32_t sample, std::span<const std::byte> pixels,
             const std::array<float, 256>& values, float* out) const;

 private:
  AugmentSpec spec_;
  std::uint64_t seed_;
  DataShape shape_;
};

}  // namespace nanduti
