#include "worker/selftest/selftest.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <utility>

#include "common/base/hardware.h"
#include "common/base/json_writer.h"
#include "common/base/random.h"
#include "common/base/version.h"
#include "common/codec/block_codec.h"
#include "common/compute/reference/reference_backend.h"
#include "common/model/resolved_model.h"
#include "worker/client/host_memory.h"
#include "worker/selftest/golden_payloads.h"
#include "worker/train/host_learner.h"
#include "worker/train/network_description.h"
#include "worker/train/trainer.h"

namespace nanduti {
namespace {

using Clock = std::chrono::steady_clock;

/// Images that can be learned: a pattern for each class, and noise.
std::shared_ptr<const JobData> make_data(const DataShape& shape, std::uint64_t count) {
  RandomStream random(1);
  const std::uint64_t size = std::uint64_t{shape.channels} * shape.height * shape.width;
  std::vector<double> patterns(shape.classes * size);
  for (double& value : patterns) value = random.uniform(60, 196);
  std::vector<std::uint8_t> pixels(count * size), labels(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    labels[i] = static_cast<std::uint8_t>(i % shape.classes);
    for (std::uint64_t p = 0; p < size; ++p)
      pixels[i * size + p] =
          static_cast<std::uint8_t>(patterns[labels[i] * size + p] + random.uniform(-60, 59));
  }
  auto data = std::make_shared<JobData>();
  data->shape = shape;
  data->train = {count, size, SharedBytes::take(std::move(pixels)), SharedBytes::take(std::move(labels))};
  data->test = data->train;
  for (std::size_t p = 0; p < 256; ++p) data->pixel_values[p] = (static_cast<float>(p) - 128.0f) / 64.0f;
  return data;
}

ResolvedModel small_model(const std::vector<LayerSpec>& layers, const DataShape& shape) {
  return resolve_model({"", layers}, shape).value();
}

/// A job's memory on a device, with one shard that is all of it.
class Bench {
 public:
  static Result<std::unique_ptr<Bench>> create(ComputeDevice& device, std::span<const float> initial) {
    Result<std::shared_ptr<WorkingMemory>> memory = device.make_memory();
    if (!memory.ok()) return memory.error();
    auto bench = std::make_unique<Bench>();
    bench->memory_ = *memory;
    bench->size_ = initial.size();
    bench->shard_ = bench->memory_->make_shard({0, bench->size_}, initial);
    bench->buffers_ = bench->memory_->make_buffers(bench->size_);
    NANDUTI_RETURN_IF_ERROR(bench->memory_->status());
    return bench;
  }

  [[nodiscard]] RoundBuffers& buffers() { return *buffers_; }
  /// The parameters, less what has been pushed.
  Status begin() {
    shard_->compute_parameters(buffers_->parameters, {}, {});
    return memory_->status();
  }
  Result<SharedBytes> push(const Codec& codec) {
    SharedBytes payload = shard_->push(buffers_->progress, codec, {});
    NANDUTI_RETURN_IF_ERROR(memory_->status());
    return payload;
  }
  /// What the round has given, in the host's memory.
  Result<std::vector<float>> take_progress() {
    const Result<SharedBytes> payload = push(DenseFloat32Codec());
    if (!payload.ok()) return payload.error();
    std::vector<float> values(size_);
    std::memcpy(values.data(), payload->data(), payload->size());
    return values;
  }
  void settle() { shard_->settle_oldest(); }

