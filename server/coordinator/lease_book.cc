#include "server/coordinator/lease_book.h"

#include <algorithm>

#include "common/base/check.h"

namespace nanduti {

LeaseBook::LeaseBook(const LeaseBookOptions& options)
    : options_(options),
      all_shards_(options.shards >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << options.shards) - 1),
      counted_(options.epochs) {
  NANDUTI_CHECK(options_.samples > 0 && options_.round_samples > 0);
  NANDUTI_CHECK(options_.shards > 0 && options_.shards <= kShardsMax);
  for (std::uint32_t epoch = 0; epoch < options_.epochs; ++epoch)
    free_.emplace(std::pair(DataEpoch(epoch), 0), options_.samples);
}

std::optional<LeaseBook::Lease> LeaseBook::lend(IncarnationOrder order, std::uint32_t workers) {
  if (free_.empty()) return std::nullopt;
  const auto first = free_.begin();
  const auto [epoch, begin] = first->first;
  const std::uint64_t end = first->second;
  std::uint64_t free_in_epoch = 0;
  for (const auto& [key, range_end] : free_) {
    if (key.first != epoch) break;
    free_in_epoch += range_end - key.second;
  }
  // Guided self-scheduling: half a fair share of what is left.
  const std::uint64_t share = free_in_epoch / (2 * std::max(workers, 1u)) / options_.round_samples;
  const std::uint64_t rounds = std::clamp<std::uint64_t>(share, 1, kLeaseRoundsMax);
  const std::uint64_t size = std::min(end - begin, rounds * options_.round_samples);
  free_.erase(first);
  if (begin + size < end) free_.emplace(std::pair(epoch, begin + size), end);
  return hold(order, {epoch, begin, begin + size});
}

std::optional<LeaseBook::Lease> LeaseBook::lend_section(IncarnationOrder order, std::uint32_t rank,
                                                        std::uint32_t ranks) {
  NANDUTI_CHECK(rank < ranks);
  const auto rounds_in = [&](std::uint64_t samples) {
    return (samples + options_.round_samples - 1) / options_.round_samples;
  };
  const std::uint64_t section_begin = options_.samples * rank / ranks;
  const std::uint64_t section_end = options_.samples * (rank + 1) / ranks;
  const std::uint64_t rounds_per_epoch = rounds_in((options_.samples + ranks - 1) / ranks);
  SectionCursor& cursor = sections_[rank];
  if (cursor.rounds == rounds_per_epoch) cursor = {cursor.epoch + 1, 0};
  if (cursor.epoch == options_.epochs) return std::nullopt;
  const DataEpoch epoch(cursor.epoch);
  const std::uint64_t begin = std::min(section_begin + cursor.rounds * options_.round_samples, section_end);
  const std::uint64_t end = std::min(begin + kLeaseRoundsMax * options_.round_samples, section_end);
  cursor.rounds += std::max<std::uint64_t>(rounds_in(end - begin), 1);
  if (begin < end) {
    const auto around = std::prev(free_.upper_bound({epoch, begin}));
    const auto [key, around_end] = *around;
    NANDUTI_CHECK(key.first == epoch && key.second <= begin && end <= around_end);
    free_.erase(around);
    if (key.second < begin) free_.emplace(key, begin);
    if (end < around_end) free_.emplace(std::pair(epoch, end), around_end);
  }
  return hold(order, {epoch, begin, end});
}

LeaseBook::Lease LeaseBook::hold(IncarnationOrder order, const SampleRange& range) {
  const Lease lease{next_lease_, range};
  next_lease_ = next_lease_.next();
  held_.emplace(lease.id, Held{order, lease.range});
  return lease;
}

Status LeaseBook::give_back(IncarnationOrder order, LeaseId lease, const SampleRange& range) {
  const auto it = held_.find(lease);
  if (it == held_.end() || it->second.order != order)
    return make_error(ErrorCode::kInvalidArgument, "lease {} is not held by incarnation {}", lease, order);
  SampleRange& held = it->second.range;
  if (range.epoch != held.epoch || range.end != held.end || range.begin < held.begin || range.size() == 0)
    return make_error(ErrorCode::kInvalidArgument, "lease {} holds samples {} to {}; {} to {} came back",
                      lease, held.begin, held.end, range.begin, range.end);
  held.end = range.begin;
  if (held.size() == 0) held_.erase(it);
  free(range);
  return {};
}

