#pragma once

#include "common/base/log.h"
#include "common/config/yaml_reader.h"

namespace nanduti {

/// Reads `log_level:` of a daemon's config.
inline void read_log_level(YamlReader& root, LogLevel& out) {
  root.choice<LogLevel>("log_level",
                        {{"debug", LogLevel::kDebug},
                         {"info", LogLevel::kInfo},
                         {"warning", LogLevel::kWarning},
                         {"error", LogLevel::kError}},
                        {}, out);
}

}  // namespace nanduti
