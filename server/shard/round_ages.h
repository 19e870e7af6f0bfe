#pragma once

#include <cstdint>
#include <deque>

#include "common/base/ids.h"
#include "common/protocol/message.h"

namespace nanduti {

/// How old a push is: rounds that its shard has settled since the version that the push was computed from
/// (DESIGN section 2). Pure; one thread.
class RoundAges {
 public:
  /// Versions that it can look back; a push from before counts as one from the oldest of them.
  static constexpr std::size_t kVersionsKept = 4096;

  void on_round() { ++rounds_; }
  /// The next version holds all rounds so far. Versions are numbered from 0, the one that a shard begins
  /// with.
  void on_version();
  [[nodiscard]] std::uint32_t age(Version base) const;

 private:
  std::uint64_t rounds_ = 0;
  std::deque<std::uint64_t> rounds_at_{0};  // of versions oldest_, oldest_ + 1, ...
  std::uint64_t oldest_ = 0;
};

/// How much of a push is applied, in parts (kAppliedWhole) and at least one: (1 + age / workers) to the power
/// of -`power`, age in rounds of everybody as the polynomial weights of Xie et al., "Asynchronous federated
/// optimization" (2019). Of a worker that is alone it is all: nobody's work is older than what its replica
/// has.
std::uint16_t weigh_age(std::uint32_t age, std::uint32_t workers, double power);

}  // namespace nanduti
