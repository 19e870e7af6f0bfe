#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include "cuda/compute/device_rates.h"
#include "cuda/compute/staged_learner.h"
#include "cuda/module/abi.h"
#include "cuda/replica/device_shard.h"
#include "cuda/runtime/device_buffer.h"
#include "cuda/runtime/stream.h"

using namespace nanduti;

struct NandutiCudaDevice {
  int index = 0;
  std::string description;
};

struct NandutiCudaMemory {
  int device = 0;
  DeviceStream stream;
  std::mutex mutex;  // buffers of rounds are given back by whoever has used them last
  std::map<const float*, std::unique_ptr<DeviceBuffer<float>>> values;
};

struct NandutiCudaShard {
  int device = 0;
  std::unique_ptr<DeviceShard> shard;
};

struct NandutiCudaLearner {
  int device = 0;
  std::unique_ptr<StagedLearner> learner;
};

namespace {

void tell(NandutiCudaError* error, ErrorCode code, const std::string& message) {
  const std::size_t length = std::min(message.size(), sizeof error->message - 1);
  std::memcpy(error->message, message.data(), length);
  error->message[length] = 0;
  error->code = static_cast<int>(code);
}

/// Runs `action`; what it returns or throws becomes what C hears.
template <class Action>
int guarded(NandutiCudaError* error, Action action) {
  try {
    const Status status = action();
    if (status.ok()) return 0;
    tell(error, status.error().code, status.error().message);
  } catch (const std::exception& exception) {
    tell(error, ErrorCode::kExhausted, exception.what());
  }
  return 1;
}

/// The same, with the device as the calling thread's.
template <class Action>
int guarded(int device, NandutiCudaError* error, Action action) {
  return guarded(error, [&]() -> Status {
    NANDUTI_RETURN_IF_ERROR(cuda_status(cudaSetDevice(device), "taking the device"));
    return action();
  });
}

/// Gives something of the device's back, once nothing uses it any more: a round that was stopped may not have
/// been waited for.
template <class Object>
void free(Object* object) {
  if (object == nullptr) return;
  (void)cudaSetDevice(object->device);
  (void)cudaDeviceSynchronize();
  delete object;
}

Status describe(NandutiCudaDevice& device) {
  cudaDeviceProp properties{};
  NANDUTI_RETURN_IF_ERROR(
      cuda_status(cudaGetDeviceProperties(&properties, device.index), "asking the device what it is"));
  device.description = fmt::format("{} (compute capability {}.{}, {} MiB)", properties.name, properties.major,
                                   properties.minor, properties.totalGlobalMem >> 20);
  const Status runs = cuda_status(device::can_run(), "this module's kernels");
  return runs.ok() ? runs : Status(runs.error().within(device.description));
}

Status find(std::uint32_t index) {
  int count = 0;
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaGetDeviceCount(&count), "looking for devices"));
  if (index >= static_cast<std::uint32_t>(count))
    return make_error(ErrorCode::kUnavailable, "this machine has {} devices, counted from 0", count);
  NANDUTI_RETURN_IF_ERROR(cuda_status(cudaSetDevice(static_cast<int>(index)), "taking the device"));
  // Who waits sleeps: the host's cores have other work.
  return cuda_status(cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync), "telling the device how to wait");
}

int open(std::uint32_t index, NandutiCudaDevice** device, NandutiCudaError* error) {
  return guarded(error, [&]() -> Status {
    NANDUTI_RETURN_IF_ERROR(find(index));
    auto opened = std::make_unique<NandutiCudaDevice>();
    opened->index = static_cast<int>(index);
    NANDUTI_RETURN_IF_ERROR(describe(*opened));
    *device = opened.release();
    return {};
  });
}

int check(NandutiCudaDevice* device, NandutiCudaError* error) {
  return guarded(device->index, error,
                 [] { return cuda_status(cudaDeviceSynchronize(), "looking after the device"); });
}

