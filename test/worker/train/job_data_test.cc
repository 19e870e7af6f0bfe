// Goal: files that do not belong together are refused with a clear reason; good ones give the right numbers.
// Method: small IDX files written here.
#include "worker/train/job_data.h"

#include <cmath>

#include "test/support/catch.h"
#include "test/worker/train/idx_writer.h"

using namespace nanduti;

namespace {

/// The text, with FOLDER for the folder.
std::string without_place(std::string text, const TemporaryFolder& folder) {
  const std::string place = folder.path().string();
  for (std::size_t at; (at = text.find(place)) != std::string::npos;)
    text.replace(at, place.size(), "FOLDER");
  return text;
}

/// Train and test files; a test changes what it is about.
struct Files {
  std::string train_images = idx_bytes({3, 2, 2}, {0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110});
  std::string train_labels = idx_bytes({3}, {2, 0, 1});
  std::string test_images = idx_bytes({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  std::string test_labels = idx_bytes({2}, {1, 2});
  bool with_test = true;
  std::uint32_t classes = 0;

  Result<std::shared_ptr<const JobData>> load(bool normalize) const {
    JobDataFiles files;
    files.train = {
        folder.write("train_images", train_images), folder.write("train_labels", train_labels), {}};
    files.classes = classes;
    if (with_test) {
      files.test = {folder.write("test_images", test_images), folder.write("test_labels", test_labels), {}};
    }
    return load_job_data(files, normalize);
  }
  /// The error, with FOLDER for the folder.
  std::string error(bool normalize = false) const {
    const auto data = load(normalize);
    REQUIRE_FALSE(data.ok());
    return without_place(data.error().message, folder);
  }

  TemporaryFolder folder;
};

std::uint8_t at(const SharedBytes& bytes, std::size_t index) {
  return static_cast<std::uint8_t>(bytes.view()[index]);
}

}  // namespace

TEST_CASE("a training label that stands alone at the top is out of range, unless the job says so") {
  Files files;
  files.train_labels = idx_bytes({3}, {2, 250, 1});
  CHECK(
      files.error() ==
      "training data: FOLDER/train_labels: label 250 of sample 1 is out of range: no sample has the labels 3 "
      "to 249 (data.classes: 251 takes it as it is)");
  files.classes = 251;
  CHECK(files.load(false).value()->shape.classes == 251);
  files.classes = 3;
  CHECK(files.error() ==
        "training data: FOLDER/train_labels: label 250 of sample 1 is out of range: data.classes allows 0 to "
        "2");
  files.train_labels = idx_bytes({3}, {1, 0, 1});
  files.test_labels = idx_bytes({2}, {0, 1});
  CHECK(files.load(false).value()->shape.classes == 3);
}

TEST_CASE("classes that leave gaps are as many as their largest label says") {
  Files files;
  files.with_test = false;
  files.train_images = idx_bytes({4, 1, 1}, {0, 10, 20, 30});
  files.train_labels = idx_bytes({4}, {1, 7, 1, 7});  // 7 is no outlier
  CHECK(files.load(false).value()->shape.classes == 8);
  files.train_labels = idx_bytes({4}, {1, 2, 3, 4});  // no 0
  CHECK(files.load(false).value()->shape.classes == 5);
}

TEST_CASE("good files give counts, shape, classes and pixels") {
  const Files files;
  const auto data = files.load(false);
  REQUIRE(data.ok());
  const JobData& job = **data;
  CHECK(job.shape == DataShape{1, 2, 2, 3});
  CHECK(job.train.count == 3);
  CHECK(job.train.image_size == 4);
  CHECK(at(job.train.pixels, 5) == 50);
  CHECK(at(job.train.labels, 0) == 2);
  REQUIRE(job.test);
  CHECK(job.test->count == 2);
  CHECK(job.pixel_values[0] == 0.0f);
  CHECK(job.pixel_values[51] == 0.2f);
  CHECK(job.pixel_values[255] == 1.0f);
}

TEST_CASE("normalised pixels have mean 0 and deviation 1 over the training set") {
  const Files files;
  const auto data = files.load(true);
  REQUIRE(data.ok());
  const JobData& job = **data;
  CHECK(job.mean == Approx(55));
  CHECK(job.deviation == Approx(std::sqrt(14300.0 / 12)));
  double sum = 0, squares = 0;
  for (const std::byte pixel : job.train.pixels.view()) {
    const double value = static_cast<double>(job.pixel_values[static_cast<std::size_t>(pixel)]);
    sum += value;
    squares += value * value;
  }
  CHECK(sum / 12 == Approx(0).margin(1e-6));
  CHECK(squares / 12 == Approx(1));
}

TEST_CASE("four dimensions are count, channels, height, width") {
  Files files;
  files.with_test = false;
  files.train_images = idx_bytes({3, 2, 1, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const auto data = files.load(false);
  REQUIRE(data.ok());
  CHECK((*data)->shape == DataShape{2, 1, 2, 3});
  CHECK_FALSE((*data)->test);
}

TEST_CASE("one label only still makes two classes, 255 makes 256") {
  Files files;
  files.with_test = false;
  files.train_labels = idx_bytes({3}, {0, 0, 0});
  CHECK(files.load(false).value()->shape.classes == 2);
  files.train_labels = idx_bytes({3}, {0, 255, 254});
  CHECK(files.load(false).value()->shape.classes == 256);
}

TEST_CASE("files that do not belong together are refused with a reason") {
  Files files;
  SECTION("counts that differ") {
    files.train_labels = idx_bytes({4}, {0, 1, 2, 0});
    CHECK(files.error() ==
          "training data: FOLDER/train_labels: holds 4 labels for the 3 images of FOLDER/train_images");
  }
  SECTION("counts that differ in the test set") {
    files.test_labels = idx_bytes({1}, {0});
    CHECK(files.error() ==
          "test data: FOLDER/test_labels: holds 1 labels for the 2 images of FOLDER/test_images");
  }
  SECTION("a test label that training never has") {
    files.test_labels = idx_bytes({2}, {1, 11});
    CHECK(
        files.error() ==
        "test data: FOLDER/test_labels: label 11 of sample 1 is out of range: the training set has classes 0 "
        "to 2");
  }
  SECTION("test images of another size") {
    files.test_images = idx_bytes({2, 2, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
    CHECK(files.error() ==
          "test data: FOLDER/test_images: has images of 1 x 2 x 3, but the training set's are 1 x 2 x 2");
  }
  SECTION("images and labels exchanged") {
    std::swap(files.train_images, files.train_labels);
    CHECK(files.error() ==
          "training data: FOLDER/train_images: has 1 dimensions: images have 3 (count, height, width) or 4 "
          "(with channels)");
  }
  SECTION("images for labels") {
    files.train_labels = files.train_images;
    CHECK(files.error() == "training data: FOLDER/train_labels: has 3 dimensions: labels have 1");
  }
  SECTION("no images") {
    files.train_images = idx_header({0, 2, 2});
    CHECK(files.error() == "training data: FOLDER/train_images: is empty: its dimensions are 0 x 2 x 2");
  }
  SECTION("truncated") {
    files.train_images.pop_back();
    CHECK(
        files.error() ==
        "training data: FOLDER/train_images: truncated: 11 of the 12 bytes that its header declares (3 x 2 x "
        "2)");
  }
  SECTION("pixels that are all equal cannot be normalised") {
    files.train_images = idx_bytes({3, 2, 2}, std::vector<std::uint8_t>(12, 7));
    CHECK(files.error(true) ==
          "FOLDER/train_images: all training pixels are 7: they cannot be normalised to deviation 1 "
          "(data.normalize: none leaves them as they are)");
    CHECK(files.load(false).ok());
  }
}

TEST_CASE("the fingerprint changes with any byte, and not with compression") {
  Files files;
  const std::uint64_t before = files.load(false).value()->fingerprint;
  CHECK(files.load(true).value()->fingerprint == before);
  files.train_images = gzipped(files.train_images);
  CHECK(files.load(false).value()->fingerprint == before);
  for (std::string* file : {&files.test_images, &files.train_labels, &files.test_labels}) {
    std::string& bytes = *file;
    const char kept = bytes.back();
    bytes.back() = static_cast<char>(kept == 1 ? 0 : 1);
    CHECK(files.load(false).value()->fingerprint != before);
    bytes.back() = kept;
  }
  files.with_test = false;
  CHECK(files.load(false).value()->fingerprint != before);
}

namespace {

/// Records of CIFAR's binary version: image i has label labels[i], and pixel p is (i + p) % 251.
std::string cifar_bytes(const std::vector<int>& labels, bool coarse = false, int first = 0) {
  std::string bytes;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (coarse) bytes.push_back(77);
    bytes.push_back(static_cast<char>(labels[i]));
    for (std::size_t p = 0; p < 3072; ++p)
      bytes.push_back(static_cast<char>((static_cast<std::size_t>(first) + i + p) % 251));
  }
  return bytes;
}

struct CifarFiles {
  Result<std::shared_ptr<const JobData>> load(const std::vector<std::string>& train, const std::string& test,
                                              DataFormat format = DataFormat::kCifar10,
                                              std::uint32_t classes = 0) const {
    JobDataFiles files;
    files.format = format;
    files.classes = classes;
    for (const std::string& bytes : train)
      files.train.files.push_back(folder.write(fmt::format("train_{}", files.train.files.size()), bytes));
    files.test.emplace().files.push_back(folder.write("test", test));
    return load_job_data(files, true);
  }
  std::string error(const std::vector<std::string>& train, const std::string& test,
                    std::uint32_t classes = 0) const {
    const auto data = load(train, test, DataFormat::kCifar10, classes);
    REQUIRE_FALSE(data.ok());
    return without_place(data.error().message, folder);
  }
  TemporaryFolder folder;
};

}  // namespace

TEST_CASE("CIFAR's files are one set, whatever the number of classes, with either kind of label") {
  const CifarFiles cifar;
  for (const bool coarse : {false, true}) {
    const auto data =
        cifar.load({cifar_bytes({8, 0}, coarse), cifar_bytes({3, 1, 2, 4, 5, 6, 7}, coarse, 2)},
                   cifar_bytes({5}, coarse), coarse ? DataFormat::kCifar100 : DataFormat::kCifar10);
    REQUIRE(data.ok());
    CHECK((*data)->shape == DataShape{3, 32, 32, 9});
    CHECK((*data)->train.count == 9);
    CHECK((*data)->test->count == 1);
    for (std::size_t i = 0; i < 9; ++i)
      for (const std::size_t p : {0, 1, 1023, 3071})
        CHECK(at((*data)->train.pixels, i * 3072 + p) == (i + p) % 251);
    CHECK(at((*data)->train.labels, 0) == 8);
    CHECK(at((*data)->train.labels, 2) == 3);
    CHECK(at((*data)->train.labels, 8) == 7);
    CHECK((*data)->mean > 100);
  }
}

TEST_CASE("CIFAR's files that cannot be right name the file and what is wrong") {
  const CifarFiles cifar;
  const std::string good = cifar_bytes({0, 1, 2});
  CHECK(cifar.error({good, good.substr(1)}, good) ==
        "training data: FOLDER/train_1: has 9218 bytes: not a whole number of records of 3073");
  CHECK(cifar.error({good}, "") == "test data: FOLDER/test: is empty: it has no bytes at all");
  CHECK(cifar.error({good, good}, cifar_bytes({0, 7})) ==
        "test data: FOLDER/test: label 7 of sample 1 is out of range: the training set has classes 0 to 2");
  const auto refused = [](const char* file) {
    return fmt::format(
        "training data: FOLDER/{}: label 2 of sample 2 is out of range: data.classes allows 0 to 1", file);
  };
  CHECK(cifar.error({good, good}, good, 2) == refused("train_0"));
  CHECK(cifar.error({cifar_bytes({0, 1}), good, good}, good, 2) == refused("train_1"));
  CHECK(cifar.error({good, cifar_bytes({3, 0})}, good, 3).find("/train_1: label 3 of sample 0 ") !=
        std::string::npos);
  JobDataFiles files;
  files.format = DataFormat::kCifar10;
  files.train.files = {cifar.folder.path() / "nowhere"};
  CHECK(load_job_data(files, true).error().code == ErrorCode::kNotFound);
  files.train.files = {cifar.folder.path()};
  CHECK(load_job_data(files, true).error().message.ends_with("is not a regular file"));
}
