// Cuts small images out of photographs and writes them as CIFAR-10's binary version: the label is which
// photograph. A pure function of its arguments.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "common/base/random.h"

namespace {

constexpr std::uint32_t kSide = 32;
constexpr std::uint32_t kScales[] = {1, 2, 4};
/// Training images lie left of it, test images right of it: no pixel is in both.
constexpr double kTrainPart = 0.75;

struct Photograph {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::string pixels;  // (height, width, 3)
};

[[noreturn]] void fail(const std::string& message) {
  std::cerr << "photographs: " << message << "\n";
  std::exit(1);
}

/// A binary PPM of 8 bits, as djpeg writes it.
Photograph read_ppm(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string magic;
  std::uint32_t most = 0;
  Photograph photograph;
  if (!(stream >> magic >> photograph.width >> photograph.height >> most) || magic != "P6" || most != 255)
    fail(file + ": is no binary PPM of 8 bits");
  stream.get();
  photograph.pixels.resize(std::size_t{3} * photograph.width * photograph.height);
  if (!stream.read(photograph.pixels.data(), static_cast<std::streamsize>(photograph.pixels.size())))
    fail(file + ": ends too early");
  return photograph;
}

/// A square of side kSide * scale, reduced by the mean of scale * scale pixels.
void append_square(const Photograph& photograph, std::uint32_t left, std::uint32_t top, std::uint32_t scale,
                   std::string& record) {
  for (std::uint32_t channel = 0; channel < 3; ++channel)
    for (std::uint32_t y = 0; y < kSide; ++y)
      for (std::uint32_t x = 0; x < kSide; ++x) {
        std::uint32_t sum = 0;
        for (std::uint32_t i = 0; i < scale * scale; ++i) {
          const std::size_t row = top + y * scale + i / scale, column = left + x * scale + i % scale;
          sum +=
              static_cast<unsigned char>(photograph.pixels[(row * photograph.width + column) * 3 + channel]);
        }
        record.push_back(static_cast<char>(sum / (scale * scale)));
      }
}

std::string make_set(const std::vector<Photograph>& photographs, bool training, std::uint64_t count,
                     std::uint64_t seed) {
  nanduti::RandomStream random(seed, training ? 1 : 2);
  std::string records;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::size_t label = i % photographs.size();
    const Photograph& photograph = photographs[label];
    const std::uint32_t scale = kScales[random.below(std::size(kScales))];
    const auto middle = static_cast<std::uint32_t>(photograph.width * kTrainPart);
    const std::uint32_t begin = training ? 0 : middle, end = training ? middle : photograph.width;
    if (end - begin < kSide * scale || photograph.height < kSide * scale) fail("a photograph is too small");
    const auto left = begin + static_cast<std::uint32_t>(random.below(end - begin - kSide * scale + 1));
    const auto top = static_cast<std::uint32_t>(random.below(photograph.height - kSide * scale + 1));
    records.push_back(static_cast<char>(label));
    append_square(photograph, left, top, scale, records);
  }
  return records;
}

void write(const std::string& file, const std::string& bytes) {
  std::ofstream stream(file, std::ios::binary);
  if (!stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size())) || !stream.flush())
    fail(file + ": cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::cerr << "usage: photographs FOLDER TRAIN TEST SEED PHOTOGRAPH.ppm...\n"
                 "writes FOLDER/train.bin with TRAIN images and FOLDER/test.bin with TEST\n";
    return 2;
  }
  std::vector<Photograph> photographs;
  for (int i = 5; i < argc; ++i) photographs.push_back(read_ppm(argv[i]));
  const std::string folder = argv[1];
  const std::uint64_t seed = std::strtoull(argv[4], nullptr, 10);
  write(folder + "/train.bin", make_set(photographs, true, std::strtoull(argv[2], nullptr, 10), seed));
  write(folder + "/test.bin", make_set(photographs, false, std::strtoull(argv[3], nullptr, 10), seed));
  return 0;
}
