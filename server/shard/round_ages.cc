#include "server/shard/round_ages.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nanduti {

void RoundAges::on_version() {
  rounds_at_.push_back(rounds_);
  if (rounds_at_.size() <= kVersionsKept) return;
  rounds_at_.pop_front();
  ++oldest_;
}

std::uint32_t RoundAges::age(Version base) const {
  const std::uint64_t newest = oldest_ + rounds_at_.size() - 1;
  const std::uint64_t version = std::clamp(base.value(), oldest_, newest);
  const std::uint64_t age = rounds_ - rounds_at_[version - oldest_];
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(age, std::numeric_limits<std::uint32_t>::max()));
}

std::uint16_t weigh_age(std::uint32_t age, std::uint32_t workers, double power) {
  if (power == 0 || workers <= 1) return kAppliedWhole;
  const double weight = std::pow(1 + static_cast<double>(age) / workers, -power);
  return static_cast<std::uint16_t>(std::max(std::lround(weight * kAppliedWhole), 1L));
}

}  // namespace nanduti
