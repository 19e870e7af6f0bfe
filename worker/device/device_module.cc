#include "worker/device/device_module.h"

#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include <dlfcn.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "cuda/module/abi.h"

namespace nanduti {
namespace {

constexpr const char* file_of(DeviceModuleKind kind) {
  return kind == DeviceModuleKind::kCuda ? "libnanduti_cuda.so" : "libnanduti_cuda_emulated.so";
}

constexpr const char* where_from(DeviceModuleKind kind) {
  return kind == DeviceModuleKind::kCuda ? "it is built where nvcc is found"
                                         : "it is built with the tests, where CUDA's headers are found";
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

struct DeviceModule::Functions {
  decltype(&nanduti_cuda_abi) abi = nullptr;
  decltype(&nanduti_cuda_open) open = nullptr;
  decltype(&nanduti_cuda_describe) describe = nullptr;
  decltype(&nanduti_cuda_close) close = nullptr;
  decltype(&nanduti_cuda_make_encoder) make_encoder = nullptr;
  decltype(&nanduti_cuda_encode) encode = nullptr;
  decltype(&nanduti_cuda_free_encoder) free_encoder = nullptr;

  /// False if the library lacks one.
  bool find_in(void* library) {
    return find(library, "nanduti_cuda_abi", abi) && find(library, "nanduti_cuda_open", open) &&
           find(library, "nanduti_cuda_describe", describe) && find(library, "nanduti_cuda_close", close) &&
           find(library, "nanduti_cuda_make_encoder", make_encoder) &&
           find(library, "nanduti_cuda_encode", encode) &&
           find(library, "nanduti_cuda_free_encoder", free_encoder);
  }

 private:
  template <class Function>
  static bool find(void* library, const char* name, Function& to) {
    to = reinterpret_cast<Function>(::dlsym(library, name));
    return to != nullptr;
  }
};

class DeviceModule::OffloadedCodec final : public Codec {
 public:
  OffloadedCodec(std::shared_ptr<DeviceModule> module, BlockCodecOptions options)
      : module_(std::move(module)), options_(std::move(options)), on_cpu_(options_) {}
  ~OffloadedCodec() override {
    const std::scoped_lock lock(module_->mutex_);
    if (encoder_ != nullptr) module_->functions_->free_encoder(encoder_);
  }
  OffloadedCodec(const OffloadedCodec&) = delete;
  OffloadedCodec& operator=(const OffloadedCodec&) = delete;

  [[nodiscard]] Coding coding() const override { return on_cpu_.coding(); }
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override {
    return on_cpu_.decode(payload, size);
  }
  [[nodiscard]] EncodedUpdate encode(std::span<float> residual, std::span<const float> progress,
                                     const CodingContext& context) const override {
    const std::scoped_lock lock(module_->mutex_);
    after_.resize(residual.size());
    payload_.clear();
    const bool encoded = encode_on_device(residual, progress, context);
    if (encoded) {
      SharedBytes payload = SharedBytes::take(std::exchange(payload_, {}));
      if (Result<Update> update = on_cpu_.decode(payload, residual.size()); update.ok()) {
        std::copy(after_.begin(), after_.end(), residual.begin());
        warned_ = false;
        return {std::move(payload), *std::move(update)};
      }
    }
    EncodedUpdate of_cpu = on_cpu_.encode(residual, progress, context);
    // NaN and infinity are for receivers to refuse, whoever has coded them.
    if (encoded && on_cpu_.decode(of_cpu.payload, residual.size()).ok())
      warn("what it made cannot be decoded");
    return of_cpu;
  }

 private:
  [[nodiscard]] bool encode_on_device(std::span<const float> residual, std::span<const float> progress,
                                      const CodingContext& context) const {
    const Functions& functions = *module_->functions_;
    NandutiCudaError error{};
    if (encoder_ == nullptr && !make_encoder(error)) return warn(error.message);
    const NandutiCudaEncodeRequest request{residual.data(),
                                           progress.empty() ? nullptr : progress.data(),
                                           residual.size(),
                                           context.round,
                                           context.begin,
                                           context.epochs_done,
                                           after_.data(),
                                           [](void* to, const void* bytes, std::uint64_t size) {
                                             const auto* const begin = static_cast<const std::byte*>(bytes);
                                             static_cast<std::vector<std::byte>*>(to)->assign(begin,
                                                                                              begin + size);
                                           },
                                           &payload_};
    return functions.encode(encoder_, &request, &error) == 0 || warn(error.message);
  }
  bool make_encoder(NandutiCudaError& error) const {
    std::vector<NandutiCudaDensity> densities;
    for (const DensityRange& special : options_.densities)
      densities.push_back({special.range.begin, special.range.end, special.density});
    const NandutiCudaEncoderOptions options{
        options_.dense_segment_begin, options_.value_bits, options_.density,
        options_.warmup_epochs,       densities.data(),    densities.size()};
    return module_->functions_->make_encoder(module_->device_, &options, &encoder_, &error) == 0;
  }
  /// Once for a row of failures. False.
  bool warn(const char* why) const {
    if (!std::exchange(warned_, true))
      log_warning("the device does not code: {}; the CPU does it, with the same bytes", why);
    return false;
  }

  const std::shared_ptr<DeviceModule> module_;
  const BlockCodecOptions options_;
  const BlockCodec on_cpu_;
  // Under the module's mutex.
  mutable NandutiCudaEncoder* encoder_ = nullptr;
  mutable std::vector<float> after_;
  mutable std::vector<std::byte> payload_;
  mutable bool warned_ = false;
};

Result<std::shared_ptr<DeviceModule>> DeviceModule::open(DeviceModuleKind kind, std::uint32_t index) {
  const char* const file = file_of(kind);
  std::error_code failed;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", failed);
  const std::filesystem::path path = find_module(program.parent_path(), file);
  if (path.empty())
    return make_error(ErrorCode::kUnavailable, "{} is not in {} and not in ../lib/nanduti from there; {}",
                      file, program.parent_path().string(), where_from(kind));
  const std::shared_ptr<DeviceModule> module(new DeviceModule());
  // It stays: CUDA's runtime has threads and keys of threads that may outlive the last use of it.
  module->library_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (module->library_ == nullptr) return make_error(ErrorCode::kUnavailable, "{}", dl_error());
  module->functions_ = std::make_unique<Functions>();
  if (!module->functions_->find_in(module->library_) || module->functions_->abi() != kNandutiCudaAbi)
    return make_error(ErrorCode::kUnavailable, "{} is of another release than this program", path.string());
  NandutiCudaError error{};
  if (module->functions_->open(index, &module->device_, &error) != 0)
    return make_error(ErrorCode::kUnavailable, "{}", error.message);
  return module;
}

DeviceModule::~DeviceModule() {
  if (device_ != nullptr) functions_->close(device_);
  if (library_ != nullptr) ::dlclose(library_);
}

std::string DeviceModule::description() const { return functions_->describe(device_); }

std::shared_ptr<const Codec> DeviceModule::make_codec(const BlockCodecOptions& options) {
  return std::make_shared<OffloadedCodec>(shared_from_this(), options);
}

}  // namespace nanduti
