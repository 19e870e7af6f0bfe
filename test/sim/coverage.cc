#include "test/sim/coverage.h"

#include <fmt/format.h>

namespace nanduti::sim {

namespace {

/// What a run of a few hundred seeds has to reach to be worth its name.
constexpr const char* kWanted[] = {"crash: records are lost",
                                   "crash: records without an acknowledgement survive",
                                   "crash: within a snapshot",
                                   "event: late join",
                                   "event: session lost",
                                   "evaluation: done within an epoch",
                                   "evaluation: skipped",
                                   "fault: connection broken",
                                   "fault: coordinator stopped",
                                   "fault: coordinator crash",
                                   "fault: crash",
                                   "fault: drain",
                                   "fault: frame duplicated",
                                   "fault: frame held by a partition",
                                   "fault: frame lost",
                                   "fault: frame lost in a partition",
                                   "fault: frame reordered",
                                   "fault: push overtaken",
                                   "fault: push replayed",
                                   "fault: restart",
                                   "fault: send refused",
                                   "fault: shard crash",
                                   "fault: shard stopped",
                                   "fault: snapshot not written",
                                   "fault: work hangs",
                                   "fault: worker stopped",
                                   "gate: bytes",
                                   "gate: lockstep",
                                   "gate: not active yet",
                                   "gate: staleness",
                                   "gate: window",
                                   "hub: dropped_duplicate",
                                   "hub: dropped_unknown_session",
                                   "hub: frames_resent",
                                   "hub: redials",
                                   "member: active to dead",
                                   "member: active to idle",
                                   "member: active to suspended",
                                   "member: dead",
                                   "member: idle to active",
                                   "member: idle to dead",
                                   "member: new to active",
                                   "member: new to idle",
                                   "member: suspended to active",
                                   "member: suspended to dead",
                                   "message: Assign",
                                   "message: CloseShard",
                                   "message: CutTaken",
                                   "message: CutValues",
                                   "message: Draining",
                                   "message: EndJob",
                                   "message: EvaluationDone",
                                   "message: EvaluationLease",
                                   "message: Fence",
                                   "message: FenceDone",
                                   "message: Fenced",
                                   "message: FetchCut",
                                   "message: FlushResidual",
                                   "message: JobPrepared",
                                   "message: JoinJob",
                                   "message: LeaseGrant",
                                   "message: LeaseRequest",
                                   "message: LeaseReturn",
                                   "message: Leave",
                                   "message: Membership",
                                   "message: NoLease",
                                   "message: OpenShard",
                                   "message: PrepareJob",
                                   "message: Publish",
                                   "message: Push",
                                   "message: PushAck",
                                   "message: RegisterShard",
                                   "message: RegisterWorker",
                                   "message: Registered",
                                   "message: ReleaseCut",
                                   "message: ResidualFlushed",
                                   "message: Rest",
                                   "message: SettleReport",
                                   "message: ShardAtRest",
                                   "message: ShardOpened",
                                   "message: ShardRefusal",
                                   "message: Subscribe",
                                   "message: Subscribed",
                                   "message: TakeCut",
                                   "message: Tune",
                                   "message: Tuned",
                                   "message: WorkerStatus",
                                   "push: duplicate",
                                   "push: refused",
                                   "push: returned",
                                   "push: settled",
                                   "push: weighed",
                                   "recovery: from a snapshot",
                                   "recovery: of a shard",
                                   "recovery: of the coordinator",
                                   "round: extended",
                                   "session: more than N bytes wait for it",
                                   "session: nothing was heard of it for too long",
                                   "tuning: in force",
                                   "tuning: taken",
                                   "version: caught up",
                                   "version: held",
                                   "version: published"};

}  // namespace

std::vector<std::string> Coverage::missing() const {
  std::vector<std::string> names;
  for (const char* wanted : kWanted)
    if (of(wanted) == 0) names.emplace_back(wanted);
  return names;
}

std::pair<std::size_t, std::uint64_t> Coverage::faults() const {
  std::pair<std::size_t, std::uint64_t> faults;
  for (const auto& [what, times] : counts_)
    if (what.starts_with("fault: ")) ++faults.first, faults.second += times;
  return faults;
}

std::string Coverage::table() const {
  std::string text;
  for (const auto& [what, times] : counts_) text += fmt::format("{:12}  {}\n", times, what);
  return text;
}

}  // namespace nanduti::sim
