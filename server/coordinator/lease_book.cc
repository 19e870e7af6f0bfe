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
  free_samples_ = options_.samples * options_.epochs;
}

std::optional<LeaseBook::Lease> LeaseBook::lend(IncarnationOrder order, std::uint32_t workers,
                                                std::uint64_t rounds_min) {
  if (free_.empty()) return std::nullopt;
  const auto first = free_.begin();
  const auto [epoch, begin] = first->first;
  const std::uint64_t end = first->second;
  // Guided self-scheduling: half a fair share of what is left; with others, of an epoch at most, or they
  // would be in different ones.
  const std::uint64_t left = workers > 1 ? std::min(free_samples_, options_.samples) : free_samples_;
  const std::uint64_t fair = left / std::max(workers, 1u) / options_.round_samples;
  const std::uint64_t rounds = std::max(fair / 2, std::min(fair, rounds_min));
  const std::uint64_t ahead =
      std::clamp<std::uint64_t>(rounds, 1, kLeaseRoundsAheadMax) * options_.round_samples;
  const std::uint64_t size = std::min({end - begin, ahead, kLeaseRoundsMax * options_.round_samples});
  free_.erase(first);
  if (begin + size < end) free_.emplace(std::pair(epoch, begin + size), end);
  return hold(order, {epoch, begin, begin + size}, ahead);
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
  return hold(order, {epoch, begin, end}, kLeaseRoundsMax * options_.round_samples);
}

LeaseBook::Lease LeaseBook::hold(IncarnationOrder order, const SampleRange& range, std::uint64_t ahead) {
  free_samples_ -= range.size();
  const Lease lease{next_lease_, range, ahead};
  next_lease_ = next_lease_.next();
  held_.emplace(lease.id, Held{order, range, range.begin, ahead});
  return lease;
}

Status LeaseBook::give_back(IncarnationOrder order, LeaseId lease, const SampleRange& range) {
  const auto it = held_.find(lease);
  if (it == held_.end() || it->second.order != order)
    return make_error(ErrorCode::kInvalidArgument, "lease {} is not held by incarnation {}", lease, order);
  SampleRange& held = it->second.range;
  const std::uint64_t next = it->second.next;
  if (range.epoch != held.epoch || range.end != held.end || range.begin < next || range.begin >= range.end)
    return make_error(ErrorCode::kInvalidArgument, "lease {} has samples {} to {} left; {} to {} came back",
                      lease, next, held.end, range.begin, range.end);
  held.end = range.begin;
  if (held.size() == 0) held_.erase(it);
  free(range);
  return {};
}

Result<std::uint64_t> LeaseBook::settle(ShardIndex shard, const SettleEntry& entry) {
  NANDUTI_CHECK(shard.value() < options_.shards);
  Sequence& next = next_sequence_[{entry.order, shard}];
  if (entry.sequence < next) return 0;  // reported again after a lost session
  if (entry.sequence != next)
    return make_error(ErrorCode::kInvalidArgument,
                      "shard {} settled push {} of incarnation {} before push {}", shard, entry.sequence,
                      entry.order, next);
  next = next.next();
  if (entry.lease == LeaseId()) return 0;  // a flush
  auto it = partial_.find({entry.order, entry.sequence});
  if (it == partial_.end()) {
    NANDUTI_RETURN_IF_ERROR(begin_partial(entry));
    it = partial_.emplace(std::pair(entry.order, entry.sequence), Partial{0, entry}).first;
  }
  Partial& partial = it->second;
  if (partial.entry.range != entry.range || partial.entry.lease != entry.lease)
    return make_error(ErrorCode::kInvalidArgument,
                      "push {} of incarnation {} names other samples on shard {}", entry.sequence,
                      entry.order, shard);
  partial.shards |= std::uint64_t{1} << shard.value();
  if (partial.shards != all_shards_) return 0;
  partial_.erase(it);
  const auto lease = held_.find(entry.lease);
  // Not so where an earlier push was an error already.
  if (lease == held_.end() || lease->second.range.begin != entry.range.begin)
    return make_error(ErrorCode::kInvalidArgument, "push {} of incarnation {} skips samples of its lease",
                      entry.sequence, entry.order);
  SampleRange& held = lease->second.range;
  held.begin = entry.range.end;
  counted_.at(entry.range.epoch.value()) += entry.range.size();
  if (held.size() == 0) held_.erase(lease);
  return entry.range.size();
}

/// Whether a round that no shard has settled yet is the next one of its lease. A push names whatever its
/// worker likes.
Status LeaseBook::begin_partial(const SettleEntry& entry) {
  const auto it = held_.find(entry.lease);
  if (it == held_.end() || it->second.order != entry.order)
    return make_error(ErrorCode::kInvalidArgument,
                      "incarnation {} trained on lease {}, which it does not hold", entry.order, entry.lease);
  Held& held = it->second;
  // Without samples only where the whole lease has none.
  const bool has_size = entry.range.end > entry.range.begin || held.range.size() == 0;
  if (entry.range.epoch != held.range.epoch || entry.range.begin != held.next ||
      entry.range.end > held.range.end || entry.range.end < entry.range.begin || !has_size)
    return make_error(ErrorCode::kInvalidArgument,
                      "incarnation {} trained on samples {} to {} where {} to {} of its lease were next",
                      entry.order, entry.range.begin, entry.range.end, held.next, held.range.end);
  if (count_partial(entry.order) >= kPartialRoundsMax)
    return make_error(ErrorCode::kInvalidArgument,
                      "incarnation {} has {} rounds that only some shards have settled", entry.order,
                      kPartialRoundsMax);
  held.next = entry.range.end;
  return {};
}

std::size_t LeaseBook::count_partial(IncarnationOrder order) const {
  const auto first = partial_.lower_bound({order, Sequence()});
  return static_cast<std::size_t>(std::distance(first, partial_.lower_bound({order.next(), Sequence()})));
}

void LeaseBook::fence(IncarnationOrder order) {
  for (auto it = partial_.begin(); it != partial_.end();) {
    if (it->first.first != order) {
      ++it;
      continue;
    }
    repeated_samples_ += it->second.entry.range.size();
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
  std::erase_if(next_sequence_, [&](const auto& next) { return next.first.first == order; });
}

void LeaseBook::free(const SampleRange& range) {
  if (range.size() == 0) return;
  free_samples_ += range.size();
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

std::vector<LeaseBook::Lease> LeaseBook::leases_of(IncarnationOrder order) const {
  std::vector<Lease> leases;
  for (const auto& [id, held] : held_)
    if (held.order == order) leases.push_back({id, held.range, held.ahead});
  return leases;
}

bool LeaseBook::fits(std::uint64_t samples, std::uint32_t epochs, std::size_t shards) const {
  return options_.samples == samples && options_.epochs == epochs && options_.shards == shards &&
         options_.samples > 0 && options_.round_samples > 0 && counted_.size() == epochs;
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
