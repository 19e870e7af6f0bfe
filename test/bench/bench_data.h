#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "worker/train/trainer.h"

/// What the benchmarks share.
namespace nanduti {

[[noreturn]] inline void fail(const std::string& message) {
  fmt::print(stderr, "{}\n", message);
  std::exit(1);
}

/// The training set of a folder with MNIST's files.
inline std::shared_ptr<const JobData> load(const std::string& directory) {
  const std::filesystem::path base(directory);
  JobDataFiles files;
  files.train = {base / "train-images-idx3-ubyte.gz", base / "train-labels-idx1-ubyte.gz", {}};
  auto data = load_job_data(files, true);
  if (!data.ok()) fail(data.error().message);
  return *data;
}

}  // namespace nanduti
