// Goal: what coding an update takes, in bits and in time. Method:
// - bits: rounds of an MLP 784-2048-2048-10 (momentum 0.9, batch 64), each round's progress through error
// feedback;
//   payload bytes of everything before the dense segment, headers included, for each value sent;
// - encode: the same progress, tiled to 25 M parameters, against e[i] += d[i] on the same arrays;
// - apply: decode and add into 1 MB and 400 MB, against target[index[k]] += value[k] over the same indices.
// Codec and plain loop take turns; each time is the thread's CPU time, and the shortest counts.
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
#include "common/codec/block_codec.h"
#include "common/codec/codec_kernels.h"
#include "common/compute/onednn/onednn_backend.h"
#include "test/bench/bench_data.h"
#include "worker/train/host_learner.h"

using namespace nanduti;

namespace {

constexpr std::array<double, 3> kDensities = {0.001, 0.01, 0.015625};
constexpr std::uint64_t kRounds = 60;
constexpr std::uint64_t kRoundSteps = 4;
constexpr std::uint32_t kBatch = 64;
constexpr std::uint64_t kEncodedSize = 25'000'000 / kBlockSize * kBlockSize;
constexpr std::uint64_t kCachedSize = 1'000'000 / sizeof(float) / kBlockSize * kBlockSize;
constexpr std::uint64_t kLargeSize = 400'000'000 / sizeof(float) / kBlockSize * kBlockSize;
constexpr double kTimedDensity = 0.01;

#if defined(__x86_64__)
#define NANDUTI_BEST_VECTORS __attribute__((target_clones("default", "avx2", "arch=icelake-server")))
#else
#define NANDUTI_BEST_VECTORS
#endif

NANDUTI_BEST_VECTORS void stream(float* e, const float* d, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) e[i] += d[i];
}

void gather_add(float* target, const std::uint32_t* indices, const float* values, std::size_t count) {
  for (std::size_t k = 0; k < count; ++k) target[indices[k]] += values[k];
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// The shortest of what was measured.
struct Shortest {
  double seconds = 1e30;

  template <class Work>
  void time(std::size_t repeats, Work work) {
    const double before = cpu_seconds();
    for (std::size_t i = 0; i < repeats; ++i) work();
    seconds = std::min(seconds, (cpu_seconds() - before) / static_cast<double>(repeats));
  }
};

BlockCodecOptions options_of(double density) {
  BlockCodecOptions options;
  options.density = density;
  return options;
}

/// The progress of rounds of training, without the dense segment.
std::vector<std::vector<float>> train(const std::string& directory) {
  const auto data = load(directory);
  const ModelSpec spec{"", {DenseSpec{2048}, ReluSpec{}, DenseSpec{2048}, ReluSpec{}, DenseSpec{}}};
  const auto model = resolve_model(spec, data->shape);
  if (!model.ok()) fail(model.error().message);
  TrainingSpec training;
  training.batch_size = kBatch;
  training.epochs = 1;
  const auto backend = make_onednn_backend();
  auto trainer = Trainer::create(make_host_learner(*backend, *model, training.optimizer).value(), *model,
                                 training, data);
  if (!trainer.ok()) fail(trainer.error().message);
  std::vector<float> x = initial_values(*model, 1, {0, model->space.size()}), progress(x.size());
  std::vector<std::vector<float>> rounds;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t begin = round * kRoundSteps * kBatch;
    const auto loss = (*trainer)->train_round(x, {0, begin, begin + kRoundSteps * kBatch}, progress, {});
    if (!loss.ok()) fail(loss.error().message);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] -= progress[i];
    rounds.emplace_back(progress.begin(),
                        progress.begin() + static_cast<std::ptrdiff_t>(model->space.dense_segment_begin()));
  }
  return rounds;
}

/// Where there is no data: numbers that are as good for times, and no gradients.
std::vector<std::vector<float>> synthetic() {
  RandomStream random(1);
  std::vector<std::vector<float>> rounds(4, std::vector<float>(1 << 20));
  for (auto& round : rounds)
    for (float& value : round) {
      double sum = -2;
      for (int i = 0; i < 4; ++i) sum += random.uniform();
      value = static_cast<float>(sum);
    }
  return rounds;
}

double bits_per_nonzero(const std::vector<std::vector<float>>& rounds, double density) {
  const BlockCodec codec(options_of(density));
  std::vector<float> residual(rounds.front().size());
  double bits = 0, sent = 0;
  for (const std::vector<float>& progress : rounds) {
    const EncodedUpdate encoded = codec.encode(residual, progress, {});
    bits += 8.0 * static_cast<double>(encoded.payload.size());
    sent += static_cast<double>(encoded.update.values.size());
  }
  return bits / sent;
}

std::vector<float> tiled(const std::vector<float>& values, std::uint64_t size) {
  std::vector<float> all(size);
  for (std::uint64_t i = 0; i < size; ++i) all[i] = values[i % values.size()];
  return all;
}

struct Rates {
  double codec = 0, plain = 0;  ///< items per second
  [[nodiscard]] double ratio() const { return codec / plain; }
};

