#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/random.h"
#include "worker/train/job_data.h"

namespace nanduti {

/// Images that can be learned: each class has a random pattern of its own, shown with noise of `noise` grey
/// values. A pure function of its arguments.
inline std::shared_ptr<const JobData> synthetic_data(DataShape shape, std::uint64_t train, std::uint64_t test,
                                                     double noise = 60, std::uint64_t seed = 1) {
  RandomStream random(seed);
  const std::uint64_t size = std::uint64_t{shape.channels} * shape.height * shape.width;
  std::vector<double> patterns(shape.classes * size);
  for (double& value : patterns) value = random.uniform(60, 196);
  const auto make = [&](std::uint64_t count) {
    std::vector<std::uint8_t> pixels, labels;
    for (std::uint64_t i = 0; i < count; ++i) {
      labels.push_back(static_cast<std::uint8_t>(i < shape.classes ? i : random.below(shape.classes)));
      for (std::uint64_t p = 0; p < size; ++p) {
        const double value = patterns[labels.back() * size + p] + random.uniform(-noise, noise);
        pixels.push_back(static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0)));
      }
    }
    return ImageSet{count, size, SharedBytes::take(std::move(pixels)), SharedBytes::take(std::move(labels))};
  };
  auto data = std::make_shared<JobData>();
  data->shape = shape;
  data->train = make(train);
  if (test > 0) data->test = make(test);
  for (std::size_t p = 0; p < 256; ++p) data->pixel_values[p] = (static_cast<float>(p) - 128.0f) / 64.0f;
  return data;
}

}  // namespace nanduti
