#pragma once

#include <string>
#include <vector>

#include "common/config/server_config.h"
#include "common/config/worker_config.h"

namespace nanduti {

/// What an operator should be told at start about a config that is valid: one sentence each, none as a rule.
std::vector<std::string> warnings(const ServerConfig& config);
std::vector<std::string> warnings(const WorkerConfig& config);

}  // namespace nanduti
