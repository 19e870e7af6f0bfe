#pragma once

#include <cstdint>
#include <vector>

namespace nanduti {

/// The order in which an epoch visits `count` samples: a permutation of [0, count), all of them equally
/// likely, that is a pure function of its arguments (Fisher-Yates over Philox). Precondition: count < 2^32.
std::vector<std::uint32_t> sample_order(std::uint64_t seed, std::uint32_t epoch, std::uint64_t count);

}  // namespace nanduti
