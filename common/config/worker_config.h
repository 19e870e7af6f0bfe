#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/log.h"
#include "common/base/result.h"
#include "common/config/config_text.h"
#include "common/config/endpoint.h"
#include "common/config/transport_key.h"

namespace nanduti {

enum class DeviceKind { kAuto, kCpu, kCuda, kEmulated };

/// `device:` auto, cpu, cuda:N or emulated.
struct DeviceChoice {
  DeviceKind kind = DeviceKind::kAuto;
  std::uint32_t index = 0;  ///< N of cuda:N
};

/// What `device:` may be, in words.
std::string device_choices();
/// Empty if it is none of those.
std::optional<DeviceChoice> parse_device(std::string_view text);

/// Which library computes on the CPU: the fastest one that works, oneDNN, or the plain loops.
enum class BackendChoice { kAuto, kOneDnn, kReference };

/// What configs/worker.yaml says; configs/README.md documents every key. A key that is left out has the value
/// that stands here.
struct WorkerConfig {
  ConfigText source;
  std::string name;  ///< empty: the program makes one up from host and process
  std::string site = "local";
  Endpoint coordinator{"127.0.0.1", 7070};
  DeviceChoice device;
  BackendChoice backend = BackendChoice::kAuto;
  bool tf32 = false;  ///< on a GPU, products of 19 bits
  /// Folders whose files jobs may name; at least one has to be there. Relative ones start at the working
  /// directory.
  std::vector<std::filesystem::path> data_roots;
  Security security = Security::kUnset;
  TransportConfig transport;
  LogLevel log_level = LogLevel::kInfo;
};

/// Reads and checks a worker's config; data roots must be folders on this machine. The error is a whole
/// sentence for the operator: file, line, key, what was found, what is allowed.
Result<WorkerConfig> load_worker_config(const std::filesystem::path& path);

/// The same from text, without a look at the file system; `name` stands for the file in errors.
Result<WorkerConfig> parse_worker_config(std::string text, std::string name);

}  // namespace nanduti