 private:
  std::shared_ptr<WorkingMemory> memory_;
  std::uint64_t size_ = 0;
  std::unique_ptr<WorkingShard> shard_;
  std::shared_ptr<RoundBuffers> buffers_;
};

// ---- whether it computes what it should ----

struct LayersCase {
  const char* name;
  std::vector<LayerSpec> layers;
};

std::vector<LayersCase> layer_cases() {
  return {
      {"dense, relu", {DenseSpec{24}, ReluSpec{}, DenseSpec{}}},
      {"conv2d, max_pool", {Conv2dSpec{6, 3, 1, 1}, MaxPoolSpec{2, 2}, FlattenSpec{}, DenseSpec{}}},
      {"conv2d with a stride, average_pool",
       {Conv2dSpec{6, 5, 2, 2}, AveragePoolSpec{3, 2}, FlattenSpec{}, DenseSpec{}}},
      {"batch_norm", {Conv2dSpec{6, 3, 1, 0, false}, BatchNormSpec{}, ReluSpec{}, DenseSpec{}}},
      {"residual, global_average_pool",
       {Conv2dSpec{6, 3, 1, 1, false}, BatchNormSpec{}, ReluSpec{},
        ResidualSpec{{Conv2dSpec{8, 3, 2, 1, false}, BatchNormSpec{}, ReluSpec{},
                      Conv2dSpec{8, 3, 1, 1, false}, BatchNormSpec{}},
                     {Conv2dSpec{8, 1, 2, 0, false}, BatchNormSpec{}}},
        ReluSpec{}, GlobalAveragePoolSpec{}, DenseSpec{}}},
  };
}

struct StepResult {
  std::vector<float> gradient;  ///< of running statistics what they lose
  double loss = 0;
  double evaluated_loss = 0;
};

/// One step by a learning rate of 1: the progress is the gradient. Then an evaluation of the same images.
Result<StepResult> step_on(ComputeDevice& device, const ResolvedModel& model,
                           const std::shared_ptr<const JobData>& data, std::span<const float> initial) {
  TrainingSpec training;
  training.batch_size = static_cast<std::uint32_t>(data->train.count);
  training.optimizer = {OptimizerType::kSgd, 1.0};
  Result<std::unique_ptr<Learner>> learner = device.make_learner(model, training.optimizer);
  if (!learner.ok()) return learner.error();
  const auto trainer = Trainer::create(std::move(learner).value(), model, training, data);
  if (!trainer.ok()) return trainer.error();
  const auto bench = Bench::create(device, initial);
  if (!bench.ok()) return bench.error();
  NANDUTI_RETURN_IF_ERROR((*bench)->begin());
  RoundBuffers& buffers = (*bench)->buffers();
  const Result<BatchLoss> round =
      (*trainer)->train_round(buffers.parameters, {0, 0, data->train.count}, buffers.progress, {});
  if (!round.ok()) return round.error();
  Result<std::vector<float>> gradient = (*bench)->take_progress();
  if (!gradient.ok()) return gradient.error();
  const Result<BatchLoss> evaluated = (*trainer)->evaluate(initial, 0, data->test->count, {});
  if (!evaluated.ok()) return evaluated.error();
  return StepResult{std::move(gradient).value(), round->loss_sum, evaluated->loss_sum};
}

/// The reference backend behind the same interface.
class ReferenceDevice final : public ComputeDevice {
 public:
  [[nodiscard]] std::string description() const override { return backend_->name(); }
  Result<std::unique_ptr<Learner>> make_learner(const ResolvedModel& model,
                                                const OptimizerSpec& optimizer) override {
    return make_host_learner(*backend_, model, optimizer);
  }
  Result<std::shared_ptr<WorkingMemory>> make_memory() override {
    return std::shared_ptr<WorkingMemory>(std::make_shared<HostMemory>());
  }
  Result<DeviceRates> measure_rates() override { return DeviceRates(); }

