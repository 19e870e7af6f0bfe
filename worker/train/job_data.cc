#include "worker/train/job_data.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "worker/train/cifar_file.h"
#include "worker/train/idx_file.h"

namespace nanduti {
namespace {

struct LoadedSet {
  ImageSet set;
  DataShape shape;                         // classes: the largest label + 1
  std::vector<std::uint64_t> file_counts;  // CIFAR: of each file
};

std::string describe(const DataShape& shape) {
  return fmt::format("{} x {} x {}", shape.channels, shape.height, shape.width);
}

/// For errors: where a set's images stand.
std::string images_name(const JobDataFiles::Set& files) {
  if (files.files.empty()) return files.images.string();
  const std::string first = files.files.front().string();
  return files.files.size() == 1 ? first : fmt::format("{} and {} more", first, files.files.size() - 1);
}

/// "FILE: label 7 of sample 2", the sample as its file counts.
std::string label_name(const JobDataFiles::Set& files, const LoadedSet& loaded, std::uint64_t sample) {
  const auto label = static_cast<unsigned>(loaded.set.labels.view()[sample]);
  const auto& counts = loaded.file_counts;
  std::size_t file = 0;
  while (file + 1 < counts.size() && sample >= counts[file]) sample -= counts[file++];
  return fmt::format("{}: label {} of sample {}",
                     (counts.empty() ? files.labels : files.files[file]).string(), label, sample);
}

std::uint32_t classes_in(const ImageSet& set) {
  const auto labels = set.labels.view();
  return static_cast<std::uint32_t>(*std::max_element(labels.begin(), labels.end())) + 1;
}

Result<LoadedSet> load_cifar_set(const JobDataFiles::Set& files, std::uint32_t label_bytes) {
  auto images = read_cifar_files(files.files, label_bytes);
  if (!images.ok()) return images.error();
  LoadedSet loaded;
  loaded.set = {images->count, kCifarPixels, std::move(images->pixels), std::move(images->labels)};
  loaded.shape = {kCifarChannels, kCifarSide, kCifarSide, classes_in(loaded.set)};
  loaded.file_counts = std::move(images->file_counts);
  return loaded;
}

Result<LoadedSet> load_idx_set(const std::filesystem::path& images_file,
                               const std::filesystem::path& labels_file) {
  auto images = read_idx_file(images_file);
  if (!images.ok()) return images.error();
  auto labels = read_idx_file(labels_file);
  if (!labels.ok()) return labels.error();
  const auto& extents = images->dimensions;
  if (extents.size() != 3 && extents.size() != 4) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: has {} dimensions: images have 3 (count, height, width) or 4 (with channels)",
                      images_file.string(), extents.size());
  }
  if (labels->dimensions.size() != 1) {
    return make_error(ErrorCode::kInvalidArgument, "{}: has {} dimensions: labels have 1",
                      labels_file.string(), labels->dimensions.size());
  }
  if (labels->dimensions[0] != extents[0]) {
    return make_error(ErrorCode::kInvalidArgument, "{}: holds {} labels for the {} images of {}",
                      labels_file.string(), labels->dimensions[0], extents[0], images_file.string());
  }
  LoadedSet loaded;
  loaded.shape.channels = extents.size() == 4 ? extents[1] : 1;
  loaded.shape.height = extents[extents.size() - 2];
  loaded.shape.width = extents.back();
  loaded.set.count = extents[0];
  loaded.set.image_size = images->values.size() / extents[0];
  loaded.set.pixels = std::move(images->values);
  loaded.set.labels = std::move(labels->values);
  loaded.shape.classes = classes_in(loaded.set);
  return loaded;
}

Result<LoadedSet> load_set(DataFormat format, const JobDataFiles::Set& files) {
  if (format == DataFormat::kIdx) return load_idx_set(files.images, files.labels);
  return load_cifar_set(files, format == DataFormat::kCifar10 ? 1 : 2);
}

