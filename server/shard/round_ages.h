#pragma once

#include <cstdint>
#include <deque>
#include <map>

#include "common/base/archive.h"
#include "common/base/ids.h"
#include "common/protocol/message.h"

namespace nanduti {

/// How old a push is: rounds that its shard has settled since the version that the push was computed from
/// (DESIGN section 2). Pure; one thread.
class RoundAges {
 public:
  /// Versions that it can look back; a push from before counts as one from the oldest of them.
  static constexpr std::size_t kVersionsKept = 4096;
  /// A worker's own last rounds that are known: more than it computes ahead of a version.
  static constexpr std::size_t kOwnKept = 256;

  /// A round of `order` has settled, `part` of a round of everybody.
  void on_round(IncarnationOrder order, double part);
  /// The next version holds all rounds so far. Versions are numbered from 0, the one that a shard begins
  /// with.
  void on_version();
  /// No more rounds of it come.
  void forget(IncarnationOrder order) { own_.erase(order); }

  [[nodiscard]] std::uint32_t age(Version base) const;
  /// Of these, in rounds of everybody, what others than `order` have done: its own work its replica had.
  [[nodiscard]] double age_by_others(IncarnationOrder order, Version base) const;

  template <class Archive>
  void archive(Archive& a) {
    a(settled_, at_, oldest_, own_);
  }
  /// What was read from an archive can be used.
  [[nodiscard]] bool is_valid() const { return !at_.empty(); }

 private:
  struct Settled {
    std::uint64_t rounds = 0;
    double parts = 0;  // they add up to so many rounds of everybody
    template <class Archive>
    void archive(Archive& a) {
      a(rounds, parts);
    }
  };
  struct Own {
    std::uint64_t version = 0;  // the newest as it settled
    double part = 0;
    template <class Archive>
    void archive(Archive& a) {
      a(version, part);
    }
  };
  /// A version that it knows, from 0 on: `base`, or the nearest.
  [[nodiscard]] std::uint64_t known(Version base) const;

  Settled settled_;
  std::deque<Settled> at_{Settled()};  // of versions oldest_, oldest_ + 1, ...
  std::uint64_t oldest_ = 0;
  std::map<IncarnationOrder, std::deque<Own>> own_;
};

/// How much of a push is applied, in parts (kAppliedWhole) and at least one: (1 + age) to the power of
/// -`power`, as the polynomial weights of Xie et al., "Asynchronous federated optimization" (2019). The age
/// is in rounds of everybody, by others, beyond the one that they do meanwhile in any case; `part` is the
/// push's own part of such a round. 0 for who is alone, and in lockstep.
std::uint16_t weigh_age(double age_by_others, double part, double power);

}  // namespace nanduti
