#pragma once

#include <cstdint>

namespace nanduti {

/// 4096 consecutive parameters: the unit of selection, coding and scaling.
inline constexpr std::uint64_t kBlockSize = 4096;

/// A half-open range [begin, end) of the parameter space, in parameters.
struct ParameterRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t size() const { return end - begin; }
  friend bool operator==(const ParameterRange&, const ParameterRange&) = default;
};

}  // namespace nanduti
