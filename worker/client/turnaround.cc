#include "worker/client/turnaround.h"

#include <algorithm>
#include <cmath>

namespace nanduti {

void Turnaround::on_settled(ProtocolTime now, ShardIndex shard, Sequence settled) {
  settled_.at(shard.value()) = settled;
  const Sequence everywhere = *std::min_element(settled_.begin(), settled_.end());
  while (!open_.empty() && open_.front().sequence < everywhere) {
    taken_.push_back(now - open_.front().pushed);
    if (taken_.size() > kRoundsKept) taken_.pop_front();
    open_.pop_front();
  }
}

Duration Turnaround::percentile(double part) const {
  if (taken_.empty()) return Duration::zero();
  std::vector<Duration> sorted(taken_.begin(), taken_.end());
  const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(sorted.size())));
  const auto nth = sorted.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(rank, 1) - 1);
  std::nth_element(sorted.begin(), nth, sorted.end());
  return *nth;
}

}  // namespace nanduti
