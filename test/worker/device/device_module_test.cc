// Goal: a module that the worker opens codes what the CPU codes, says what is wrong where it cannot be
// opened, and loses nothing where its device fails. Method: the emulated module, as a worker opens it, beside
// BlockCodec; CUDA's calls that fail.
#include "worker/device/device_module.h"

#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <dlfcn.h>

#include "common/base/random.h"
#include "common/codec/coding_spec.h"
#include "test/fakecuda/module/hooks.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

#if defined(NANDUTI_EMULATED_DEVICE)

std::vector<float> some_values(RandomStream& random, std::size_t size) {
  std::vector<float> values(size);
  for (float& value : values)
    value = static_cast<float>(random.uniform(-1, 1) * std::exp2(random.uniform(-20, 20)));
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

/// Encodes with both, checks that all is the same.
void check_same(const Codec& device, const Codec& cpu, const std::vector<float>& residual,
                const std::vector<float>& progress, const CodingContext& context) {
  std::vector<float> on_device = residual, on_cpu = residual;
  const EncodedUpdate from_device = device.encode(on_device, progress, context);
  const EncodedUpdate from_cpu = cpu.encode(on_cpu, progress, context);
  CHECK(std::ranges::equal(from_device.payload.view(), from_cpu.payload.view()));
  CHECK(same_bits(on_device, on_cpu));
  CHECK(from_device.update.size == from_cpu.update.size);
  CHECK(from_device.update.dense == from_cpu.update.dense);
  CHECK(std::ranges::equal(from_device.update.indices, from_cpu.update.indices));
  const auto bytes_of = [](std::span<const float> values) { return std::as_bytes(values); };
  CHECK(std::ranges::equal(bytes_of(from_device.update.values), bytes_of(from_cpu.update.values)));
}

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

/// What the device has loaded to select values.
std::uint64_t device_work() {
  return hook<decltype(&nanduti_fakecuda_loaded)>("nanduti_fakecuda_loaded")("select_fast");
}

BlockCodecOptions some_options() {
  BlockCodecOptions options;
  options.dense_segment_begin = 3 * kBlockSize;
  options.densities = {{{kBlockSize, 2 * kBlockSize}, 0.2}};
  options.warmup_epochs = 2;
  return options;
}

TEST_CASE("the emulated module codes what the CPU codes: shards in turns, epochs, tensors") {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
  REQUIRE(module.ok());
  CHECK((*module)->description() == "an emulated device (compute capability 8.6, 262144 MiB)");
  const std::shared_ptr<const Codec> device = (*module)->make_codec(some_options());
  const BlockCodec cpu(some_options());
  RandomStream random(1);
  for (int round = 0; round < 6; ++round) {
    const CodingContext context{0, (round % 2 == 0 ? 0 : 2) * kBlockSize, round / 2.0};
    const std::size_t size = (round % 2 == 0 ? 2 : 1) * kBlockSize + (round % 2) * 500;
    const std::uint64_t before = device_work();
    check_same(*device, cpu, some_values(random, size),
               round % 3 == 0 ? std::vector<float>() : some_values(random, size), context);
    CHECK(device_work() > before);
  }
  check_same(*device, cpu, {}, {}, {});
}

TEST_CASE("what a worker codes on a device, any codec decodes, and NaN stays for receivers to refuse") {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
  REQUIRE(module.ok());
  const std::shared_ptr<const Codec> device = (*module)->make_codec(some_options());
  RandomStream random(2);
  std::vector<float> residual = some_values(random, 5000);
  const EncodedUpdate encoded = device->encode(residual, {}, {});
  CHECK(device->decode(encoded.payload, 5000).ok());
  residual[17] = std::numeric_limits<float>::quiet_NaN();
  check_same(*device, BlockCodec(some_options()), residual, {}, {});
  CHECK_FALSE(device->decode(device->encode(residual, {}, {}).payload, 5000).ok());
}

TEST_CASE("where a device fails, the CPU goes on with the same bytes, and the device again when it can") {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
  REQUIRE(module.ok());
  const auto fail_call = hook<decltype(&nanduti_fakecuda_fail_call)>("nanduti_fakecuda_fail_call");
  const auto has_failures_left =
      hook<decltype(&nanduti_fakecuda_has_failures_left)>("nanduti_fakecuda_has_failures_left");
  const BlockCodec cpu(some_options());
  RandomStream random(3);
  const std::vector<std::pair<const char*, std::uint64_t>> failures = {{"cudaSetDevice", 1},
                                                                       {"cudaSetDevice", 2},
                                                                       {"cudaStreamCreateWithFlags", 1},
                                                                       {"cudaMalloc", 1},
                                                                       {"cudaMalloc", 7},
                                                                       {"cudaMemcpyAsync", 1},
                                                                       {"cudaMemcpyAsync", 7},
                                                                       {"cudaLaunchKernel", 1},
                                                                       {"cudaLaunchKernel", 5},
                                                                       {"cudaStreamSynchronize", 1},
                                                                       {"cudaStreamSynchronize", 3}};
  for (const auto& [function, nth] : failures) {
    CAPTURE(function, nth);
    const std::shared_ptr<const Codec> device = (*module)->make_codec(some_options());
    fail_call(function, nth, 2);  // cudaErrorMemoryAllocation
    check_same(*device, cpu, some_values(random, 6000), some_values(random, 6000), {});
    CHECK_FALSE(has_failures_left());
    const std::uint64_t before = device_work();
    check_same(*device, cpu, some_values(random, 6000), some_values(random, 6000), {});
    CHECK(device_work() > before);
  }
}

TEST_CASE("a device that this module has no kernels for is not opened") {
  const auto kept = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
  REQUIRE(kept.ok());
  hook<decltype(&nanduti_fakecuda_fail_call)>("nanduti_fakecuda_fail_call")("cudaFuncGetAttributes", 1, 209);
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
  REQUIRE_FALSE(module.ok());
  CHECK(module.error().message.find("compute capability 8.6") != std::string::npos);
  CHECK(module.error().message.find("cudaErrorNoKernelImageForDevice") != std::string::npos);
}

TEST_CASE("a codec gives everything back, also when it outlives what its module was asked through") {
  std::shared_ptr<const Codec> device;
  const auto kept = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
  REQUIRE(kept.ok());
  const auto leaks = hook<decltype(&nanduti_fakecuda_leaks)>("nanduti_fakecuda_leaks");
  {
    const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
    REQUIRE(module.ok());
    device = (*module)->make_codec(some_options());
  }
  std::vector<float> residual(5000, 1.0f);
  CHECK(device->encode(residual, {}, {}).payload.size() > 0);
  CHECK(leaks() > 0);
  device.reset();
  CHECK(leaks() == 0);
}

TEST_CASE("pushes of a job are coded on the device, versions are not") {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
  REQUIRE(module.ok());
  const ParameterSpace space({{"0.weight", {100, 100}}});
  int made = 0;
  const Result<JobCodecs> codecs = make_codecs({}, space, [&](const BlockCodecOptions& options) {
    ++made;
    CHECK(options.density == CompressionSpec().push.density);
    return (*module)->make_codec(options);
  });
  REQUIRE(codecs.ok());
  CHECK(made == 1);
}

TEST_CASE("a device that the emulated machine has not is an error that says so") {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, 1);
  REQUIRE_FALSE(module.ok());
  CHECK(module.error().code == ErrorCode::kUnavailable);
  CHECK(module.error().message == "this machine has 1 devices, counted from 0");
}

#else

TEST_CASE("without CUDA's headers there is no emulated device, and the error says why") {
  const auto module = DeviceModule::open(DeviceModuleKind::kEmulated, 0);
  REQUIRE_FALSE(module.ok());
  CHECK(module.error().message.find("where CUDA's headers are found") != std::string::npos);
}

#endif

}  // namespace
}  // namespace nanduti