int measure_rates(NandutiCudaDevice* device, bool tf32, NandutiCudaRates* rates, NandutiCudaError* error) {
  return guarded(device->index, error, [&]() -> Status {
    const Result<MeasuredRates> measured = measure_device(device->index, tf32);
    if (!measured.ok()) return measured.error();
    *rates = {measured->copy_bytes_per_second, measured->flops_per_second, measured->peak_bytes_per_second,
              measured->peak_flops_per_second};
    return {};
  });
}

int make_memory(NandutiCudaDevice* device, NandutiCudaMemory** memory, NandutiCudaError* error) {
  return guarded(device->index, error, [&]() -> Status {
    auto made = std::make_unique<NandutiCudaMemory>();
    made->device = device->index;
    NANDUTI_RETURN_IF_ERROR(made->stream.make());
    *memory = made.release();
    return {};
  });
}

int allocate(NandutiCudaMemory* memory, std::uint64_t count, float** values, NandutiCudaError* error) {
  return guarded(memory->device, error, [&]() -> Status {
    auto buffer = std::make_unique<DeviceBuffer<float>>();
    NANDUTI_RETURN_IF_ERROR(buffer->clear(count, memory->stream.get()));
    NANDUTI_RETURN_IF_ERROR(memory->stream.wait());
    *values = buffer->data();
    const std::scoped_lock lock(memory->mutex);
    memory->values.emplace(*values, std::move(buffer));
    return {};
  });
}

void release(NandutiCudaMemory* memory, float* values) {
  (void)cudaSetDevice(memory->device);
  // A round that was stopped may not have been waited for.
  (void)cudaDeviceSynchronize();
  const std::scoped_lock lock(memory->mutex);
  memory->values.erase(values);
}

int add(NandutiCudaMemory* memory, const float* more, float* sum, std::uint64_t count,
        NandutiCudaError* error) {
  return guarded(memory->device, error, [&]() -> Status {
    return cuda_status(device::add_values(more, 1.0f, sum, count, memory->stream.get()), "a sum");
  });
}

int make_shard(NandutiCudaMemory* memory, ParameterRange range, const float* initial,
               NandutiCudaShard** shard, NandutiCudaError* error) {
  return guarded(memory->device, error, [&]() -> Status {
    std::span<const float> values;
    if (initial != nullptr) values = {initial, range.size()};
    auto made = DeviceShard::create(range, values, memory->stream.get());
    if (!made.ok()) return made.error();
    *shard = std::make_unique<NandutiCudaShard>(memory->device, std::move(made).value()).release();
    return {};
  });
}

/// A call of a member of the shard's, or of the learner's.
template <class Action>
int on(NandutiCudaShard* shard, NandutiCudaError* error, Action action) {
  return guarded(shard->device, error, [&] { return action(*shard->shard); });
}
template <class Action>
int on(NandutiCudaLearner* learner, NandutiCudaError* error, Action action) {
  return guarded(learner->device, error, [&] { return action(*learner->learner); });
}

int merge(NandutiCudaShard* shard, const void* payload, std::uint64_t size, NandutiCudaError* error) {
  return on(shard, error, [&](DeviceShard& of) {
    return of.add_to_shadow(SharedBytes(nullptr, {static_cast<const std::byte*>(payload), size}));
  });
}

int merge_values(NandutiCudaShard* shard, const float* values, std::uint64_t count, NandutiCudaError* error) {
  return on(shard, error, [&](DeviceShard& of) { return of.add_to_shadow(std::span(values, count)); });
}

int assign(NandutiCudaShard* shard, ParameterRange range, const void* values, NandutiCudaError* error) {
  return on(shard, error,
            [&](DeviceShard& of) { return of.assign(range, static_cast<const float*>(values)); });
}