Rates time_encode(const std::vector<std::vector<float>>& rounds, double budget) {
  const BlockCodec codec(options_of(kTimedDensity));
  std::vector<std::vector<float>> progress;
  for (std::size_t i = 0; i < 3; ++i) progress.push_back(tiled(rounds[rounds.size() - 1 - i], kEncodedSize));
  std::vector<float> residual(kEncodedSize);
  Shortest encoding, streaming;
  std::size_t turn = 0;
  for (double begin = cpu_seconds(); cpu_seconds() < begin + budget; ++turn) {
    const std::vector<float>& added = progress[turn % progress.size()];
    encoding.time(1, [&] { (void)codec.encode(residual, added, {}); });
    if (turn == 0) encoding = {};
    // The same arrays; only the times matter.
    std::vector<float>& other = progress[(turn + 1) % progress.size()];
    streaming.time(1, [&] { stream(other.data(), added.data(), kEncodedSize); });
    for (float& value : other) value *= 0.5f;
  }
  const auto size = static_cast<double>(kEncodedSize);
  return {size / encoding.seconds, size / streaming.seconds};
}

Rates time_apply(const std::vector<std::vector<float>>& rounds, std::uint64_t size, double budget) {
  const BlockCodec codec(options_of(kTimedDensity));
  std::vector<float> residual = tiled(rounds.back(), size), target(size);
  const EncodedUpdate encoded = codec.encode(residual, {}, {});
  residual = {};
  const std::size_t count = encoded.update.values.size();
  const std::size_t repeats = 1 + 1'000'000 / count;
  Shortest applying, gathering;
  for (double begin = cpu_seconds(); cpu_seconds() < begin + budget;) {
    applying.time(repeats, [&] {
      const Result<Update> update = codec.decode(encoded.payload, size);
      if (!update.ok()) fail(update.error().message);
      add(target, *update, -0.5f);
    });
    gathering.time(repeats, [&] {
      gather_add(target.data(), encoded.update.indices.data(), encoded.update.values.data(), count);
    });
  }
  const auto items = static_cast<double>(count);
  return {items / applying.seconds, items / gathering.seconds};
}

}  // namespace

int main(int argc, char** argv) {
  bool json = false;
  double budget = 10;
  std::string directory;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--json") {
      json = true;
    } else if (option == "--seconds" && i + 1 < argc) {
      budget = std::atof(argv[++i]);
    } else if (option == "--data" && i + 1 < argc) {
      directory = argv[++i];
    } else {
      fail("usage: bench_codec [--json] [--seconds S] [--data DIRECTORY]");
    }
  }
  omp_set_num_threads(1);
  const auto rounds = directory.empty() ? synthetic() : train(directory);
  std::array<double, kDensities.size()> bits{};
  for (std::size_t i = 0; i < kDensities.size(); ++i) bits[i] = bits_per_nonzero(rounds, kDensities[i]);
  const Rates encode = time_encode(rounds, budget / 2);
  const Rates cached = time_apply(rounds, kCachedSize, budget / 4);
  const Rates large = time_apply(rounds, kLargeSize, budget / 4);

  const char* const source = directory.empty() ? "synthetic" : "MLP 784-2048-2048-10";
  const Rates& worse = cached.ratio() < large.ratio() ? cached : large;
  if (json) {
    fmt::print(
        "{{\"bits_per_nonzero\": {{\"0.001\": {:.3f}, \"0.01\": {:.3f}, \"0.015625\": {:.3f}}}, "
        "\"encode_params_per_s\": {:.4g}, \"encode_stream_ratio\": {:.3f}, \"stream_params_per_s\": {:.4g}, "
        "\"apply_nonzeros_per_s\": {:.4g}, \"apply_gather_add_ratio\": {:.3f}, "
        "\"apply_cached_nonzeros_per_s\": {:.4g}, \"apply_cached_gather_add_ratio\": {:.3f}, "
        "\"apply_large_nonzeros_per_s\": {:.4g}, \"apply_large_gather_add_ratio\": {:.3f}, "
        "\"data\": \"{}\", \"rounds\": {}, \"steps\": {}, \"kernels\": \"{}\", \"threads\": 1, "
        "\"clock\": \"thread cpu time\"}}\n",
        bits[0], bits[1], bits[2], encode.codec, encode.ratio(), encode.plain, worse.codec, worse.ratio(),
        cached.codec, cached.ratio(), large.codec, large.ratio(), source, rounds.size(),
        directory.empty() ? 0 : kRounds * kRoundSteps, best_kernels().name);
    return 0;
  }
  fmt::print("{}, {} rounds of {} steps, kernels {}, one thread\n", source, rounds.size(),
             directory.empty() ? 0 : kRoundSteps, best_kernels().name);
  for (std::size_t i = 0; i < kDensities.size(); ++i)
    fmt::print("  density {:8.6f}   {:6.3f} bits per value sent\n", kDensities[i], bits[i]);
  constexpr double kStreamBytes = 3 * sizeof(float);
  fmt::print(
      "  encode, 25 M, 1 %  {:7.1f} M parameters/s, {:5.2f} GB/s; e += d {:7.1f}, {:5.2f} GB/s; ratio "
      "{:.3f}\n",
      1e-6 * encode.codec, 1e-9 * kStreamBytes * encode.codec, 1e-6 * encode.plain,
      1e-9 * kStreamBytes * encode.plain, encode.ratio());
  for (const auto& [name, rates] : {std::pair("1 MB", cached), std::pair("400 MB", large)})
    fmt::print("  decode and apply   {:7.1f} M values/s in {:6}; gather-add {:7.1f}; ratio {:.3f}\n",
               1e-6 * rates.codec, name, 1e-6 * rates.plain, rates.ratio());
  return 0;
}
