// Goal: what the trainer loses against the bare library. Method: LeNet on 28 x 28 images or resnet20 on 3 x
// 32 x 32, batch 64, one thread; trainer and bare oneDNN take turns round by round, in pairs; medians over
// the pairs. Time is the thread's CPU time, so that other work on the machine disturbs little; wall-clock
// figures stand beside it.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <omp.h>

#include "common/base/random.h"
#include "common/compute/onednn/onednn_backend.h"
#include "test/bench/bare_model.h"
#include "test/bench/bench_data.h"
#include "worker/train/host_learner.h"

using namespace nanduti;

namespace {

constexpr std::uint32_t kBatch = 64;
constexpr std::uint64_t kRoundBatches = 8;
constexpr std::uint64_t kRoundImages = kBatch * kRoundBatches;
constexpr std::size_t kPairs = 5;

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Images and the time they took.
struct Tally {
  double images = 0, cpu = 0, wall = 0;

  template <class Work>
  void time(Work work) {
    const double cpu_before = seconds(CLOCK_THREAD_CPUTIME_ID), wall_before = seconds(CLOCK_MONOTONIC);
    work();
    cpu += seconds(CLOCK_THREAD_CPUTIME_ID) - cpu_before;
    wall += seconds(CLOCK_MONOTONIC) - wall_before;
    images += static_cast<double>(kRoundImages);
  }
};

double median(std::array<double, kPairs> values) {
  std::sort(values.begin(), values.end());
  return values[kPairs / 2];
}

std::shared_ptr<const JobData> synthetic_data(const DataShape& shape) {
  constexpr std::uint64_t kCount = 30000;
  const std::uint64_t size = std::uint64_t{shape.channels} * shape.height * shape.width;
  RandomStream random(1);
  std::vector<std::uint8_t> pixels(kCount * size), labels(kCount);
  for (auto& pixel : pixels) pixel = static_cast<std::uint8_t>(random.next_u32());
  for (auto& label : labels) label = static_cast<std::uint8_t>(random.below(10));
  auto data = std::make_shared<JobData>();
  data->shape = shape;
  data->train = {kCount, size, SharedBytes::take(std::move(pixels)), SharedBytes::take(std::move(labels))};
  for (std::size_t p = 0; p < 256; ++p) data->pixel_values[p] = (static_cast<float>(p) - 127.5f) / 73.9f;
  return data;
}

}  // namespace

int main(int argc, char** argv) {
  bool json = false;
  double budget = 10;
  std::string directory, model_name = "lenet";
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--json") {
      json = true;
    } else if (option == "--seconds" && i + 1 < argc) {
      budget = std::atof(argv[++i]);
    } else if (option == "--data" && i + 1 < argc) {
      directory = argv[++i];
    } else if (option == "--model" && i + 1 < argc) {
      model_name = argv[++i];
    } else {
      fail("usage: bench_trainer [--json] [--seconds S] [--model lenet|resnet20] [--data DIRECTORY]");
    }
  }
  if (model_name != "lenet" && model_name != "resnet20") fail("--model is lenet or resnet20");
  if (model_name == "resnet20" && !directory.empty()) fail("--data is for lenet");
  omp_set_num_threads(1);

  const DataShape shape = model_name == "lenet" ? DataShape{1, 28, 28, 10} : DataShape{3, 32, 32, 10};
  const auto data = directory.empty() ? synthetic_data(shape) : load(directory);
  const auto model = resolve_model({.preset = model_name, .layers = {}}, data->shape);
  if (!model.ok()) fail(model.error().message);
  TrainingSpec training;
  training.batch_size = kBatch;
  training.epochs = 1000000;
  training.optimizer.learning_rate = 0.01;
  const auto backend = make_onednn_backend();
  auto created = Trainer::create(make_host_learner(*backend, *model, training.optimizer).value(), *model,
                                 training, data);
  if (!created.ok()) fail(created.error().message);
  Trainer& trainer = **created;
  std::vector<float> x = initial_values(*model, 1, {0, model->space.size()}), progress(x.size());
  BareModel bare(model_name, kBatch);
  std::vector<std::uint8_t> labels(kBatch);
  for (std::uint32_t i = 0; i < kBatch; ++i) labels[i] = static_cast<std::uint8_t>(i % 10);

  RoundSamples samples{0, 0, kRoundImages};
  const auto train = [&] {
    const auto loss = trainer.train_round(x, samples, progress, {});
    if (!loss.ok()) fail(loss.error().message);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] -= progress[i];
    samples.begin = samples.end;
    if (samples.begin + kRoundImages > data->train.count) samples.begin = 0;
    samples.end = samples.begin + kRoundImages;
  };
  const auto compute = [&] {
    for (std::uint64_t i = 0; i < kRoundBatches; ++i) (void)bare.step(labels);
  };
  train();  // both warm
  compute();

  std::array<double, kPairs> ratio{}, trainer_cpu{}, bare_cpu{}, trainer_wall{}, bare_wall{};
  for (std::size_t pair = 0; pair < kPairs; ++pair) {
    Tally trained, computed;
    while (trained.cpu + computed.cpu < budget / kPairs) {
      trained.time(train);
      computed.time(compute);
    }
    trainer_cpu[pair] = trained.images / trained.cpu;
    bare_cpu[pair] = computed.images / computed.cpu;
    trainer_wall[pair] = trained.images / trained.wall;
    bare_wall[pair] = computed.images / computed.wall;
    ratio[pair] = trainer_cpu[pair] / bare_cpu[pair];
    fmt::print(stderr, "pair {}: trainer {:.0f}, bare {:.0f} images per CPU-second, ratio {:.3f}\n", pair + 1,
               trainer_cpu[pair], bare_cpu[pair], ratio[pair]);
  }
  const auto [lowest, highest] = std::minmax_element(ratio.begin(), ratio.end());
  if (json) {
    fmt::print(
        "{{\"trainer_images_per_s\": {:.1f}, \"bare_images_per_s\": {:.1f}, \"ratio\": {:.4f}, "
        "\"ratio_lowest\": {:.4f}, \"ratio_highest\": {:.4f}, \"clock\": \"thread cpu time\", "
        "\"trainer_images_per_wall_s\": {:.1f}, \"bare_images_per_wall_s\": {:.1f}, \"model\": \"{}\", "
        "\"batch_size\": {}, \"threads\": 1, \"pairs\": {}, \"backend\": \"{}\", \"data\": \"{}\"}}\n",
        median(trainer_cpu), median(bare_cpu), median(ratio), *lowest, *highest, median(trainer_wall),
        median(bare_wall), model_name, kBatch, kPairs, backend->name(),
        directory.empty() ? "synthetic" : "files");
  } else {
    fmt::print(
        "{}, batch {}, one thread, {}\n"
        "  trainer  {:8.0f} images per CPU-second  {:8.0f} images/s\n"
        "  bare     {:8.0f} images per CPU-second  {:8.0f} images/s\n"
        "  ratio    {:8.3f} ({:.3f} to {:.3f} over {} pairs)\n",
        model_name, kBatch, backend->name(), median(trainer_cpu), median(trainer_wall), median(bare_cpu),
        median(bare_wall), median(ratio), *lowest, *highest, kPairs);
  }
  return 0;
}
