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

bool MembershipChecker::is_active(IncarnationOrder order) const {
  const auto member = members_.find(order);
  return member != members_.end() && member->second.state == MemberState::kActive;
}

Round MembershipChecker::smallest_active_clock() const {
  std::optional<Round> smallest;
  for (const auto& [order, member] : members_)
    if (member.state == MemberState::kActive)
      smallest = std::min(smallest.value_or(clock(member)), clock(member));
  return smallest.value_or(Round());
}

/// Where who comes now may enter: at the smallest active clock; with nobody active, at the largest of those
/// who take part. Who stops being active in the same membership may still have counted.
std::vector<Round> MembershipChecker::entry_clocks(const std::map<IncarnationOrder, Member>& members) const {
  std::optional<Round> smallest;
  std::vector<Round> left;
  Round largest, largest_alive;
  for (const auto& [order, before] : members_) {
    if (before.state == MemberState::kDead) continue;
    const auto now = members.find(order);
    largest = std::max(largest, clock(before));
    if (now != members.end() && now->second.state != MemberState::kDead)
      largest_alive = std::max(largest_alive, clock(before));
    if (before.state != MemberState::kActive) continue;
    if (now == members.end() || now->second.state != MemberState::kActive)
      left.push_back(clock(before));
    else
      smallest = std::min(smallest.value_or(clock(before)), clock(before));
  }
  std::vector<Round> entries{smallest.value_or(largest)};
  if (!smallest) entries.push_back(largest_alive);
  for (const Round clock : left) entries.push_back(smallest ? std::min(*smallest, clock) : clock);
  return entries;
}

std::vector<Membership> MembershipChecker::on_sent(const Membership& membership) {
  if (membership.job != job_) {
    job_ = membership.job;
    epoch_ = MembershipEpoch();
    members_.clear();
    clocks_.clear();
    dead_.clear();
  }
  std::vector<Membership> fresh;
  while (epoch_ < membership.epoch) {
    epoch_ = epoch_.next();
    const auto made = made_.find({job_, epoch_});
    if (made == made_.end()) fail("membership epoch {} where {} is next", membership.epoch, epoch_);
    // Its rules were kept when it was made.
    fresh.push_back(made->second.first);
    clocks_.swap(made->second.second);
    check(fresh.back());
    clocks_.swap(made->second.second);
    made_.erase(made);
  }
  return fresh;
}

void MembershipChecker::on_crash(std::uint64_t entries) {
  if (entries > 0) recovered_ = logged_.at(entries - 1);
  made_ = recovered_.made;
  clocks_ = recovered_.clocks;
  logged_.clear();
}

void MembershipChecker::check(const Membership& membership) {
  std::map<IncarnationOrder, Member> members;
  for (const Member& member : membership.members) members.emplace(member.order, member);
  const std::vector<Round> entries = entry_clocks(members);
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
    const bool enters = member.state == MemberState::kActive && last != MemberState::kActive;
    if (member.state != MemberState::kDead && (enters || !was_known)) {
      const Round own = was_known ? clock(before->second) : Round();
      const bool fits = std::any_of(entries.begin(), entries.end(),
                                    [&](Round entry) { return member.entry_clock == std::max(own, entry); });
      if (!fits)
        fail("incarnation {} enters at clock {}, its own is {}, the smallest active one {}", order,
             member.entry_clock, own, entries.front());
    }
  }
  members_ = std::move(members);
}

void MembershipChecker::audit(const CoordinatorCore& coordinator, ProtocolTime now) const {
  for (const WorkerReport& worker : coordinator.workers_report(now).workers) {
    if (worker.last_heard_s > to_seconds(plan_.coordinator.dead_after) + kSlackSeconds)
      fail("P5: nothing was heard of incarnation {} for {:.1f} s and it is not dead", worker.order,
           worker.last_heard_s);
    const auto member = members_.find(worker.order);
    if (plan_.deterministic || !worker.job || *worker.job != job_ || member == members_.end()) continue;
    if (member->second.state == MemberState::kActive &&
        worker.last_heard_s > to_seconds(plan_.coordinator.suspend_after) + kSlackSeconds)
      fail("P5: nothing was heard of incarnation {} for {:.1f} s and it is still active", worker.order,
           worker.last_heard_s);
  }
}

}  // namespace nanduti::sim
