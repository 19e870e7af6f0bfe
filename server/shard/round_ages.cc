#include "server/shard/round_ages.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nanduti {

void RoundAges::on_round(IncarnationOrder order, double part) {
  ++settled_.rounds;
  settled_.parts += part;
  std::deque<Own>& own = own_[order];
  own.push_back({oldest_ + at_.size() - 1, part});
  if (own.size() > kOwnKept) own.pop_front();
}

void RoundAges::on_version() {
  at_.push_back(settled_);
  if (at_.size() <= kVersionsKept) return;
  at_.pop_front();
  ++oldest_;
}

std::uint64_t RoundAges::known(Version base) const {
  return std::clamp(base.value(), oldest_, oldest_ + at_.size() - 1);
}

std::uint32_t RoundAges::age(Version base) const {
  const std::uint64_t age = settled_.rounds - at_[known(base) - oldest_].rounds;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(age, std::numeric_limits<std::uint32_t>::max()));
}

double RoundAges::age_by_others(IncarnationOrder order, Version base) const {
  const std::uint64_t version = known(base);
  double age = settled_.parts - at_[version - oldest_].parts;
  if (const auto own = own_.find(order); own != own_.end())
    for (auto it = own->second.rbegin(); it != own->second.rend() && it->version >= version; ++it)
      age -= it->part;
  return std::max(age, 0.0);
}

std::uint16_t weigh_age(double age_by_others, double part, double power) {
  // What has been subtracted may have left a rounding.
  const double age = std::max(age_by_others - (1 - part) - 1e-9, 0.0);
  const double weight = std::pow(1 + age, -power);
  return static_cast<std::uint16_t>(std::max(std::lround(weight * kAppliedWhole), 1L));
}

}  // namespace nanduti
