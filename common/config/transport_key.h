#pragma once

#include <string>

#include "common/config/yaml_reader.h"

namespace nanduti {

/// What `transport:` of a daemon's config says.
struct TransportConfig {
  std::string congestion_control =
      "auto";  ///< of TCP, for what this side sends; a name that the kernel knows
};

/// Reads `transport:` of a daemon's config.
inline void read_transport(YamlReader& root, TransportConfig& out) {
  YamlReader transport = root.map("transport");
  transport.name("congestion_control", out.congestion_control);
  transport.finish();
}

}  // namespace nanduti
