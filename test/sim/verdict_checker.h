#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/protocol/message.h"
#include "test/sim/coverage.h"
#include "test/sim/membership_checker.h"
#include "test/sim/plan.h"

namespace nanduti::sim {

/// A moment by the clock of the world and by the coordinator's own.
struct Moment {
  ProtocolTime world;
  ProtocolTime own;
};

/// Holds the coordinator's verdicts on workers to causes. Who is declared dead or suspended was silent or
/// gave no sign of work for as long as the time-outs say, by what reached the coordinator; and between its
/// last sign and the verdict the plan had something befall it, so that after healing nobody dies. The other
/// way round, whoever holds the others at the gate without a sign of work does not stay. Throws Failure.
class VerdictChecker {
 public:
  VerdictChecker(const Plan& plan, const MembershipChecker& members, Coverage& coverage)
      : plan_(plan), members_(members), coverage_(coverage) {}

  // ---- what befalls processes ----
  void on_start(int node, std::size_t place) { processes_[node].place = place; }
  void on_drain(int node) { processes_[node].excused_from = kBeginning; }
  void on_end(int node, ProtocolTime at);
  /// Its work hangs, or it has lost a session because too much waited in it.
  void on_trouble(int node, ProtocolTime begin, ProtocolTime end) {
    processes_[node].troubles.push_back({begin, end});
  }
  /// A server is down: nobody can do much.
  void on_server_trouble(ProtocolTime begin, ProtocolTime end) { server_troubles_.push_back({begin, end}); }
  void on_registers(int node, const IncarnationId& incarnation) { nodes_[incarnation] = node; }

  /// The coordinator's process has ended: it hears of workers again as if they began.
  void on_coordinator_crash();
  void on_coordinator_back(const Moment& now);

  // ---- what the coordinator hears and says ----
  void on_heard(PeerId peer, const Message& message, const Moment& now);
  void on_closed(PeerId peer);
  /// A SettleReport names a round of it.
  void on_settled(const SettleReport& report, const Moment& now);
  void on_said(PeerId peer, const Message& message, const Moment& now);
  /// Once a second. `a_shard_is_away`: nobody is held to anything.
  void audit(const Moment& now, bool a_shard_is_away);

 private:
  struct Span {
    ProtocolTime begin;
    ProtocolTime end;
  };
  struct Process {
    std::size_t place = 0;
    ProtocolTime excused_from = kNever;  // gone, or told to go
    std::vector<Span> troubles;
  };
  struct Worker {
    int node = 0;
    IncarnationOrder order;
    bool closed = false;
    bool active = false;
    Moment heard;  // anything
    Moment sign;   // of work, or began to be waited for
    Round clock;
    Moment settled;  // a round, an evaluation that counts, or began to be waited for
    Moment waited;   // for others, at the gate, as audit() saw it
    WorkerStatus status;
    std::uint64_t bytes = 0;  // that it had moved...
    Moment bytes_since;       // ...by then
  };

  /// A part of the test set that has no answer yet, and who was asked for it.
  struct Part {
    CutId cut;
    std::set<IncarnationOrder> asked;
  };

  void on_membership(const Membership& membership, const Moment& now);
  void on_evaluated(Worker& worker, const EvaluationDone& done, const Moment& now);
  void check_dead(const Worker& worker, const Moment& now) const;
  [[nodiscard]] bool is_slower_than_its_limit() const;
  [[nodiscard]] bool waits_for_others(const Worker& worker) const;
  /// Something in the plan kept the process from its work or from the servers in this time.
  [[nodiscard]] bool is_disturbed(int node, ProtocolTime from, ProtocolTime to) const;
  [[nodiscard]] Worker* worker_of(IncarnationOrder order);

  const Plan& plan_;
  const MembershipChecker& members_;
  Coverage& coverage_;
  std::map<int, Process> processes_;
  std::vector<Span> server_troubles_;
  std::map<IncarnationId, int> nodes_;
  std::map<PeerId, Worker> workers_;
  std::map<IncarnationOrder, Worker> away_;  // since the coordinator's process is another one
  std::map<std::pair<JobId, LeaseId>, Part> parts_;
  JobId job_;
  MembershipEpoch epoch_;
};

}  // namespace nanduti::sim
