#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/protocol/message_archive.h"

namespace nanduti {

/// Rounds of one lease at most: as many as a worker's window lets it push unacknowledged.
inline constexpr std::uint64_t kLeaseRoundsMax = 64;
/// Rounds that a worker has before it, where as many are left: more than its window by what is still on its
/// way when it asks, so that it does not run out of samples before its window ends.
inline constexpr std::uint64_t kLeaseRoundsAheadMax = 96;
/// Rounds of one incarnation that some shards have settled and others have not; beyond: an error. More than
/// any worker's window holds.
inline constexpr std::size_t kPartialRoundsMax = 1024;

struct LeaseBookOptions {
  std::uint64_t samples = 0;  ///< of the training set
  std::uint32_t epochs = 1;
  std::uint64_t round_samples = 1;  ///< local_steps * batch_size
  std::uint32_t shards = 1;         ///< at most kShardsMax
  template <class Archive>
  void archive(Archive& a) {
    a(samples, epochs, round_samples, shards);
  }
};

/// The samples of a job: lent, given back, counted. A sample counts once every shard has durably settled its
/// round, and each sample of each epoch counts exactly once, whoever dies (DESIGN section 2). Epochs follow
/// each other without a barrier. Pure; one thread.
class LeaseBook {
 public:
  LeaseBook() = default;  ///< to be read from an archive
  explicit LeaseBook(const LeaseBookOptions& options);

  struct Lease {
    LeaseId id;
    SampleRange range;        ///< of one epoch
    std::uint64_t ahead = 0;  ///< LeaseGrant::ahead
  };
  /// Lends the first free run of samples: whole rounds, so few that `workers` are in the same epoch, and
  /// fewer as the job ends so that they finish together, to within `rounds_min`: half a fair share of what is
  /// left, and, of a fair share, at least that many rounds. Empty if nothing is free now.
  std::optional<Lease> lend(IncarnationOrder order, std::uint32_t workers, std::uint64_t rounds_min = 1);
  /// Of rounds in leases from now on.
  void set_round_samples(std::uint64_t samples) { options_.round_samples = samples; }
  /// Lends the next run of rank `rank`'s own section of the epoch, for deterministic jobs: what a rank is
  /// lent depends on nothing but the numbers. All ranks have equally many rounds in every epoch; where a
  /// section is a round short, the last lease is empty and its round has no samples. Empty if the rank has
  /// had everything. Precondition: nothing has been lent but by this function with the same `ranks`.
  std::optional<Lease> lend_section(IncarnationOrder order, std::uint32_t rank, std::uint32_t ranks);
  /// The holder will not begin [range.begin, range.end), the end of its lease. Errors: kInvalidArgument.
  Status give_back(IncarnationOrder order, LeaseId lease, const SampleRange& range);
  /// A shard has settled a push. Returns how many samples count now that did not before: those of the round
  /// if this was the last shard. The same report again changes nothing. Errors: kInvalidArgument if the push
  /// is not the next round of a lease of that incarnation, or kPartialRoundsMax; the incarnation must be
  /// fenced then.
  Result<std::uint64_t> settle(ShardIndex shard, const SettleEntry& entry);
  /// Nothing of this incarnation settles any more on any shard: what did not count is free again.
  void fence(IncarnationOrder order);

  /// What is left of the leases that this incarnation holds, as granted.
  [[nodiscard]] std::vector<Lease> leases_of(IncarnationOrder order) const;
  [[nodiscard]] bool holds_lease(IncarnationOrder order) const;
  /// Samples lent to this incarnation that do not count yet.
  [[nodiscard]] std::uint64_t held_samples(IncarnationOrder order) const;
  [[nodiscard]] bool has_free() const { return !free_.empty(); }
  /// Samples of an epoch that count.
  [[nodiscard]] std::uint64_t counted(DataEpoch epoch) const;
  [[nodiscard]] std::uint64_t counted_in_all() const;
  [[nodiscard]] bool is_complete(DataEpoch epoch) const { return counted(epoch) == options_.samples; }
  [[nodiscard]] bool is_complete() const;
  /// Samples trained again because their first round had settled on some shards only when its worker died.
  [[nodiscard]] std::uint64_t repeated_samples() const { return repeated_samples_; }

  template <class Archive>
  void archive(Archive& a) {
    a(options_, all_shards_, free_, free_samples_, held_, partial_, next_sequence_, counted_, sections_,
      next_lease_, repeated_samples_);
  }
  /// Whether what an archive held can be a book of such a job.
  [[nodiscard]] bool fits(std::uint64_t samples, std::uint32_t epochs, std::size_t shards) const;

 private:
  struct Held {
    IncarnationOrder order;
    SampleRange range;       // begin moves on as rounds count
    std::uint64_t next = 0;  // where the next round begins that no shard has settled
    std::uint64_t ahead = 0;
    template <class Archive>
    void archive(Archive& a) {
      a(order, range, next, ahead);
    }
  };
  struct Partial {
    std::uint64_t shards = 0;  // bit k: shard k has settled it
    SettleEntry entry;
    template <class Archive>
    void archive(Archive& a) {
      a(shards, entry);
    }
  };
  Lease hold(IncarnationOrder order, const SampleRange& range, std::uint64_t ahead);
  void free(const SampleRange& range);
  Status begin_partial(const SettleEntry& entry);
  [[nodiscard]] std::size_t count_partial(IncarnationOrder order) const;

  LeaseBookOptions options_;
  std::uint64_t all_shards_ = 0;
  std::map<std::pair<DataEpoch, std::uint64_t>, std::uint64_t> free_;  // (epoch, begin) to end
  std::uint64_t free_samples_ = 0;                                     // in all
  std::map<LeaseId, Held> held_;
  std::map<std::pair<IncarnationOrder, Sequence>, Partial> partial_;
  std::map<std::pair<IncarnationOrder, ShardIndex>, Sequence> next_sequence_;
  std::vector<std::uint64_t> counted_;  // per epoch
  struct SectionCursor {
    std::uint32_t epoch = 0;
    std::uint64_t rounds = 0;  // of that epoch, lent so far
    template <class Archive>
    void archive(Archive& a) {
      a(epoch, rounds);
    }
  };
  std::map<std::uint32_t, SectionCursor> sections_;  // by rank
  LeaseId next_lease_{1};
  std::uint64_t repeated_samples_ = 0;
};

}  // namespace nanduti
