#pragma once

#include <algorithm>
#include <vector>

#include "server/shard/server_optimizer.h"

namespace nanduti {

/// For a shard of `size` parameters; rows of a hundred.
inline ServerOptimizer some_optimizer(ServerOptimizerType type, std::uint64_t size) {
  constexpr std::uint64_t kRow = 100;
  ServerOptimizerSpec spec;
  spec.type = type;
  std::vector<std::uint64_t> row_ends;
  for (std::uint64_t end = 0; end < size;) row_ends.push_back(end = std::min(end + kRow, size));
  return {spec, size, size, std::move(row_ends)};
}

}  // namespace nanduti