Status LeaseBook::settle(ShardIndex shard, const SettleEntry& entry) {
  NANDUTI_CHECK(shard.value() < options_.shards);
  Sequence& next = next_sequence_[{entry.order, shard}];
  if (entry.sequence < next) return {};  // reported again after a lost session
  if (entry.sequence != next)
    return make_error(ErrorCode::kInvalidArgument,
                      "shard {} settled push {} of incarnation {} before push {}", shard, entry.sequence,
                      entry.order, next);
  next = next.next();
  if (entry.lease == LeaseId()) return {};  // a flush
  Partial& partial = partial_[{entry.order, entry.sequence}];
  if (partial.shards == 0) partial.entry = entry;
  const bool same = partial.entry.range == entry.range && partial.entry.lease == entry.lease;
  partial.shards |= std::uint64_t{1} << shard.value();
  if (!same)
    return make_error(ErrorCode::kInvalidArgument,
                      "push {} of incarnation {} names other samples on shard {}", entry.sequence,
                      entry.order, shard);
  if (partial.shards != all_shards_) return {};
  partial_.erase({entry.order, entry.sequence});
  return count(entry);
}

Status LeaseBook::count(const SettleEntry& entry) {
  const auto it = held_.find(entry.lease);
  if (it == held_.end() || it->second.order != entry.order)
    return make_error(ErrorCode::kInvalidArgument,
                      "incarnation {} trained on lease {}, which it does not hold", entry.order, entry.lease);
  SampleRange& held = it->second.range;
  if (entry.range.epoch != held.epoch || entry.range.begin != held.begin || entry.range.end > held.end)
    return make_error(ErrorCode::kInvalidArgument,
                      "incarnation {} trained on samples {} to {} where {} to {} of its lease were next",
                      entry.order, entry.range.begin, entry.range.end, held.begin, held.end);
  held.begin = entry.range.end;
  counted_.at(entry.range.epoch.value()) += entry.range.size();
  if (held.size() == 0) held_.erase(it);
  return {};
}

/// A push names whatever its worker likes; what it did not hold has not been trained.
bool LeaseBook::is_lent(const SettleEntry& entry) const {
  const auto it = held_.find(entry.lease);
  if (it == held_.end() || it->second.order != entry.order) return false;
  const SampleRange& held = it->second.range;
  return entry.range.epoch == held.epoch && entry.range.begin >= held.begin && entry.range.end <= held.end;
}

void LeaseBook::fence(IncarnationOrder order) {
  for (auto it = partial_.begin(); it != partial_.end();) {
    if (it->first.first != order) {
      ++it;
      continue;
    }
    if (is_lent(it->second.entry)) repeated_samples_ += it->second.entry.range.size();
    it = partial_.erase(it);
  }
  for (auto it = held_.begin(); it != held_.end();) {
    if (it->second.order != order) {
      ++it;
      continue;
    }
    free(it->second.range);
    it = held_.erase(it);
  }
}

void LeaseBook::free(const SampleRange& range) {
  if (range.size() == 0) return;
  auto [it, is_new] = free_.emplace(std::pair(range.epoch, range.begin), range.end);
  NANDUTI_CHECK(is_new, "samples from {} of epoch {} are free already", range.begin, range.epoch);
  const auto next = std::next(it);
  if (next != free_.end() && next->first == std::pair(range.epoch, range.end)) {
    it->second = next->second;
    free_.erase(next);
  }
  if (it == free_.begin()) return;
  const auto before = std::prev(it);
  if (before->first.first == range.epoch && before->second == range.begin) {
    before->second = it->second;
    free_.erase(it);
  }
}

bool LeaseBook::holds_lease(IncarnationOrder order) const {
  return std::any_of(held_.begin(), held_.end(),
                     [&](const auto& held) { return held.second.order == order; });
}

std::uint64_t LeaseBook::held_samples(IncarnationOrder order) const {
  std::uint64_t sum = 0;
  for (const auto& [lease, held] : held_)
    if (held.order == order) sum += held.range.size();
  return sum;
}

std::uint64_t LeaseBook::counted(DataEpoch epoch) const { return counted_.at(epoch.value()); }

std::uint64_t LeaseBook::counted_in_all() const {
  std::uint64_t sum = 0;
  for (const std::uint64_t counted : counted_) sum += counted;
  return sum;
}

bool LeaseBook::is_complete() const { return counted_in_all() == options_.samples * options_.epochs; }

}  // namespace nanduti