/// The number of classes, or an error about the first label that is none of them. Without a number that was
/// asked for, a largest label that stands alone is damage: hardly a sample has it, none those below it.
Result<std::uint32_t> count_classes(const LoadedSet& train, std::uint32_t asked_for,
                                    const JobDataFiles::Set& files) {
  const auto labels = train.set.labels.view();
  std::array<std::uint64_t, 256> samples{};
  for (const std::byte label : labels) ++samples[static_cast<std::size_t>(label)];
  const std::uint32_t largest = train.shape.classes - 1;
  const auto first = static_cast<std::uint64_t>(
      std::find(labels.begin(), labels.end(), static_cast<std::byte>(largest)) - labels.begin());
  if (asked_for > 0) {
    if (largest < asked_for) return asked_for;
    return make_error(ErrorCode::kInvalidArgument, "{} is out of range: data.classes allows 0 to {}",
                      label_name(files, train, first), asked_for - 1);
  }
  std::uint32_t below = largest;  // nobody has the labels [below, largest)
  while (below > 0 && samples[below - 1] == 0) --below;
  const std::uint32_t gap = largest - below;
  const bool is_rare = samples[largest] <= labels.size() / 1000;
  const bool is_far = samples[largest] == 1 && gap > below + 1;
  if (gap > 0 && below > 0 && (is_rare || is_far)) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "{} is out of range: no sample has the labels {} to {} (data.classes: {} takes it as it is)",
        label_name(files, train, first), below, largest - 1, largest + 1);
  }
  return std::max(largest + 1, 2u);
}

Status check_test_set(const LoadedSet& test, const DataShape& train, const JobDataFiles::Set& files) {
  if (describe(test.shape) != describe(train)) {
    return make_error(ErrorCode::kInvalidArgument, "{}: has images of {}, but the training set's are {}",
                      images_name(files), describe(test.shape), describe(train));
  }
  const auto labels = test.set.labels.view();
  const auto beyond = std::find_if(labels.begin(), labels.end(), [&](std::byte label) {
    return static_cast<std::uint32_t>(label) >= train.classes;
  });
  if (beyond == labels.end()) return {};
  return make_error(ErrorCode::kInvalidArgument, "{} is out of range: the training set has classes 0 to {}",
                    label_name(files, test, static_cast<std::uint64_t>(beyond - labels.begin())),
                    train.classes - 1);
}

/// Mean and deviation from exact sums: the same on every machine.
Status measure(JobData& data) {
  std::array<std::uint64_t, 256> histogram{};
  for (const std::byte pixel : data.train.pixels.view()) ++histogram[static_cast<std::size_t>(pixel)];
  const auto count = static_cast<double>(data.train.pixels.size());
  double sum = 0;
  for (std::size_t p = 0; p < 256; ++p) sum += static_cast<double>(histogram[p]) * static_cast<double>(p);
  data.mean = sum / count;
  double squares = 0;
  for (std::size_t p = 0; p < 256; ++p) {
    const double distance = static_cast<double>(p) - data.mean;
    squares += static_cast<double>(histogram[p]) * distance * distance;
  }
  data.deviation = std::sqrt(squares / count);
  if (!(data.deviation > 0)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "all training pixels are {}: they cannot be normalised to deviation 1 "
                      "(data.normalize: none leaves them as they are)",
                      data.mean);
  }
  return {};
}

void add(Fingerprint& fingerprint, const ImageSet& set) {
  fingerprint.add(set.count);
  fingerprint.add(set.pixels.view());
  fingerprint.add(set.labels.view());
}

}  // namespace

Result<std::shared_ptr<const JobData>> load_job_data(const JobDataFiles& files, bool normalize) {
  auto train = load_set(files.format, files.train);
  if (!train.ok()) return train.error().within("training data");
  auto data = std::make_shared<JobData>();
  data->shape = train->shape;
  const Result<std::uint32_t> classes = count_classes(*train, files.classes, files.train);
  if (!classes.ok()) return classes.error().within("training data");
  data->shape.classes = *classes;
  data->train = std::move(train->set);
  if (files.test) {
    auto test = load_set(files.format, *files.test);
    if (!test.ok()) return test.error().within("test data");
    const Status fits = check_test_set(*test, data->shape, *files.test);
    if (!fits.ok()) return fits.error().within("test data");
    data->test = std::move(test->set);
  }
  if (normalize) {
    const Status measured = measure(*data);
    if (!measured.ok()) return measured.error().within(images_name(files.train));
  }
  for (std::size_t p = 0; p < 256; ++p) {
    data->pixel_values[p] = static_cast<float>((static_cast<double>(p) - data->mean) / data->deviation);
  }
  Fingerprint fingerprint;
  for (const std::uint32_t side : {data->shape.channels, data->shape.height, data->shape.width})
    fingerprint.add(side);
  add(fingerprint, data->train);
  if (data->test) add(fingerprint, *data->test);
  data->fingerprint = fingerprint.value();
  return std::shared_ptr<const JobData>(std::move(data));
}

}  // namespace nanduti