BlockCodecOptions options_of(const NandutiCudaCoding& coding) {
  BlockCodecOptions options;
  options.dense_segment_begin = coding.dense_segment_begin;
  options.value_bits = coding.value_bits;
  options.density = coding.density;
  options.warmup_epochs = coding.warmup_epochs;
  for (std::uint64_t i = 0; i < coding.density_count; ++i) {
    const NandutiCudaDensity& special = coding.densities[i];
    options.densities.push_back({{special.begin, special.end}, special.density});
  }
  return options;
}

int push(NandutiCudaShard* shard, const NandutiCudaPush* push, NandutiCudaError* error) {
  return on(shard, error, [&](DeviceShard& of) -> Status {
    const Result<SharedBytes> payload =
        push->coding == nullptr
            ? of.push_exactly(push->progress)
            : of.push_coded(push->progress, options_of(*push->coding), push->round, push->epochs_done);
    if (!payload.ok()) return payload.error();
    push->take_payload(push->to, payload->data(), payload->size());
    return {};
  });
}

int wait(NandutiCudaShard* shard, NandutiCudaError* error) {
  return on(shard, error, [](DeviceShard& of) { return of.wait(); });
}

int settle_oldest(NandutiCudaShard* shard, NandutiCudaError* error) {
  return on(shard, error, [](DeviceShard& of) { return of.settle_oldest(); });
}

int take_back(NandutiCudaShard* shard, std::uint64_t k, NandutiCudaError* error) {
  return on(shard, error, [&](DeviceShard& of) { return of.take_back(k); });
}

int take_back_rest(NandutiCudaShard* shard, std::uint64_t k, float part, NandutiCudaError* error) {
  return on(shard, error, [&](DeviceShard& of) { return of.take_back_rest(k, part); });
}

std::uint64_t bytes_in_flight(const NandutiCudaShard* shard, std::uint64_t k) {
  return shard->shard->bytes_in_flight(k);
}

int compute_parameters(NandutiCudaShard* shard, float* x, const float* pending, float own_work, float rho,
                       NandutiCudaError* error) {
  return on(shard, error, [&](DeviceShard& of) { return of.compute_parameters(x, pending, own_work, rho); });
}

int measure_residual(NandutiCudaShard* shard, NandutiCudaResidual* residual, NandutiCudaError* error) {
  return on(shard, error, [&](DeviceShard& of) -> Status {
    const Result<device::ResidualPart> measured = of.measure_residual();
    if (!measured.ok()) return measured.error();
    *residual = {measured->squares, measured->left};
    return {};
  });
}

DeviceOptimizerOptions optimizer_of(const NandutiCudaLearnerOptions& options) {
  const OptimizerSpec& spec = options.optimizer;
  DeviceOptimizerOptions optimizer;
  switch (spec.type) {
    case OptimizerType::kSgd:
      optimizer.kind = device::OptimizerKind::kSgd;
      break;
    case OptimizerType::kMomentum:
      optimizer.kind = device::OptimizerKind::kMomentum;
      break;
    case OptimizerType::kAdamW:
      optimizer.kind = device::OptimizerKind::kAdamW;
      break;
  }
  optimizer.momentum = spec.momentum;
  optimizer.weight_decay = spec.weight_decay;
  optimizer.beta1 = spec.beta1;
  optimizer.beta2 = spec.beta2;
  optimizer.epsilon = spec.epsilon;
  optimizer.kept_at_merge = spec.kept_at_merge;
  optimizer.trained.assign(options.trained, options.trained + options.trained_count);
  optimizer.buffers.assign(options.buffers, options.buffers + options.buffer_count);
  return optimizer;
}

int make_learner(NandutiCudaDevice* device, const NandutiCudaLearnerOptions* options,
                 NandutiCudaLearner** learner, NandutiCudaError* error) {
  return guarded(device->index, error, [&]() -> Status {
    NetworkDescription description;
    description.layers.assign(options->layers, options->layers + options->layer_count);
    description.parameter_space_size = options->parameter_space_size;
    auto made = StagedLearner::create(description, optimizer_of(*options), {options->tf32});
    if (!made.ok()) return made.error();
    *learner = std::make_unique<NandutiCudaLearner>(device->index, std::move(made).value()).release();
    return {};
  });
}

