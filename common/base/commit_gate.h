#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace nanduti {

/// Output commit: nothing leaves a process that it could not recover. Its host passes a core's actions
/// through here in order; those behind a record that is being written wait until it is durable. What waits is
/// bounded by what the core may have unacknowledged.
template <class Action>
class CommitGate {
 public:
  /// A record has been handed on to be written; whatever comes after it depends on it.
  void on_appended() { needed_ = ++appended_; }
  /// Whatever comes after this depends on the next record, which is still to come.
  void on_owed() { needed_ = appended_ + 1; }
  /// False: it is held.
  bool pass(const Action& action) {
    if (durable_ >= needed_) return true;
    held_.emplace_back(needed_, action);
    return false;
  }
  /// So many records are durable: gives what may go now.
  std::vector<Action> on_durable(std::uint64_t records) {
    durable_ = records;
    std::vector<Action> free;
    for (; !held_.empty() && held_.front().first <= durable_; held_.pop_front())
      free.push_back(std::move(held_.front().second));
    return free;
  }
  /// What is held for a session that has ended must not go to the one that follows it.
  template <class Predicate>
  void drop_if(const Predicate& is_void) {
    std::erase_if(held_, [&](const auto& held) { return is_void(held.second); });
  }
  /// Records that have been handed on.
  [[nodiscard]] std::uint64_t appended() const { return appended_; }
  /// Records that have to be durable before what comes now may go.
  [[nodiscard]] std::uint64_t needed() const { return needed_; }
  [[nodiscard]] std::uint64_t durable() const { return durable_; }

 private:
  std::uint64_t appended_ = 0;
  std::uint64_t needed_ = 0;
  std::uint64_t durable_ = 0;
  std::deque<std::pair<std::uint64_t, Action>> held_;
};

}  // namespace nanduti
