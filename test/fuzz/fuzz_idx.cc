// Goal: no data file crashes a worker or makes it use more memory than it holds (P8).
// Method: one IDX file as it is or compressed here, so that the checksum does not keep the fuzzer out, or the
// files of a job together, IDX or CIFAR. Checked: dimensions and values agree, labels are below the number of
// classes.
#include <cmath>
#include <cstdlib>
#include <memory>

#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "common/base/check.h"
#include "test/fuzz/fuzz_input.h"
#include "worker/train/cifar_file.h"
#include "worker/train/idx_file.h"
#include "worker/train/job_data.h"

namespace nanduti {
namespace {

/// A file without a name, as a path that can be opened.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::uint8_t> bytes) : descriptor_(::memfd_create("idx", MFD_CLOEXEC)) {
    NANDUTI_CHECK(descriptor_ >= 0);
    NANDUTI_CHECK(::write(descriptor_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  [[nodiscard]] std::filesystem::path path() const { return fmt::format("/proc/self/fd/{}", descriptor_); }

 private:
  int descriptor_;
};

std::vector<std::uint8_t> compressed(std::span<const std::uint8_t> bytes) {
  z_stream stream{};
  constexpr int kGzipWindow = 15 + 16;
  NANDUTI_CHECK(deflateInit2(&stream, 1, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::vector<std::uint8_t> out(deflateBound(&stream, bytes.size()));
  stream.next_in = const_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  NANDUTI_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

void check_array(const IdxArray& array) {
  NANDUTI_CHECK(!array.dimensions.empty() && array.dimensions.size() <= 4);
  std::uint64_t values = 1;
  for (const std::uint32_t extent : array.dimensions) values *= extent;
  NANDUTI_CHECK(values > 0 && array.values.size() == values);
  Fingerprint all;
  all.add(array.values.view());  // touches every byte
}

void check_set(const ImageSet& set, const DataShape& shape) {
  NANDUTI_CHECK(set.count > 0 &&
                set.image_size == std::uint64_t{shape.channels} * shape.height * shape.width);
  NANDUTI_CHECK(set.pixels.size() == set.count * set.image_size && set.labels.size() == set.count);
  for (const std::byte label : set.labels.view())
    NANDUTI_CHECK(static_cast<std::uint32_t>(label) < shape.classes);
}

void try_file(std::span<const std::uint8_t> bytes) {
  const MemoryFile file(bytes);
  const Result<IdxArray> array = read_idx_file(file.path());
  if (array.ok()) return check_array(*array);
  NANDUTI_CHECK(array.error().message.starts_with(file.path().string()), "{}", array.error().message);
}

void check_job(const JobDataFiles& job, bool normalize) {
  const auto data = load_job_data(job, normalize);
  if (!data.ok()) {
    NANDUTI_CHECK(!data.error().message.empty());
    return;
  }
  NANDUTI_CHECK((*data)->shape.classes >= 1 && (*data)->shape.classes <= 256);
  NANDUTI_CHECK(job.classes == 0 || (*data)->shape.classes == job.classes);
  check_set((*data)->train, (*data)->shape);
  if ((*data)->test) check_set(*(*data)->test, (*data)->shape);
  for (const float value : (*data)->pixel_values) NANDUTI_CHECK(std::isfinite(value));
}

/// The input holds the values and lies about little else: sizes and dimensions that mostly fit each other.
void try_job(FuzzInput input) {
  const auto extent = [&](std::uint64_t max) { return static_cast<std::uint8_t>(input.below(max) + 1); };
  const std::uint8_t classes = input.byte();
  const bool normalize = input.flag(), has_test = input.flag();
  const std::uint8_t height = extent(4), width = extent(4);
  std::vector<std::vector<std::uint8_t>> files;
  for (int set = 0; set < 2; ++set) {
    const std::uint8_t count = extent(40);
    const bool channels = input.below(4) == 0;
    std::vector<std::uint8_t> images{0, 0, 8, static_cast<std::uint8_t>(channels ? 4 : 3), 0, 0, 0, count};
    if (channels) images.insert(images.end(), {0, 0, 0, 1});
    images.insert(images.end(), {0, 0, 0, height, 0, 0, 0, width});
    const std::uint8_t labelled = input.below(8) == 0 ? extent(40) : count;
    std::vector<std::uint8_t> labels{0, 0, 8, 1, 0, 0, 0, labelled};
    for (int i = 0; i < count * height * width; ++i) images.push_back(input.byte());
    for (int i = 0; i < labelled; ++i) labels.push_back(input.byte());
    files.push_back(std::move(images));
    files.push_back(std::move(labels));
  }
  if (input.flag()) files[0] = compressed(files[0]);
  const MemoryFile train_images(files[0]), train_labels(files[1]), test_images(files[2]),
      test_labels(files[3]);
  JobDataFiles job;
  job.train = {train_images.path(), train_labels.path(), {}};
  job.classes = classes;
  if (has_test) job.test = {test_images.path(), test_labels.path(), {}};
  check_job(job, normalize);
}

/// One or two files of some records, now and then with a rest; the pixels are one value.
void try_cifar(FuzzInput input) {
  const std::uint8_t classes = input.byte();
  const bool normalize = input.flag(), has_test = input.flag();
  JobDataFiles job;
  job.format = input.flag() ? DataFormat::kCifar10 : DataFormat::kCifar100;
  job.classes = classes;
  const std::size_t label_bytes = job.format == DataFormat::kCifar10 ? 1 : 2;
  std::vector<std::unique_ptr<MemoryFile>> files;
  const auto make_file = [&]() -> std::filesystem::path {
    std::vector<std::uint8_t> bytes;
    for (std::uint64_t records = input.below(20); records > 0; --records) {
      for (std::size_t i = 0; i < label_bytes; ++i) bytes.push_back(input.byte());
      bytes.insert(bytes.end(), kCifarPixels, input.byte());
    }
    if (input.below(8) == 0) bytes.push_back(0);
    return files.emplace_back(std::make_unique<MemoryFile>(bytes))->path();
  };
  job.train.files.push_back(make_file());
  if (input.flag()) job.train.files.push_back(make_file());
  if (has_test) job.test = JobDataFiles::Set{{}, {}, {make_file()}};
  check_job(job, normalize);
}

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nanduti;
  FuzzInput input(data, size);
  switch (input.byte() % 4) {
    case 0:
      try_file(input.rest());
      break;
    case 1:
      try_file(compressed(input.rest()));
      break;
    case 2:
      try_job(input);
      break;
    default:
      try_cifar(input);
  }
  return 0;
}
