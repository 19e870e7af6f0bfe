#pragma once

#include <cstdint>

namespace nanduti {

/// What of a shard's state survives what.
enum class Durability : std::uint8_t {
  kMemory,  ///< nothing survives the process
  kLog,     ///< what is acknowledged survives the process, but not a loss of power
  kSync,    ///< and a loss of power
};

}  // namespace nanduti
