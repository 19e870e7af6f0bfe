// Goal: a worker's numbers and rounds in a module that it opens are those in the host's memory; what is wrong
// is said where a module cannot be opened or fails; all is given back. Method: the emulated module, as a
// worker opens it, beside the host's memory and the reference backend; CUDA's calls that fail.
#include "worker/device/device_module.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <dlfcn.h>

#include "common/base/random.h"
#include "common/codec/block_codec.h"
#include "common/compute/reference/reference_backend.h"
#include "test/fakecuda/module/hooks.h"
#include "test/support/catch.h"
#include "test/worker/train/synthetic_data.h"
#include "worker/client/host_memory.h"
#include "worker/device/host_device.h"
#include "worker/train/trainer.h"

namespace nanduti {
namespace {

#if defined(NANDUTI_EMULATED_DEVICE)

/// A function of the module that is open.
template <class Function>
Function hook(const char* name) {
  const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  void* const library = ::dlopen((folder / "libnanduti_cuda_emulated.so").c_str(), RTLD_NOW | RTLD_NOLOAD);
  void* found = library == nullptr ? nullptr : ::dlsym(library, name);
  if (library != nullptr) ::dlclose(library);
  REQUIRE(found != nullptr);
  return reinterpret_cast<Function>(found);
}

void fail_call(const char* function, std::uint64_t nth, int error) {
  hook<decltype(&nanduti_fakecuda_fail_call)>("nanduti_fakecuda_fail_call")(function, nth, error);
}
bool has_failures_left() {
  return hook<decltype(&nanduti_fakecuda_has_failures_left)>("nanduti_fakecuda_has_failures_left")();
}
std::uint64_t leaks() { return hook<decltype(&nanduti_fakecuda_leaks)>("nanduti_fakecuda_leaks")(); }

std::shared_ptr<DeviceModule> emulated_device() {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated);
  REQUIRE(module.ok());
  return *module;
}

ResolvedModel small_network(const JobData& data) {
  const ModelSpec spec{"",
                       {Conv2dSpec{6, 3, 1, 1, false}, BatchNormSpec{}, ReluSpec{},
                        ResidualSpec{{Conv2dSpec{6, 3, 1, 1, false}, BatchNormSpec{}}, {}}, ReluSpec{},
                        MaxPoolSpec{2, 2}, FlattenSpec{}, DenseSpec{}}};
  return resolve_model(spec, data.shape).value();
}

/// A worker of its own: round after round from its replica's parameters, pushes that settle a while later.
/// What it has seen, in order: losses, evaluations and payloads.
struct Lonely {
  std::vector<double> losses;
  std::vector<SharedBytes> payloads;
  std::vector<double> residuals;
};

Lonely train_alone(ComputeDevice& device, OptimizerType type) {
  const auto data = synthetic_data({2, 8, 8, 4}, 64, 24);
  const ResolvedModel model = small_network(*data);
  TrainingSpec training;
  training.batch_size = 8;
  training.optimizer = {type, 0.02, 0.8, 0.01, 0.85, 0.99, 1e-6, 0.5};
  auto learner = device.make_learner(model, training.optimizer);
  REQUIRE(learner.ok());
  const auto trainer = Trainer::create(std::move(learner).value(), model, training, data).value();
  const std::shared_ptr<WorkingMemory> memory = device.make_memory().value();
  const std::uint64_t size = model.space.size();
  const std::vector<float> initial = initial_values(model, 1, {0, size});
  const std::unique_ptr<WorkingShard> shard = memory->make_shard({0, size}, initial);
  BlockCodecOptions options;
  options.density = 0.1;
  options.dense_segment_begin = model.space.dense_segment_begin();
  const BlockCodec codec(options);
  std::shared_ptr<RoundBuffers> before;
  Lonely seen;
  std::vector<SharedBytes> in_flight;
  for (std::uint32_t round = 0; round < 4; ++round) {
    const std::shared_ptr<RoundBuffers> buffers = memory->make_buffers(size);
    shard->compute_parameters(buffers->parameters, before ? before->progress : std::span<float>(), {1, 1});
    const RoundSamples samples{round / 2, round % 2 * 32u, round % 2 * 32u + 32u};
    const Result<BatchLoss> loss = trainer->train_round(buffers->parameters, samples, buffers->progress, {});
    REQUIRE(loss.ok());
    seen.losses.push_back(loss->loss_sum);
    seen.losses.push_back(trainer->evaluate(initial, 0, 24, {})->loss_sum);
    if (before) {
      seen.payloads.push_back(shard->push(before->progress, codec, {round, 0, 0}));
      in_flight.push_back(seen.payloads.back());
    }
    before = buffers;
    if (in_flight.size() == 2) {
      REQUIRE(
          shard->add_to_shadow(static_cast<std::uint8_t>(Coding::kBlocks), in_flight.front(), codec).ok());
      shard->settle_oldest();
      in_flight.erase(in_flight.begin());
    }
    shard->rebase();
    if (round == 2) REQUIRE(trainer->on_merge().ok());
    seen.residuals.push_back(std::sqrt(shard->measure_residual().squares));
  }
  memory->add(before->progress, before->progress);
  seen.payloads.push_back(shard->push(before->progress, DenseFloat32Codec(), {}));
  CHECK_FALSE(shard->measure_residual().is_left);
  REQUIRE(memory->status().ok());
  return seen;
}

TEST_CASE("a worker's rounds on the emulated device are those on the CPU, and it gives everything back") {
  const auto module = emulated_device();
  CHECK(module->description() == "an emulated device (compute capability 8.6, 262144 MiB)");
  HostDevice host(make_reference_backend());
  for (const OptimizerType type : {OptimizerType::kMomentum, OptimizerType::kAdamW}) {
    const Lonely expected = train_alone(host, type), seen = train_alone(*module, type);
    REQUIRE(seen.losses.size() == expected.losses.size());
    for (std::size_t i = 0; i < seen.losses.size(); ++i)
      CHECK(seen.losses[i] == Approx(expected.losses[i]).epsilon(1e-3));
    for (std::size_t i = 0; i < seen.residuals.size(); ++i)
      CHECK(seen.residuals[i] == Approx(expected.residuals[i]).epsilon(0.02).margin(1e-3));
    REQUIRE(seen.payloads.size() == expected.payloads.size());
    // The last push is exact: residual and progress, gaps included.
    REQUIRE(seen.payloads.back().size() == expected.payloads.back().size());
    const auto values_of = [](const SharedBytes& payload) {
      std::vector<float> values(payload.size() / sizeof(float));
      std::memcpy(values.data(), payload.data(), payload.size());
      return values;
    };
    const std::vector<float> last = values_of(seen.payloads.back()),
                             wanted = values_of(expected.payloads.back());
    double squares = 0, differences = 0;
    for (std::size_t i = 0; i < last.size(); ++i) {
      squares += static_cast<double>(wanted[i]) * wanted[i];
      differences += std::pow(static_cast<double>(last[i]) - wanted[i], 2);
      if (wanted[i] == 0.0f) REQUIRE(std::abs(last[i]) < 1e-6f);
    }
    CHECK(differences <= 1e-3 * squares);
    CHECK(squares > 0);
  }
  CHECK(leaks() == 0);
}

TEST_CASE("a payload that is none is an error of whoever sent it, and the device goes on") {
  const auto module = emulated_device();
  const auto memory = module->make_memory().value();
  const auto shard = memory->make_shard({0, 5000}, {});
  const BlockCodec codec{BlockCodecOptions()};
  for (const std::uint8_t coding : {1, 2, 7}) {
    const Status status = shard->add_to_shadow(coding, SharedBytes::take(std::vector<std::byte>(11)), codec);
    REQUIRE_FALSE(status.ok());
    CHECK(status.error().code == ErrorCode::kCorrupt);
  }
  CHECK(memory->status().ok());
  std::vector<float> change(5000, 0.5f);
  const SharedBytes good = codec.encode(change, {}, {}).payload;
  CHECK(shard->add_to_shadow(static_cast<std::uint8_t>(Coding::kBlocks), good, codec).ok());
  CHECK(memory->status().ok());
}

TEST_CASE("whether the device is lost is what it says itself, not what failed before") {
  const auto module = emulated_device();
  const auto memory = module->make_memory().value();
  fail_call("cudaMalloc", 1, 2);
  (void)memory->make_buffers(10);
  CHECK_FALSE(memory->status().ok());
  CHECK(module->check().ok());
  fail_call("cudaDeviceSynchronize", 1, 719);  // cudaErrorLaunchFailure
  CHECK_FALSE(module->check().ok());
}

TEST_CASE("what fails first is what a device's memory says from then on, and nothing more is asked of it") {
  const auto module = emulated_device();
  for (const char* call : {"cudaMalloc", "cudaLaunchKernel", "cudaMemcpyAsync", "cudaSetDevice"}) {
    for (std::uint64_t nth = 1;; ++nth) {
      INFO(call << ", call " << nth);
      {
        const auto memory = module->make_memory().value();
        fail_call(call, nth, 2);  // cudaErrorMemoryAllocation
        const std::vector<float> values(5000, 1.0f);
        const auto shard = memory->make_shard({0, 5000}, values);
        const auto buffers = memory->make_buffers(5000);
        if (memory->status().ok()) {
          shard->compute_parameters(buffers->parameters, {}, {});
          (void)shard->push(buffers->parameters, BlockCodec(BlockCodecOptions()), {});
          shard->take_back_rest(0, 0.5f);
          shard->take_back(0);
          shard->assign({0, 5000}, std::as_bytes(std::span(values)).data());
        }
        if (has_failures_left()) {
          CHECK(memory->status().ok());
          CHECK(nth > 1);
          break;
        }
        REQUIRE_FALSE(memory->status().ok());
        const auto crossed = hook<decltype(&nanduti_fakecuda_to_device)>("nanduti_fakecuda_to_device");
        const auto came_back = hook<decltype(&nanduti_fakecuda_to_host)>("nanduti_fakecuda_to_host");
        const std::uint64_t before = crossed() + came_back();
        (void)shard->push(buffers->progress, DenseFloat32Codec(), {});
        shard->assign({0, 5000}, std::as_bytes(std::span(values)).data());
        shard->take_back(0);
        CHECK(crossed() + came_back() == before);
        CHECK(memory->status().error().message.find("an emulated device") == 0);
        CHECK(memory->status().error().message.find("cudaErrorMemoryAllocation") != std::string::npos);
      }
      CHECK(leaks() == 0);
    }
    hook<decltype(&nanduti_fakecuda_reset)>("nanduti_fakecuda_reset")();  // what has not failed
  }
}

TEST_CASE("a network that the device has no memory for is an error that says so") {
  const auto module = emulated_device();
  const auto data = synthetic_data({2, 8, 8, 4}, 20, 0);
  for (const char* call : {"cudaMalloc", "cudnnCreate", "cublasCreate_v2"}) {
    fail_call(call, 1, 2);
    const auto learner = module->make_learner(small_network(*data), {});
    REQUIRE_FALSE(learner.ok());
    CHECK(learner.error().message.find("an emulated device") == 0);
  }
  CHECK(leaks() == 0);
}

TEST_CASE("a device that this module has no kernels for is not opened") {
  const auto kept = emulated_device();
  fail_call("cudaFuncGetAttributes", 1, 209);
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated);
  REQUIRE_FALSE(module.ok());
  CHECK(module.error().message.find("compute capability 8.6") != std::string::npos);
  CHECK(module.error().message.find("cudaErrorNoKernelImageForDevice") != std::string::npos);
}

TEST_CASE("buffers and shards outlive what their module was asked through, and give everything back") {
  const auto kept = emulated_device();
  std::shared_ptr<RoundBuffers> buffers;
  std::unique_ptr<WorkingShard> shard;
  {
    const auto module = emulated_device();
    const auto memory = module->make_memory().value();
    buffers = memory->make_buffers(5000);
    shard = memory->make_shard({0, 5000}, {});
  }
  shard->compute_parameters(buffers->parameters, {}, {});
  CHECK(leaks() > 0);
  shard.reset();
  buffers.reset();
  CHECK(leaks() == 0);
}

TEST_CASE("a device that the emulated machine has not is an error that says so") {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, {.index = 1});
  REQUIRE_FALSE(module.ok());
  CHECK(module.error().code == ErrorCode::kUnavailable);
  CHECK(module.error().message == "this machine has 1 devices, counted from 0");
}

#else

TEST_CASE("without CUDA's headers there is no emulated device, and the error says why") {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated);
  REQUIRE_FALSE(module.ok());
  CHECK(module.error().message.find("where CUDA's and cuDNN's headers are found") != std::string::npos);
}

#endif

}  // namespace
}  // namespace nanduti