int input(NandutiCudaLearner* learner, std::uint64_t batch, float** images, NandutiCudaError* error) {
  return on(learner, error, [&](StagedLearner& of) -> Status {
    const Result<std::span<float>> to = of.input(batch);
    if (!to.ok()) return to.error();
    *images = to->data();
    return {};
  });
}

int begin_round(NandutiCudaLearner* learner, const float* x, NandutiCudaError* error) {
  return on(learner, error, [&](StagedLearner& of) { return of.begin_round(x); });
}

int step(NandutiCudaLearner* learner, const std::uint8_t* labels, std::uint64_t batch, double learning_rate,
         NandutiCudaError* error) {
  return on(learner, error,
            [&](StagedLearner& of) { return of.step(std::span(labels, batch), learning_rate); });
}

int finish_round(NandutiCudaLearner* learner, float* progress, NandutiCudaSums* sums,
                 NandutiCudaError* error) {
  return on(learner, error, [&](StagedLearner& of) -> Status {
    const Result<RoundResult> round = of.finish_round(progress);
    if (!round.ok()) return round.error();
    *sums = {round->sums.loss, round->sums.correct, round->is_finite};
    return {};
  });
}

int begin_evaluation(NandutiCudaLearner* learner, const float* x, std::uint64_t count,
                     NandutiCudaError* error) {
  return on(learner, error, [&](StagedLearner& of) { return of.begin_evaluation(std::span(x, count)); });
}

int evaluate(NandutiCudaLearner* learner, const std::uint8_t* labels, std::uint64_t batch,
             NandutiCudaError* error) {
  return on(learner, error, [&](StagedLearner& of) { return of.evaluate(std::span(labels, batch)); });
}

int finish_evaluation(NandutiCudaLearner* learner, NandutiCudaSums* sums, NandutiCudaError* error) {
  return on(learner, error, [&](StagedLearner& of) -> Status {
    const Result<device::LossSums> sum = of.finish_evaluation();
    if (!sum.ok()) return sum.error();
    *sums = {sum->loss, sum->correct, true};
    return {};
  });
}

int on_merge(NandutiCudaLearner* learner, NandutiCudaError* error) {
  return on(learner, error, [](StagedLearner& of) { return of.on_merge(); });
}

int reset(NandutiCudaLearner* learner, NandutiCudaError* error) {
  return on(learner, error, [](StagedLearner& of) { return of.reset(); });
}

constexpr NandutiCudaFunctions kFunctions = {
    .abi = kNandutiCudaAbi,
    .open = open,
    .describe = [](const NandutiCudaDevice* device) { return device->description.c_str(); },
    .close = [](NandutiCudaDevice* device) { delete device; },
    .check = check,
    .measure_rates = measure_rates,
    .make_memory = make_memory,
    .free_memory = free<NandutiCudaMemory>,
    .allocate = allocate,
    .release = release,
    .add = add,
    .make_shard = make_shard,
    .free_shard = free<NandutiCudaShard>,
    .merge = merge,
    .merge_values = merge_values,
    .assign = assign,
    .wait = wait,
    .push = push,
    .settle_oldest = settle_oldest,
    .take_back = take_back,
    .take_back_rest = take_back_rest,
    .bytes_in_flight = bytes_in_flight,
    .compute_parameters = compute_parameters,
    .measure_residual = measure_residual,
    .make_learner = make_learner,
    .free_learner = free<NandutiCudaLearner>,
    .input = input,
    .begin_round = begin_round,
    .step = step,
    .finish_round = finish_round,
    .begin_evaluation = begin_evaluation,
    .evaluate = evaluate,
    .finish_evaluation = finish_evaluation,
    .on_merge = on_merge,
    .reset = reset,
};

}  // namespace

const NandutiCudaFunctions* nanduti_cuda_functions() { return &kFunctions; }
