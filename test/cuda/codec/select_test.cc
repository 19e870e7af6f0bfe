// Goal: the kernels select what the codec on the CPU selects, bit for bit. Method: the plain kernel and the
// fast one on the emulated device, under every schedule, against BlockSelector; values that tie, vanish or
// are none.
#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/codec/block_codec.h"
#include "common/codec/block_selector.h"
#include "common/codec/codec_kernels.h"
#include "common/tensor/parameter_space.h"
#include "cuda/codec/kernels.h"
#include "test/cuda/codec/some_values.h"
#include "test/cuda/device_vector.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

struct Selected {
  std::vector<std::uint32_t> residual;  // as bits
  std::vector<std::vector<std::uint32_t>> indices;
  std::vector<std::vector<std::uint32_t>> values;  // as bits
  std::vector<std::uint32_t> nonzeros;
  friend bool operator==(const Selected&, const Selected&) = default;
};

Selected on_cpu(std::vector<float> residual, const std::vector<float>& progress,
                const std::vector<std::uint32_t>& wanted) {
  Selected selected;
  BlockSelector selector(plain_kernels());
  for (std::size_t block = 0; block < wanted.size(); ++block) {
    const std::size_t begin = block * kBlockSize;
    const std::size_t size = std::min<std::size_t>(kBlockSize, residual.size() - begin);
    Selection selection;
    selection.reset(wanted[block]);
    selector.select(std::span(residual).subspan(begin, size),
                    progress.empty() ? nullptr : progress.data() + begin, wanted[block], 0, selection);
    selected.indices.emplace_back(selection.indices.begin(),
                                  selection.indices.begin() + static_cast<std::ptrdiff_t>(selection.count));
    selection.values.resize(selection.count);
    selected.values.push_back(bits_of(selection.values));
    selected.nonzeros.push_back(static_cast<std::uint32_t>(std::count_if(
        residual.begin() + static_cast<std::ptrdiff_t>(begin),
        residual.begin() + static_cast<std::ptrdiff_t>(begin + size), [](float v) { return v != 0; })));
  }
  selected.residual = bits_of(residual);
  return selected;
}

Selected on_device(const std::vector<float>& residual, const std::vector<float>& progress,
                   const std::vector<std::uint32_t>& wanted, device::Form form) {
  const auto blocks = static_cast<unsigned>(wanted.size());
  std::vector<std::uint32_t> slots;
  std::uint32_t room = 0;
  for (const std::uint32_t of_block : wanted) slots.push_back(std::exchange(room, room + of_block));
  DeviceVector<float> on_residual(residual), on_progress(progress);
  DeviceVector<std::uint32_t> on_wanted(wanted), on_slots(slots);
  DeviceVector<std::uint32_t> indices(room), selected(blocks), nonzeros(blocks);
  DeviceVector<float> values(room);
  const device::SelectArguments arguments{
      on_residual.data(),
      progress.empty() ? nullptr : on_progress.data(),
      residual.size(),
      on_wanted.data(),
      {on_slots.data(), indices.data(), values.data(), selected.data(), nonzeros.data()}};
  REQUIRE(device::select(arguments, blocks, form, nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  Selected result;
  result.residual = bits_of(on_residual.to_host());
  result.nonzeros = nonzeros.to_host();
  const std::vector<std::uint32_t> counts = selected.to_host(), all_indices = indices.to_host();
  const std::vector<float> all_values = values.to_host();
  for (std::size_t block = 0; block < blocks; ++block) {
    REQUIRE(counts[block] <= wanted[block]);
    const auto begin = static_cast<std::ptrdiff_t>(slots[block]),
               end = begin + static_cast<std::ptrdiff_t>(counts[block]);
    result.indices.emplace_back(all_indices.begin() + begin, all_indices.begin() + end);
    result.values.push_back(bits_of({all_values.begin() + begin, all_values.begin() + end}));
  }
  return result;
}

void check(std::size_t size, double density, int kind, bool adds, std::uint64_t seed) {
  CAPTURE(size, density, kind, adds, seed);
  fakecuda::reset();
  RandomStream random(seed);
  const std::vector<float> residual = some_values(random, size, kind);
  const std::vector<float> progress = adds ? some_values(random, size, kind) : std::vector<float>();
  std::vector<std::uint32_t> wanted;
  for (std::size_t begin = 0; begin < size; begin += kBlockSize)
    wanted.push_back(static_cast<std::uint32_t>(
        selected_per_block(density, 0, std::min<std::uint64_t>(kBlockSize, size - begin))));
  const Selected right = on_cpu(residual, progress, wanted);
  CHECK(on_device(residual, progress, wanted, device::Form::kPlain) == right);
  for (const simt::RunOptions options : {simt::RunOptions{simt::Schedule::kForward, 1},
                                         {simt::Schedule::kReverse, 1},
                                         {simt::Schedule::kRandom, seed}}) {
    fakecuda::set_schedule(options);
    CHECK(on_device(residual, progress, wanted, device::Form::kFast) == right);
  }
  CHECK(fakecuda::kernel_failure().empty());
  CHECK(fakecuda::leaks().empty());
}

TEST_CASE("the kernels select what the CPU selects: sizes") {
  for (const std::size_t size : {1, 2, 3, 5, 31, 1023, 1025, 4093, 4095, 4096, 4097, 8191, 8192, 13000})
    for (const bool adds : {false, true}) check(size, 0.01, 0, adds, size);
}

TEST_CASE("the kernels select what the CPU selects: densities and kinds of values") {
  for (int kind = 0; kind < kKinds; ++kind)
    for (const double density : {0.00025, 0.001, 0.01, 1.0 / 64, 0.1, 0.5, 1.0})
      check(9000, density, kind, kind % 2 == 0, static_cast<std::uint64_t>(kind) * 100 + 1);
}

TEST_CASE("the fast kernel moves each value once in and, where progress is added, once out") {
  fakecuda::reset();
  RandomStream random(5);
  const std::size_t size = 64 * kBlockSize;
  const std::vector<float> residual = some_values(random, size, 0), progress = some_values(random, size, 0);
  const std::vector<std::uint32_t> wanted(64, 41);
  (void)on_device(residual, progress, wanted, device::Form::kFast);
  const simt::Traffic moved = fakecuda::traffic().at("select_fast");
  CHECK(moved.loaded_bytes <= 8 * size + 64 * 256 * 8);  // and what each thread asks about its block
  CHECK(moved.stored_bytes == 4 * size + 64 * 41 * 8 + 64 * 8);
}

}  // namespace
}  // namespace nanduti
