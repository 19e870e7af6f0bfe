#include "worker/device/device_module.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include <dlfcn.h>

#include "common/base/check.h"
#include "common/codec/block_codec.h"
#include "common/codec/coding_spec.h"
#include "cuda/module/abi.h"
#include "worker/train/network_description.h"
#include "worker/train/optimizer.h"

namespace nanduti {
namespace {

constexpr const char* file_of(DeviceModuleKind kind) {
  return kind == DeviceModuleKind::kCuda ? "libnanduti_cuda.so" : "libnanduti_cuda_emulated.so";
}

constexpr const char* where_from(DeviceModuleKind kind) {
  return kind == DeviceModuleKind::kCuda
             ? "it is built where nvcc, cuDNN and cuBLAS are found"
             : "it is built with the tests, where CUDA's and cuDNN's headers are found";
}

/// Where the module lies; empty: nowhere.
std::filesystem::path find_module(const std::filesystem::path& program_folder, const char* file) {
  for (const std::filesystem::path& folder :
       {program_folder, program_folder.parent_path() / "lib" / "nanduti"}) {
    std::error_code error;
    if (std::filesystem::is_regular_file(folder / file, error)) return folder / file;
  }
  return {};
}

std::string dl_error() {
  const char* const text = ::dlerror();
  return text == nullptr ? "for an unknown reason" : text;
}

}  // namespace

/// What everything that a module has made has in common.
class DeviceModule::Object {
 public:
  explicit Object(std::shared_ptr<DeviceModule> module) : module_(std::move(module)) {}

  [[nodiscard]] const NandutiCudaFunctions& functions() const { return *module_->functions_; }
  [[nodiscard]] std::unique_lock<std::mutex> lock() const {
    std::unique_lock<std::mutex> lock(module_->mutex_, std::defer_lock);
    if (module_->kind_ == DeviceModuleKind::kEmulated) lock.lock();
    return lock;
  }
  /// functions().*function(arguments..., error).
  template <class Function, class... Arguments>
  Status call(Function NandutiCudaFunctions::*function, Arguments... arguments) const {
    const auto locked = lock();
    NandutiCudaError error{};
    if ((functions().*function)(arguments..., &error) == 0) return {};
    return make_error(static_cast<ErrorCode>(error.code), "{}: {}", module_->description(), error.message);
  }
  [[nodiscard]] const std::shared_ptr<DeviceModule>& module() const { return module_; }

 private:
  std::shared_ptr<DeviceModule> module_;
};

class DeviceModule::DeviceLearner final : public Learner, private Object {
 public:
  explicit DeviceLearner(std::shared_ptr<DeviceModule> module) : Object(std::move(module)) {}
  ~DeviceLearner() override {
    const auto locked = lock();
    functions().free_learner(learner_);
  }
  DeviceLearner(const DeviceLearner&) = delete;
  DeviceLearner& operator=(const DeviceLearner&) = delete;

  Status make(const ResolvedModel& model, const OptimizerSpec& optimizer) {
    const NetworkDescription description = describe_network(model);
    image_size_ = description.layers.front().input.size();
    std::vector<ParameterRange> trained, buffers;
    for (const ParameterRange& range : tensor_ranges(model.space))
      (range.begin < model.space.buffers_begin() ? trained : buffers).push_back(range);
    const NandutiCudaLearnerOptions options{description.layers.data(),
                                            description.layers.size(),
                                            description.parameter_space_size,
                                            optimizer,
                                            trained.data(),
                                            trained.size(),
                                            buffers.data(),
                                            buffers.size(),
                                            module()->options_.tf32};
    return call(&NandutiCudaFunctions::make_learner, module()->device_, &options, &learner_);
  }

  Result<std::span<float>> input(std::size_t batch) override {
    float* images = nullptr;
    NANDUTI_RETURN_IF_ERROR(call(&NandutiCudaFunctions::input, learner_, batch, &images));
    return std::span<float>(images, batch * image_size_);
  }
  Status begin_round(std::span<const float> x) override {
    return call(&NandutiCudaFunctions::begin_round, learner_, x.data());
  }
  Status step(std::span<const std::uint8_t> labels, double learning_rate) override {
    return call(&NandutiCudaFunctions::step, learner_, labels.data(), labels.size(), learning_rate);
  }
  Result<Round> finish_round(std::span<float> progress) override {
    NandutiCudaSums sums{};
    NANDUTI_RETURN_IF_ERROR(call(&NandutiCudaFunctions::finish_round, learner_, progress.data(), &sums));
    return Round{{sums.loss, sums.correct}, sums.is_finite};
  }
  Status begin_evaluation(std::span<const float> x) override {
    return call(&NandutiCudaFunctions::begin_evaluation, learner_, x.data(), x.size());
  }
  Status evaluate(std::span<const std::uint8_t> labels) override {
    return call(&NandutiCudaFunctions::evaluate, learner_, labels.data(), labels.size());
  }
  Result<BatchLoss> finish_evaluation() override {
    NandutiCudaSums sums{};
    NANDUTI_RETURN_IF_ERROR(call(&NandutiCudaFunctions::finish_evaluation, learner_, &sums));
    return BatchLoss{sums.loss, sums.correct};
  }
  Status on_merge() override { return call(&NandutiCudaFunctions::on_merge, learner_); }
  Status reset() override { return call(&NandutiCudaFunctions::reset, learner_); }

