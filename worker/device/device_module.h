#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "common/base/result.h"
#include "common/codec/block_codec.h"
#include "common/codec/codec.h"

struct NandutiCudaDevice;

namespace nanduti {

/// The kinds of device that have a module.
enum class DeviceModuleKind {
  kCuda,      ///< libnanduti_cuda.so
  kEmulated,  ///< libnanduti_cuda_emulated.so: the same, on the CPU, for tests
};

/// A device, in a module that is opened at run time (cuda/module/abi.h). Any thread.
class DeviceModule : public std::enable_shared_from_this<DeviceModule> {
 public:
  /// The module lies beside this program or in ../lib/nanduti. Errors: kUnavailable, in words for whoever
  /// wrote `device:`.
  static Result<std::shared_ptr<DeviceModule>> open(DeviceModuleKind kind, std::uint32_t index);
  ~DeviceModule();
  DeviceModule(const DeviceModule&) = delete;
  DeviceModule& operator=(const DeviceModule&) = delete;

  /// What the device is called.
  [[nodiscard]] std::string description() const;
  /// Codes what BlockCodec does, byte for byte, and decodes on the CPU. Where the device fails, it says so
  /// and goes on with the CPU, which gives the same bytes.
  [[nodiscard]] std::shared_ptr<const Codec> make_codec(const BlockCodecOptions& options);

 private:
  struct Functions;
  class OffloadedCodec;
  DeviceModule() = default;

  std::mutex mutex_;  // one thread uses the device at a time
  void* library_ = nullptr;
  std::unique_ptr<Functions> functions_;
  NandutiCudaDevice* device_ = nullptr;
};

}  // namespace nanduti
