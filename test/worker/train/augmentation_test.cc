// Goal: training images are cropped and flipped at random, alike wherever they are trained. Method: every
// image is one of those that can be made by hand; how often each is; a frozen draw.
#include "worker/train/augmentation.h"

#include <map>
#include <vector>

#include "test/support/catch.h"

using namespace nanduti;

namespace {

constexpr DataShape kShape{2, 4, 5, 2};

std::array<float, 256> values() {
  std::array<float, 256> result{};
  for (std::size_t p = 0; p < result.size(); ++p) result[p] = static_cast<float>(p) - 1000;
  return result;
}

/// No two pixels are alike, and none is black.
std::vector<std::byte> image() {
  std::vector<std::byte> pixels;
  for (std::uint8_t p = 1; p <= 40; ++p) pixels.push_back(static_cast<std::byte>(p));
  return pixels;
}

std::vector<float> written(const Augmentation& augmentation, std::uint32_t epoch, std::uint32_t sample) {
  std::vector<float> out(40, 0.0f);
  const std::vector<std::byte> pixels = image();
  augmentation.write(epoch, sample, pixels, values(), out.data());
  return out;
}

/// The image moved by hand.
std::vector<float> moved(int down, int right, bool flips) {
  std::vector<float> out;
  for (int c = 0; c < 2; ++c)
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 5; ++x) {
        const int row = y + down, column = (flips ? 4 - x : x) + right;
        const bool is_there = row >= 0 && row < 4 && column >= 0 && column < 5;
        out.push_back(is_there ? static_cast<float>(c * 20 + row * 5 + column + 1 - 1000) : -1000.0f);
      }
  return out;
}

}  // namespace

TEST_CASE("every crop and flip is made, each as often, and nothing else") {
  for (const bool flip : {false, true})
    for (const std::uint32_t crop : {0u, 1u, 3u}) {
      INFO("flip " << flip << " crop " << crop);
      const Augmentation augmentation({crop, flip}, 7, kShape);
      std::map<std::vector<float>, int> seen;
      const int reach = static_cast<int>(crop);
      for (int down = -reach; down <= reach; ++down)
        for (int right = -reach; right <= reach; ++right)
          for (int flips = 0; flips <= (flip ? 1 : 0); ++flips) seen[moved(down, right, flips != 0)] = 0;
      const int each = 100, all = each * static_cast<int>(seen.size());
      for (int i = 0; i < all; ++i) {
        const auto found = seen.find(
            written(augmentation, static_cast<std::uint32_t>(i) / 50, static_cast<std::uint32_t>(i) % 50));
        REQUIRE(found != seen.end());
        ++found->second;
      }
      // A deviation of 10; the outcome is fixed, as the seed is.
      for (const auto& [what, times] : seen) CHECK(std::abs(times - each) < 45);
    }
}

TEST_CASE("what an image goes through depends on seed, epoch and place") {
  const AugmentSpec spec{3, true};
  const Augmentation one(spec, 1, kShape), two(spec, 2, kShape);
  int by_seed = 0, by_epoch = 0, by_sample = 0;
  for (std::uint32_t i = 0; i < 100; ++i) {
    CHECK(written(one, 3, i) == written(one, 3, i));
    by_seed += written(one, 3, i) == written(two, 3, i) ? 1 : 0;
    by_epoch += written(one, 3, i) == written(one, 4, i) ? 1 : 0;
    by_sample += written(one, 3, i) == written(one, 3, i + 100) ? 1 : 0;
  }
  CHECK(by_seed < 10);
  CHECK(by_epoch < 10);
  CHECK(by_sample < 10);
  // Frozen: workers of different builds must agree.
  CHECK(written(one, 3, 0) == moved(2, 1, true));
  CHECK(written(one, 3, 1) == moved(-1, 3, true));
}
