#include "test/sim/membership_checker.h"

#include <algorithm>

#include "test/sim/trace.h"

namespace nanduti::sim {

namespace {

/// The coordinator looks at silences once a second, and so does audit().
constexpr double kSlackSeconds = 2.5;

const char* name_of(MemberState state) {
  switch (state) {
    case MemberState::kActive:
      return "active";
    case MemberState::kIdle:
      return "idle";
    case MemberState::kSuspended:
      return "suspended";
    case MemberState::kDead:
      break;
  }
  return "dead";
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void MembershipChecker::on_settled(const SettleReport& report, PeerId from) {
  const auto shard = shards_.find(from);
  if (shard == shards_.end() || report.job != job_) return;
  for (const SettleEntry& entry : report.entries) {
    if (entry.lease == LeaseId()) continue;
    std::vector<Round>& clocks = clocks_[entry.order];
    clocks.resize(plan_.shards);
    Round& clock = clocks.at(shard->second.value());
    clock = std::max(clock, entry.round.next());
  }
}

Round MembershipChecker::clock(const Member& member) const {
  const auto clocks = clocks_.find(member.order);
  if (clocks == clocks_.end()) return member.entry_clock;
  return std::max(member.entry_clock, *std::min_element(clocks->second.begin(), clocks->second.end()));
}

bool MembershipChecker::on_sent(const Membership& membership) {
  if (membership.job != job_) {
    job_ = membership.job;
    epoch_ = MembershipEpoch();
    members_.clear();
    clocks_.clear();
    dead_.clear();
  }
  if (membership.epoch <= epoch_) return false;
  epoch_ = membership.epoch;

  std::optional<Round> smallest;  // of those who were active before and still are
  bool somebody_left = false;
  std::map<IncarnationOrder, Member> members;
  for (const Member& member : membership.members) members.emplace(member.order, member);
  for (const auto& [order, before] : members_) {
    if (before.state != MemberState::kActive) continue;
    const auto now = members.find(order);
    if (now == members.end() || now->second.state != MemberState::kActive)
      somebody_left = true;
    else
      smallest = std::min(smallest.value_or(clock(now->second)), clock(now->second));
  }
  for (const auto& [order, member] : members) {
    const auto before = members_.find(order);
    const bool was_known = before != members_.end();
    const MemberState last = was_known ? before->second.state : MemberState::kIdle;
    if (!was_known || last != member.state)
      coverage_.count(
          fmt::format("member: {} to {}", was_known ? name_of(last) : "new", name_of(member.state)));
    if (member.state == MemberState::kDead) coverage_.count("member: dead");
    if (dead_.contains(order) && member.state != MemberState::kDead)
      fail("incarnation {} was dead and is {} in membership {}", order, name_of(member.state), epoch_);
    if (member.state == MemberState::kDead) dead_.insert(order);
    if (was_known && member.entry_clock < before->second.entry_clock && member.state != MemberState::kDead)
      fail("the entry clock of incarnation {} goes back to {}", order, member.entry_clock);
    const bool enters = member.state == MemberState::kActive && (!was_known || last != MemberState::kActive);
    if (enters && smallest && !somebody_left && clock(member) < *smallest)
      fail("incarnation {} enters at clock {}, the smallest active one is {}", order, clock(member),
           *smallest);
  }
  members_ = std::move(members);
  return true;
}

void MembershipChecker::audit(const CoordinatorCore& coordinator, ProtocolTime now) const {
  for (const WorkerReport& worker : coordinator.workers_report(now).workers) {
    if (worker.last_heard_s > seconds(plan_.coordinator.dead_after) + kSlackSeconds)
      fail("P5: nothing was heard of incarnation {} for {:.1f} s and it is not dead", worker.order,
           worker.last_heard_s);
    const auto member = members_.find(worker.order);
    if (plan_.deterministic || !worker.job || *worker.job != job_ || member == members_.end()) continue;
    if (member->second.state == MemberState::kActive &&
        worker.last_heard_s > seconds(plan_.coordinator.suspend_after) + kSlackSeconds)
      fail("P5: nothing was heard of incarnation {} for {:.1f} s and it is still active", worker.order,
           worker.last_heard_s);
  }
}

}  // namespace nanduti::sim
