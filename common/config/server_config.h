#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "common/base/log.h"
#include "common/base/protocol_time.h"
#include "common/base/result.h"
#include "common/config/config_text.h"
#include "common/config/endpoint.h"
#include "common/config/transport_key.h"

namespace nanduti {

/// What configs/server.yaml says; configs/README.md documents every key. A key that is left out has the value
/// that stands here.
struct ServerConfig {
  struct Roles {
    bool coordinator = true;
    std::uint32_t shards = 1;  ///< threads that hold a shard each
  };
  struct Listen {
    Endpoint data{"127.0.0.1", 7070};  ///< ZeroMQ: workers and other servers
    /// Operators and tools. Only a coordinator listens here: empty without that role.
    std::optional<Endpoint> http = Endpoint{"127.0.0.1", 7080};
  };
  struct Membership {
    Duration suspend_after = std::chrono::seconds(10);    ///< silence that makes a worker suspended
    Duration dead_after = std::chrono::minutes(10);       ///< silence that makes it dead; longer
    Duration lease_timeout = std::chrono::seconds(120);   ///< after which a lease is lent again
    Duration prepare_timeout = std::chrono::minutes(30);  ///< for a worker to read a job's data
    Duration shard_timeout = std::chrono::minutes(10);    ///< for a shard to do what it was asked
  };

  ConfigText source;
  std::string name;  ///< empty: the program makes one up from host and data port
  Roles roles;
  /// Where the coordinator is. Empty if it is this server.
  std::optional<Endpoint> coordinator;
  Listen listen;
  Security security = Security::kUnset;
  std::filesystem::path storage_directory = "nanduti-data";  ///< relative to the working directory
  Membership membership;
  TransportConfig transport;
  LogLevel log_level = LogLevel::kInfo;
};

/// Reads and checks a server's config. The error is a whole sentence for the operator: file, line, key, what
/// was found, what is allowed.
Result<ServerConfig> load_server_config(const std::filesystem::path& path);

/// The same from text; `name` stands for the file in errors.
Result<ServerConfig> parse_server_config(std::string text, std::string name);

}  // namespace nanduti
