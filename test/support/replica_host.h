#pragma once

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "worker/client/client_core.h"

namespace nanduti {

/// Carries out what a ClientCore wants of its replica, without threads: work waits in a queue until somebody
/// lets it happen.
class ReplicaHost {
 public:
  /// Takes up what is for the replica; false if the action is something else.
  bool take(const ClientCore::Action& action) {
    if (const auto* open = std::get_if<ClientCore::OpenReplica>(&action)) {
      NANDUTI_CHECK(!replica_);
      replica_.emplace(open->options);
      job_ = open->options.job;
    } else if (const auto* work = std::get_if<ClientCore::ReplicaWork>(&action)) {
      NANDUTI_CHECK(replica_.has_value());
      queue_.push_back(work->event);
    } else if (std::holds_alternative<ClientCore::UnloadJob>(action)) {
      clear();
      return false;
    } else {
      return std::holds_alternative<ClientCore::WorkExpected>(action);
    }
    return true;
  }

  /// The replica deals with the next thing in its queue; false if there is none.
  bool step() {
    if (queue_.empty()) return false;
    Replica::Event event = std::move(queue_.front());
    queue_.pop_front();
    replica_->on_event(std::move(event));
    actions_ = replica_->take_actions();
    for (const Replica::Action& action : actions_) {
      if (const auto* round = std::get_if<Replica::ComputeRound>(&action)) {
        NANDUTI_CHECK(!computing_);
        computing_ = *round;
        begun_.push_back(*round);
      } else if (const auto* report = std::get_if<Replica::Report>(&action)) {
        reports_.push_back({job_, *report});
      } else {
        queue_.push_back(Replica::TimeToCode());
      }
    }
    return true;
  }

  /// The round that is being computed.
  [[nodiscard]] const std::optional<Replica::ComputeRound>& computing() const { return computing_; }
  /// It has given this, shape [parameters].
  void finish_round(const std::vector<float>& progress, double loss_sum = 0, double compute_seconds = 0) {
    Replica::ComputeRound round = *std::exchange(computing_, std::nullopt);
    NANDUTI_CHECK(progress.size() == round.buffers->progress.size());
    std::copy(progress.begin(), progress.end(), round.buffers->progress.begin());
    queue_.push_back(Replica::RoundComputed{round.job, round.buffers, loss_sum, compute_seconds});
  }

  [[nodiscard]] bool has_work() const { return !queue_.empty(); }
  /// Precondition: has_work().
  [[nodiscard]] const Replica::Event& next() const { return queue_.front(); }
  /// What the last step gave.
  [[nodiscard]] const std::vector<Replica::Action>& actions() const { return actions_; }
  /// Rounds that have begun since the last call.
  std::vector<Replica::ComputeRound> take_begun() { return std::exchange(begun_, {}); }
  /// For the core, in this order.
  std::vector<ClientCore::ReplicaReported> take_reports() { return std::exchange(reports_, {}); }
  [[nodiscard]] const Replica* replica() const { return replica_ ? &*replica_ : nullptr; }
  void clear() {
    replica_.reset();
    queue_.clear();
    computing_.reset();
    actions_.clear();
    begun_.clear();
    reports_.clear();
  }

 private:
  JobId job_;
  std::optional<Replica> replica_;
  std::deque<Replica::Event> queue_;
  std::optional<Replica::ComputeRound> computing_;
  std::vector<Replica::Action> actions_;
  std::vector<Replica::ComputeRound> begun_;
  std::vector<ClientCore::ReplicaReported> reports_;
};

}  // namespace nanduti