 private:
  std::unique_ptr<Backend> backend_ = make_reference_backend();
};

/// How far two losses or gradients are from each other; infinite where one is no number.
double distance(double a, double b) {
  const double between = std::abs(a - b);
  return std::isfinite(between) ? between : std::numeric_limits<double>::infinity();
}

/// The largest difference within a tensor, as a share of its largest gradient, or of a thousandth of the
/// network's where that is more: what is no more than rounding has no shape.
double worst_tensor(const ParameterSpace& space, std::span<const float> seen, std::span<const float> expected,
                    std::string& worst_name) {
  double largest_of_all = 0, worst = -1;
  for (const float value : expected)
    largest_of_all = std::max(largest_of_all, std::abs(static_cast<double>(value)));
  for (const TensorPlace& place : space.tensors()) {
    double largest = largest_of_all / 1000, difference = 0;
    for (std::uint64_t i = place.offset; i < place.offset + place.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
      difference = std::max(difference, distance(seen[i], expected[i]));
    }
    if (difference / largest <= worst) continue;
    worst = difference / largest;
    worst_name = place.name;
  }
  return worst;
}

Result<SelfTestReport::Check> check_layers(ComputeDevice& device, const LayersCase& layers, bool tf32) {
  // TF32 has ten bits of a fraction; sums of such products differ by more.
  const double tolerance = tf32 ? 3e-2 : 1e-3;
  const auto data = make_data({3, 13, 12, 5}, 6);
  const ResolvedModel model = small_model(layers.layers, data->shape);
  const std::vector<float> initial = initial_values(model, 1, {0, model.space.size()});
  ReferenceDevice reference;
  const auto seen = step_on(device, model, data, initial);
  if (!seen.ok()) return seen.error();
  const auto expected = step_on(reference, model, data, initial);
  if (!expected.ok()) return expected.error();
  std::string worst_name;
  const double gradients = worst_tensor(model.space, seen->gradient, expected->gradient, worst_name);
  const double losses =
      std::max(distance(seen->loss, expected->loss) / std::abs(expected->loss),
               distance(seen->evaluated_loss, expected->evaluated_loss) / std::abs(expected->evaluated_loss));
  return SelfTestReport::Check{
      fmt::format("layers: {}", layers.name), gradients <= tolerance && losses <= tolerance,
      fmt::format("beside the reference, gradients of {} differ by {:.1e}, losses by {:.1e}; allowed: {:.1e}",
                  worst_name, gradients, losses, tolerance)};
}

Result<SelfTestReport::Check> check_codec(ComputeDevice& device, const GoldenPayload& golden) {
  const std::vector<float> values = golden_values(golden);
  // The parameters of a shadow that holds them are taken for a round's progress.
  const auto bench = Bench::create(device, values);
  if (!bench.ok()) return bench.error();
  NANDUTI_RETURN_IF_ERROR((*bench)->begin());
  std::swap((*bench)->buffers().parameters, (*bench)->buffers().progress);
  const BlockCodec codec(golden.options);
  const Result<SharedBytes> pushed = (*bench)->push(codec);
  if (!pushed.ok()) return pushed.error();
  const SharedBytes& payload = *pushed;
  std::vector<float> residual(values.size(), 0.0f);
  const bool as_cpu = std::ranges::equal(codec.encode(residual, values, {}).payload.view(), payload.view());
  const bool as_known = fingerprint_of(payload) == golden.fingerprint;
  return SelfTestReport::Check{fmt::format("codec: {}", golden.name), as_cpu && as_known,
                               fmt::format("{} bytes, {} the CPU's, {} those that are known", payload.size(),
                                           as_cpu ? "as" : "not as", as_known ? "as" : "not as")};
}

/// What becomes of a shard's numbers in a worker: pushes, versions, pushes that are applied in part or not at
/// all, parameters with what is not coded yet. All as float32 values, one step after the other.
Result<std::vector<SharedBytes>> live_through(WorkingMemory& memory) {
  constexpr std::uint64_t kSize = 3 * kBlockSize + 100;
  RandomStream random(7);
  const auto some_values = [&] {
    std::vector<float> values(kSize);
    for (float& value : values) value = static_cast<float>(random.uniform(-1, 1));
    return values;
  };
  const ParameterRange all{0, kSize};
  const std::vector<float> initial = some_values(), progress = some_values();
  const auto shard = memory.make_shard(all, initial), source = memory.make_shard(all, progress);
  const auto buffers = memory.make_buffers(kSize), more = memory.make_buffers(kSize);
  source->compute_parameters(buffers->progress, {}, {});
  source->compute_parameters(more->progress, {}, {});
  BlockCodecOptions options;
  options.density = 0.1;
  options.dense_segment_begin = 2 * kBlockSize;
  const BlockCodec codec(options);
  const DenseFloat32Codec exactly;
  std::vector<float> change = some_values();
  const SharedBytes version = codec.encode(change, {}, {}).payload;
  std::vector<SharedBytes> seen;
  const auto look = [&](std::span<const float> pending, MergeWeights weights) {
    shard->rebase();
    shard->compute_parameters(buffers->parameters, pending, weights);
    // What a shard without a past pushes exactly is what it was given.
    seen.push_back(memory.make_shard(all, {})->push(buffers->parameters, exactly, {}));
  };
  for (int i = 0; i < 3; ++i) seen.push_back(shard->push(buffers->progress, codec, {}));
  look(more->progress, {1, 1});
  NANDUTI_RETURN_IF_ERROR(shard->add_to_shadow(static_cast<std::uint8_t>(Coding::kBlocks), version, codec));
  shard->settle_oldest();
  look({}, {1, 0.5f});
  shard->take_back_rest(0, 0.25f);
  shard->take_back(1);
  look(more->progress, {0.5f, 1});
  shard->assign({100, kBlockSize}, std::as_bytes(std::span(progress)).data());
  memory.add(more->progress, buffers->progress);
  seen.push_back(shard->push(more->progress, exactly, {}));
  look({}, {1, 1});
  const bool is_left = shard->measure_residual().is_left;
  seen.push_back(SharedBytes::take(std::vector<std::byte>(1, static_cast<std::byte>(is_left))));
  NANDUTI_RETURN_IF_ERROR(memory.status());
  return seen;
}

Result<SelfTestReport::Check> check_working_copy(ComputeDevice& device) {
  Result<std::shared_ptr<WorkingMemory>> memory = device.make_memory();
  if (!memory.ok()) return memory.error();
  const auto seen = live_through(**memory);
  if (!seen.ok()) return seen.error();
  HostMemory host;
  const auto expected = live_through(host);
  if (!expected.ok()) return expected.error();
  std::size_t same = 0;
  while (same < expected->size() && std::ranges::equal((*seen)[same].view(), (*expected)[same].view()))
    ++same;
  return SelfTestReport::Check{
      "the working copy", same == expected->size(),
      fmt::format("pushes and parameters are the host's, bit for bit, in the first {} of {} steps", same,
                  expected->size())};
}

Result<SelfTestReport::Check> check_training(ComputeDevice& device, const char* name,
                                             const OptimizerSpec& optimizer) {
  constexpr std::uint64_t kImages = 240;
  constexpr int kEpochs = 3;
  const auto data = make_data({1, 12, 12, 6}, kImages);
  const ResolvedModel model = small_model(
      {Conv2dSpec{8, 3, 1, 1, false}, BatchNormSpec{}, ReluSpec{}, MaxPoolSpec{2, 2}, DenseSpec{}},
      data->shape);
  TrainingSpec training;
  training.batch_size = 24;
  training.epochs = kEpochs;
  training.optimizer = optimizer;
  Result<std::unique_ptr<Learner>> learner = device.make_learner(model, training.optimizer);
  if (!learner.ok()) return learner.error();
  const auto trainer = Trainer::create(std::move(learner).value(), model, training, data);
  if (!trainer.ok()) return trainer.error();
  const auto bench = Bench::create(device, initial_values(model, 1, {0, model.space.size()}));
  if (!bench.ok()) return bench.error();
  double first = 0, last = 0;
  std::uint64_t correct = 0;
  for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
    NANDUTI_RETURN_IF_ERROR((*bench)->begin());
    if (epoch > 0) NANDUTI_RETURN_IF_ERROR((*trainer)->on_merge());
    RoundBuffers& buffers = (*bench)->buffers();
    const Result<BatchLoss> round =
        (*trainer)->train_round(buffers.parameters, {epoch, 0, kImages}, buffers.progress, {});
    if (!round.ok()) return round.error();
    (epoch == 0 ? first : last) = round->loss_sum / kImages;
    correct = round->correct;
    // In flight, and so part of the next round's parameters.
    const Result<SharedBytes> pushed = (*bench)->push(DenseFloat32Codec());
    if (!pushed.ok()) return pushed.error();
  }
  const double accuracy = static_cast<double>(correct) / kImages;
  return SelfTestReport::Check{
      fmt::format("a short training, {}", name), last < first / 2 && accuracy > 0.9,
      fmt::format("loss {:.3f}, then {:.3f}; {:.0f} of 100 right in the last of {} epochs", first, last,
                  100 * accuracy, kEpochs)};
}

// ---- how fast ----

/// Multiplications and additions of a step, per image: of each convolution and dense layer once forward and
/// once for the weights' gradient, and once for that of the features it takes, if they depend on parameters.
double training_flops(const NetworkDescription& description) {
  double flops = 0;
  std::vector<bool> depends(description.layers.size() + 1);
  for (std::size_t i = 0; i < description.layers.size(); ++i) {
    const NetworkLayer& layer = description.layers[i];
    const bool has_product = layer.kind == LayerKind::kConv2d || layer.kind == LayerKind::kDense;
    depends[i + 1] = has_product || layer.kind == LayerKind::kBatchNorm || depends[layer.source] ||
                     (layer.kind == LayerKind::kAdd && depends[layer.addend]);
    if (!has_product) continue;
    const double inner = layer.kind == LayerKind::kDense
                             ? static_cast<double>(layer.input.size())
                             : static_cast<double>(layer.kernel) * layer.kernel * layer.input.channels;
    flops += (depends[layer.source] ? 3 : 2) * 2 * static_cast<double>(layer.output.size()) * inner;
  }
  return flops;
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

constexpr std::size_t kRunsMin = 3;

/// Per second of `each` things that `action` does at a time, again and again for so long. It has been done
/// before: memory and plans are there.
Result<SelfTestReport::Timing> measure(std::string name, std::string unit, double each, double seconds,
                                       const std::function<Status()>& action) {
  std::vector<double> rates;
  const double began = seconds_since_1970();
  const Clock::time_point end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  while (rates.size() < kRunsMin || Clock::now() < end) {
    const Clock::time_point begin = Clock::now();
    NANDUTI_RETURN_IF_ERROR(action());
    rates.push_back(each / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::ranges::sort(rates);
  SelfTestReport::Timing timing;
  timing.name = std::move(name);
  timing.unit = std::move(unit);
  timing.median = rates[rates.size() / 2];
  timing.lowest = rates.front();
  timing.highest = rates.back();
  timing.begin = began;
  timing.end = seconds_since_1970();
  return timing;
}

/// Whole rounds of two minibatches, with what the host feeds; minibatches are as large as a step of some
/// milliseconds allows.
Result<SelfTestReport::Timing> time_rounds(ComputeDevice& device, const char* preset, const DataShape& shape,
                                           double seconds) {
  constexpr std::uint32_t kBatchMax = 256;
  constexpr double kStepSeconds = 0.05;
  const auto data = make_data(shape, 2 * kBatchMax);
  const ResolvedModel model = resolve_model({preset, {}}, shape).value();
  const std::vector<float> initial = initial_values(model, 1, {0, model.space.size()});
  for (std::uint32_t batch = 1;; batch *= 4) {
    TrainingSpec training;
    training.batch_size = batch;
    training.optimizer.learning_rate = 1e-4;
    Result<std::unique_ptr<Learner>> learner = device.make_learner(model, training.optimizer);
    if (!learner.ok()) return learner.error();
    const auto trainer = Trainer::create(std::move(learner).value(), model, training, data);
    if (!trainer.ok()) return trainer.error();
    const auto bench = Bench::create(device, initial);
    if (!bench.ok()) return bench.error();
    const auto round = [&]() -> Status {
      NANDUTI_RETURN_IF_ERROR((*bench)->begin());
      RoundBuffers& buffers = (*bench)->buffers();
      const Result<BatchLoss> loss =
          (*trainer)->train_round(buffers.parameters, {0, 0, std::uint64_t{2} * batch}, buffers.progress, {});
      return loss.ok() ? Status() : Status(loss.error());
    };
    NANDUTI_RETURN_IF_ERROR(round());
    const Clock::time_point begin = Clock::now();
    NANDUTI_RETURN_IF_ERROR(round());
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    if (batch < kBatchMax && took / 2 * 4 <= kStepSeconds) continue;
    Result<SelfTestReport::Timing> measured = measure(
        fmt::format("rounds of {}, minibatches of {}", preset, batch), "images", 2.0 * batch, seconds, round);
    if (!measured.ok()) return measured;
    measured->flops_per_second = measured->median * training_flops(describe_network(model));
    return measured;
  }
}

/// Progress that comes, 1 in 100 of the values in 2 bits that go.
Result<SelfTestReport::Timing> time_coding(ComputeDevice& device, double seconds) {
  constexpr double kPushSeconds = 0.05;
  constexpr std::uint64_t kValuesMax = std::uint64_t{1} << 24;
  const BlockCodec codec{BlockCodecOptions()};
  for (std::uint64_t size = 16 * kBlockSize;; size *= 4) {
    RandomStream random(1);
    std::vector<float> values(size);
    for (float& value : values) value = static_cast<float>(random.uniform(-1, 1));
    const auto bench = Bench::create(device, values);
    if (!bench.ok()) return bench.error();
    NANDUTI_RETURN_IF_ERROR((*bench)->begin());
    std::swap((*bench)->buffers().parameters, (*bench)->buffers().progress);  // as good as any
    const auto push = [&]() -> Status {
      const Result<SharedBytes> payload = (*bench)->push(codec);
      if (!payload.ok()) return payload.error();
      (*bench)->settle();
      return {};
    };
    NANDUTI_RETURN_IF_ERROR(push());
    const Clock::time_point begin = Clock::now();
    NANDUTI_RETURN_IF_ERROR(push());
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    if (size < kValuesMax && took * 4 < kPushSeconds) continue;
    Result<SelfTestReport::Timing> measured =
        measure(fmt::format("coding of {} values", size), "values", static_cast<double>(size), seconds, push);
    // Residual and progress are read, the residual is written.
    if (measured.ok()) measured->bytes_per_second = 12 * measured->median;
    return measured;
  }
}

}  // namespace

bool SelfTestReport::passed() const {
  return std::ranges::all_of(checks, [](const Check& check) { return check.passed; });
}

Result<SelfTestReport> run_self_test(ComputeDevice& device, const SelfTestOptions& options) {
  SelfTestReport report;
  report.device = device.description();
  report.hardware = describe_hardware();
  report.version = kProgramVersion;
  report.tf32 = options.tf32;
  // A number that is none is the device's fault, and no reason to end.
  const auto keep = [&](const char* what, Result<SelfTestReport::Check> check) -> Status {
    if (!check.ok() && check.error().code == ErrorCode::kInvalidArgument)
      check = SelfTestReport::Check{what, false, check.error().message};
    if (!check.ok()) return check.error().within(what);
    report.checks.push_back(std::move(check).value());
    return {};
  };
  for (const LayersCase& layers : layer_cases())
    NANDUTI_RETURN_IF_ERROR(keep(layers.name, check_layers(device, layers, options.tf32)));
  for (const GoldenPayload& golden : golden_payloads())
    NANDUTI_RETURN_IF_ERROR(keep(golden.name, check_codec(device, golden)));
  NANDUTI_RETURN_IF_ERROR(keep("the working copy", check_working_copy(device)));
  OptimizerSpec momentum{OptimizerType::kMomentum, 0.02}, adamw{OptimizerType::kAdamW, 0.005};
  for (OptimizerSpec* optimizer : {&momentum, &adamw}) optimizer->kept_at_merge = 0.9;
  NANDUTI_RETURN_IF_ERROR(keep("momentum", check_training(device, "momentum", momentum)));
  NANDUTI_RETURN_IF_ERROR(keep("AdamW", check_training(device, "AdamW", adamw)));

  const Result<DeviceRates> rates = device.measure_rates();
  if (!rates.ok()) return rates.error();
  report.rates = *rates;
  const auto time = [&](Result<SelfTestReport::Timing> timing) -> Status {
    // What cannot train has no speed.
    if (!timing.ok() && timing.error().code == ErrorCode::kInvalidArgument) return {};
    if (!timing.ok()) return timing.error();
    const auto share = [](double of, double all) { return all > 0 ? of / all : 0; };
    timing->share_of_products = share(timing->flops_per_second, rates->flops_per_second);
    timing->share_of_peak = share(timing->flops_per_second, rates->peak_flops_per_second);
    timing->share_of_copies = share(timing->bytes_per_second, rates->copy_bytes_per_second);
    report.timings.push_back(std::move(timing).value());
    return {};
  };
  NANDUTI_RETURN_IF_ERROR(time(time_rounds(device, "lenet", {1, 28, 28, 10}, options.seconds)));
  NANDUTI_RETURN_IF_ERROR(time(time_rounds(device, "resnet20", {3, 32, 32, 10}, options.seconds)));
  NANDUTI_RETURN_IF_ERROR(time(time_coding(device, options.seconds)));
  return report;
}

std::string to_json(const SelfTestReport& report) {
  JsonWriter writer;
  writer.begin_object()
      .member("device", std::string_view(report.device))
      .member("hardware", std::string_view(report.hardware))
      .member("version", std::string_view(report.version))
      .member("tf32", report.tf32)
      .member("passed", report.passed());
  writer.key("checks").begin_array();
  for (const SelfTestReport::Check& check : report.checks)
    writer.begin_object()
        .member("name", std::string_view(check.name))
        .member("passed", check.passed)
        .member("detail", std::string_view(check.detail))
        .end_object();
  writer.end_array();
  const auto known = [](double value) { return value > 0 ? std::optional<double>(value) : std::nullopt; };
  writer.key("rates")
      .begin_object()
      .member("copy_bytes_per_second", report.rates.copy_bytes_per_second)
      .member("product_flops_per_second", report.rates.flops_per_second)
      .member("peak_bytes_per_second", known(report.rates.peak_bytes_per_second))
      .member("peak_flops_per_second", known(report.rates.peak_flops_per_second))
      .end_object();
  writer.key("timings").begin_array();
  for (const SelfTestReport::Timing& timing : report.timings)
    writer.begin_object()
        .member("name", std::string_view(timing.name))
        .member("unit", std::string_view(timing.unit))
        .member("median_per_second", timing.median)
        .member("lowest", timing.lowest)
        .member("highest", timing.highest)
        .member("begin", timing.begin)
        .member("end", timing.end)
        .member("flops_per_second", known(timing.flops_per_second))
        .member("share_of_products", known(timing.share_of_products))
        .member("share_of_peak", known(timing.share_of_peak))
        .member("bytes_per_second", known(timing.bytes_per_second))
        .member("share_of_copies", known(timing.share_of_copies))
        .end_object();
  writer.end_array().end_object();
  return writer.text() + "\n";
}

std::string to_text(const SelfTestReport& report) {
  std::string text = fmt::format("{}; {}; version {}\n", report.device, report.hardware, report.version);
  for (const SelfTestReport::Check& check : report.checks)
    text += fmt::format("{:6}  {}: {}\n", check.passed ? "ok" : "FAILED", check.name, check.detail);
  text += fmt::format("copies within memory: {:.1f} GB/s; products of matrices: {:.1f} GFLOP/s\n",
                      report.rates.copy_bytes_per_second / 1e9, report.rates.flops_per_second / 1e9);
  if (report.rates.peak_flops_per_second > 0)
    text += fmt::format("by clock and width: {:.1f} GB/s, {:.1f} GFLOP/s\n",
                        report.rates.peak_bytes_per_second / 1e9, report.rates.peak_flops_per_second / 1e9);
  for (const SelfTestReport::Timing& timing : report.timings) {
    text += fmt::format("{}: {:.4g} {}/s ({:.4g} to {:.4g})", timing.name, timing.median, timing.unit,
                        timing.lowest, timing.highest);
    if (timing.flops_per_second > 0)
      text += fmt::format(", {:.2f} GFLOP/s, {:.3f} of products", timing.flops_per_second / 1e9,
                          timing.share_of_products);
    if (timing.share_of_peak > 0) text += fmt::format(", {:.3f} of the peak", timing.share_of_peak);
    if (timing.bytes_per_second > 0)
      text += fmt::format(", {:.2f} GB/s, {:.3f} of copies", timing.bytes_per_second / 1e9,
                          timing.share_of_copies);
    text += "\n";
  }
  return text;
}

}  // namespace nanduti
