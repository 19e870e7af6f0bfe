#pragma once

#include <optional>
#include <string_view>

#include "common/config/config_text.h"
#include "common/config/endpoint.h"
#include "common/config/yaml_reader.h"

namespace nanduti {

/// What an endpoint in a config is for.
enum class EndpointUse {
  kListenData,  ///< ZeroMQ listens: "tcp://" may stand in front, port 0 is any free one
  kListenHttp,  ///< HTTP listens: port 0 is any free one
  kConnect,     ///< ZeroMQ connects: "tcp://" may stand in front, the port is not 0
};

/// Reads an endpoint; leaves `out` alone where the key is absent or wrong.
void read_endpoint(YamlReader& reader, std::string_view key, EndpointUse use, Endpoint& out);

/// Reads `security:` of a daemon's config.
void read_security(YamlReader& root, Security& out);

/// An endpoint that another machine may be behind needs `security: none` written out.
void check_security(YamlReader& reader, std::string_view key, const Endpoint& endpoint, Security security);

}  // namespace nanduti
