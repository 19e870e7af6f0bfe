#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/model/model_spec.h"

namespace nanduti {

/// Where a job's data lies.
struct JobDataFiles {
  struct Set {
    // kIdx, plain or gzip: images (count, height, width) or (count, channels, height, width), labels (count).
    std::filesystem::path images;
    std::filesystem::path labels;
    std::vector<std::filesystem::path> files;  ///< kCifar10 and kCifar100: one after the other
  };
  DataFormat format = DataFormat::kIdx;
  Set train;
  std::optional<Set> test;
  std::uint32_t classes = 0;  ///< labels are below it; 0: whatever the training set has
};

/// Labelled images. Sample i's pixels are [i * image_size, (i + 1) * image_size).
struct ImageSet {
  std::uint64_t count = 0;
  std::uint64_t image_size = 0;  ///< channels * height * width
  SharedBytes pixels;            ///< shape (count, channels, height, width)
  SharedBytes labels;            ///< shape (count), each below DataShape::classes
};

/// A job's data, checked and in memory. Immutable: any thread may read.
struct JobData {
  ImageSet train;
  std::optional<ImageSet> test;
  DataShape shape;  ///< classes: as asked for, or the largest training label + 1, at least 2
  /// The float that stands for each pixel value p: (p - mean) / deviation, or p / 255.
  std::array<float, 256> pixel_values{};
  double mean = 0;                ///< of the training set's pixels, in [0, 255]; 0 if not normalised
  double deviation = 255;         ///< their standard deviation; 255 if not normalised
  std::uint64_t fingerprint = 0;  ///< of shapes, pixels and labels of both sets
};

/// Reads and checks a job's files. `normalize`: with mean and deviation of all training pixels. Errors name
/// the file and the sample: those of read_idx_file and read_cifar_files, and kInvalidArgument where the files
/// do not belong together.
Result<std::shared_ptr<const JobData>> load_job_data(const JobDataFiles& files, bool normalize);

}  // namespace nanduti