 private:
  NandutiCudaLearner* learner_ = nullptr;
  std::size_t image_size_ = 0;
};

/// Streams, round buffers, and the first thing that went wrong.
class DeviceModule::DeviceMemory final : public WorkingMemory,
                                         public std::enable_shared_from_this<DeviceMemory>,
                                         private Object {
 public:
  explicit DeviceMemory(std::shared_ptr<DeviceModule> module) : Object(std::move(module)) {}
  ~DeviceMemory() override {
    const auto locked = lock();
    functions().free_memory(memory_);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  Status make() { return call(&NandutiCudaFunctions::make_memory, module()->device_, &memory_); }

  std::unique_ptr<WorkingShard> make_shard(const ParameterRange& range,
                                           std::span<const float> initial) override;
  std::shared_ptr<RoundBuffers> make_buffers(std::uint64_t parameters) override {
    const auto allocate = [&] {
      float* values = nullptr;
      if (status_.ok()) note(call(&NandutiCudaFunctions::allocate, memory_, parameters, &values));
      return std::span<float>(values, parameters);
    };
    auto buffers = std::make_shared<RoundBuffers>();
    buffers->parameters = allocate();
    buffers->progress = allocate();
    buffers->owner =
        std::shared_ptr<void>(buffers->parameters.data(),
                              [self = shared_from_this(), progress = buffers->progress.data()](void* x) {
                                const auto locked = self->lock();
                                for (void* values : {x, static_cast<void*>(progress)})
                                  self->functions().release(self->memory_, static_cast<float*>(values));
                              });
    return buffers;
  }
  void add(std::span<float> sum, std::span<const float> more) override {
    if (status_.ok()) note(call(&NandutiCudaFunctions::add, memory_, more.data(), sum.data(), sum.size()));
  }
  [[nodiscard]] Status status() const override { return status_; }

 private:
  friend DeviceWorkingShard;
  void note(const Status& status) {
    if (status_.ok()) status_ = status;
  }

  NandutiCudaMemory* memory_ = nullptr;
  Status status_;
};

class DeviceModule::DeviceWorkingShard final : public WorkingShard, private Object {
 public:
  DeviceWorkingShard(std::shared_ptr<DeviceMemory> memory, const ParameterRange& range,
                     std::span<const float> initial)
      : Object(memory->module()), memory_(std::move(memory)), size_(range.size()) {
    const float* const from = initial.empty() ? nullptr : initial.data();
    if (is_working())
      memory_->note(call(&NandutiCudaFunctions::make_shard, memory_->memory_, range, from, &shard_));
  }
  ~DeviceWorkingShard() override {
    const auto locked = lock();
    functions().free_shard(shard_);
  }
  DeviceWorkingShard(const DeviceWorkingShard&) = delete;
  DeviceWorkingShard& operator=(const DeviceWorkingShard&) = delete;

  Status add_to_shadow(std::uint8_t coding, const SharedBytes& payload, const Codec& own) override {
    if (!is_working()) return {};
    if (coding == static_cast<std::uint8_t>(Coding::kBlocks)) {
      const Status merged = call(&NandutiCudaFunctions::merge, shard_, payload.data(), payload.size());
      if (!merged.ok() && merged.error().code == ErrorCode::kCorrupt) return merged;
      memory_->note(merged);
      return {};
    }
    const Result<Update> update = decode_update(coding, payload, size_, own);
    if (!update.ok()) return update.error();
    NANDUTI_CHECK(update->dense);
    ask(&NandutiCudaFunctions::merge_values, update->values.data(), update->values.size());
    return {};
  }
  void assign(const ParameterRange& range, const std::byte* values) override {
    ask(&NandutiCudaFunctions::assign, range, values);
    is_assigning_ = true;
  }
  void rebase() override {
    if (std::exchange(is_assigning_, false)) ask(&NandutiCudaFunctions::wait);
  }
  SharedBytes push(std::span<const float> progress, const Codec& codec,
                   const CodingContext& context) override {
    std::vector<std::byte> payload;
    std::vector<NandutiCudaDensity> densities;
    NandutiCudaCoding coding{};
    NandutiCudaPush push{};
    push.progress = progress.data();
    push.round = context.round;
    push.epochs_done = context.epochs_done;
    push.take_payload = [](void* to, const void* bytes, std::uint64_t size) {
      const auto* const begin = static_cast<const std::byte*>(bytes);
      static_cast<std::vector<std::byte>*>(to)->assign(begin, begin + size);
    };
    push.to = &payload;
    if (codec.coding() == Coding::kBlocks) {
      const BlockCodecOptions& options = dynamic_cast<const BlockCodec&>(codec).options();
      for (const DensityRange& special : options.densities)
        densities.push_back({special.range.begin, special.range.end, special.density});
      coding = {options.dense_segment_begin, options.value_bits, options.density,
                options.warmup_epochs,       densities.data(),   densities.size()};
      push.coding = &coding;
    }
    ask(&NandutiCudaFunctions::push, &push);
    return SharedBytes::take(std::move(payload));
  }
  void settle_oldest() override { ask(&NandutiCudaFunctions::settle_oldest); }
  void take_back(std::size_t k) override { ask(&NandutiCudaFunctions::take_back, k); }
  void take_back_rest(std::size_t k, float part) override {
    ask(&NandutiCudaFunctions::take_back_rest, k, part);
  }
  [[nodiscard]] std::size_t bytes_in_flight(std::size_t k) const override {
    return is_working() ? functions().bytes_in_flight(shard_, k) : 0;
  }
  void compute_parameters(std::span<float> x, std::span<const float> pending, MergeWeights weights) override {
    ask(&NandutiCudaFunctions::compute_parameters, x.data(), pending.data(), weights.own_work, weights.rho);
  }
  [[nodiscard]] ResidualMeasure measure_residual() const override {
    NandutiCudaResidual residual{};
    ask(&NandutiCudaFunctions::measure_residual, &residual);
    return {residual.squares, residual.left > 0};
  }

 private:
  [[nodiscard]] bool is_working() const { return memory_->status().ok(); }
  /// A call for this shard; none once something has failed: it is not what the host takes it for.
  template <class Function, class... Arguments>
  void ask(Function NandutiCudaFunctions::*function, Arguments... arguments) const {
    if (is_working()) memory_->note(call(function, shard_, arguments...));
  }

  std::shared_ptr<DeviceMemory> memory_;
  std::uint64_t size_;
  NandutiCudaShard* shard_ = nullptr;
  bool is_assigning_ = false;
};

std::unique_ptr<WorkingShard> DeviceModule::DeviceMemory::make_shard(const ParameterRange& range,
                                                                     std::span<const float> initial) {
  return std::make_unique<DeviceWorkingShard>(shared_from_this(), range, initial);
}

Result<std::shared_ptr<DeviceModule>> DeviceModule::open(DeviceModuleKind kind,
                                                         const DeviceModuleOptions& options) {
  const char* const file = file_of(kind);
  std::error_code failed;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", failed);
  const std::filesystem::path path = find_module(program.parent_path(), file);
  if (path.empty())
    return make_error(ErrorCode::kNotFound, "{} is not in {} and not in ../lib/nanduti from there; {}", file,
                      program.parent_path().string(), where_from(kind));
  if (kind == DeviceModuleKind::kCuda && ::dlopen("libcuda.so.1", RTLD_LAZY) == nullptr)
    return make_error(ErrorCode::kNotFound, "there is no NVIDIA driver on this machine: {}", dl_error());
  const std::shared_ptr<DeviceModule> module(new DeviceModule(kind, options));
  // It stays: CUDA's runtime has threads and keys of threads that may outlive the last use of it.
  module->library_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (module->library_ == nullptr) return make_error(ErrorCode::kUnavailable, "{}", dl_error());
  const auto functions = reinterpret_cast<decltype(&nanduti_cuda_functions)>(
      ::dlsym(module->library_, "nanduti_cuda_functions"));
  if (functions == nullptr || functions()->abi != kNandutiCudaAbi)
    return make_error(ErrorCode::kUnavailable, "{} is of another release than this program", path.string());
  module->functions_ = functions();
  NandutiCudaError error{};
  if (module->functions_->open(options.index, &module->device_, &error) != 0)
    return make_error(ErrorCode::kUnavailable, "{}", error.message);
  return module;
}

DeviceModule::~DeviceModule() {
  if (device_ != nullptr) functions_->close(device_);
  if (library_ != nullptr) ::dlclose(library_);
}

std::string DeviceModule::description() const { return functions_->describe(device_); }

Result<std::unique_ptr<Learner>> DeviceModule::make_learner(const ResolvedModel& model,
                                                            const OptimizerSpec& optimizer) {
  auto learner = std::make_unique<DeviceLearner>(shared_from_this());
  NANDUTI_RETURN_IF_ERROR(learner->make(model, optimizer));
  return std::unique_ptr<Learner>(std::move(learner));
}

Result<std::shared_ptr<WorkingMemory>> DeviceModule::make_memory() {
  auto memory = std::make_shared<DeviceMemory>(shared_from_this());
  NANDUTI_RETURN_IF_ERROR(memory->make());
  return std::shared_ptr<WorkingMemory>(std::move(memory));
}

Status DeviceModule::check() {
  return Object(shared_from_this()).call(&NandutiCudaFunctions::check, device_);
}

Result<DeviceRates> DeviceModule::measure_rates() {
  NandutiCudaRates rates{};
  NANDUTI_RETURN_IF_ERROR(
      Object(shared_from_this()).call(&NandutiCudaFunctions::measure_rates, device_, options_.tf32, &rates));
  return DeviceRates{rates.copy_bytes_per_second, rates.flops_per_second, rates.peak_bytes_per_second,
                     rates.peak_flops_per_second};
}

}  // namespace nanduti
