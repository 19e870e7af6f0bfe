// A worker and its shards: versions come, pushes go, both again after a lost session.
#include <algorithm>

#include "common/base/overloaded.h"
#include "worker/client/client_core.h"

namespace nanduti {

/// Only pushes have a tag: the sequence that follows.
void ClientCore::handle(ProtocolTime, const MessageAcked& event) {
  if (!job_) return;
  const auto shard = job_->shards.find(event.peer);
  if (shard == job_->shards.end()) return;
  Sequence& delivered = job_->links.at(shard->second.value()).delivered;
  delivered = std::max(delivered, Sequence(event.tag));
}

void ClientCore::take(ProtocolTime now, const Replica::Verdicts& report) {
  if (report.returned) {
    job_->residual_left = true;
    job_->flushed = false;
  }
  job_->turnaround.on_settled(now, report.shard, report.settled);
}

void ClientCore::take(ProtocolTime, const Replica::VersionTaken& report) {
  job_->links.at(report.shard.value()).has_gap = false;
  on_merged(report.bytes);
}

void ClientCore::on_merged(std::size_t bytes) {
  job_->unmerged_bytes -= bytes;
  if (job_->unmerged_bytes > 0) return;
  for (std::size_t k = 0; k < job_->links.size(); ++k) {
    if (std::exchange(job_->links[k].behind, false)) {
      subscribe(ShardIndex(static_cast<std::uint32_t>(k)));
      job_->links[k].has_gap = true;
    }
  }
}

void ClientCore::take(ProtocolTime, const Replica::MergeFailed& report) {
  ShardLink& link = job_->links.at(report.shard.value());
  link.chain = report.chain;
  link.version = report.version;
  if (link.chain == ChainId()) link.initial_fingerprint = 0;  // the whole, then
  on_gap(report.shard, report.adds, report.reason);
  on_merged(report.bytes);
}

/// Pushes are kept until their shard has acknowledged them, and sent in advance().
void ClientCore::hold(const std::vector<Push>& pushes) {
  for (std::size_t k = 0; k < pushes.size(); ++k)
    if (ShardLink& link = job_->links.at(k); pushes[k].sequence >= link.acknowledged)
      link.held.push_back(pushes[k]);
}

void ClientCore::on_shard_message(ShardIndex shard, const Message& message) {
  const auto count = [&](const SharedBytes& values) { job_->status.exact_bytes_down += values.size(); };
  std::visit(Overloaded{[&](const Subscribed& m) { on_subscribed(shard, m.next_sequence); },
                        [&](const PushAck& m) { on_ack(shard, m.next_sequence, m.returned); },
                        [&](const Publish& m) { on_version(shard, m); },
                        [&](const Assign& m) {
                          count(m.payload);
                          on_version(shard, m);
                        },
                        [&](const CutValues& m) {
                          count(m.payload);
                          on_cut_values(shard, m);
                        },
                        [&](const ShardRefusal& m) {
                          note(fmt::format("shard {} refuses: {}", shard, m.reason), true);
                          if (m.cut == CutId()) return;
                          std::erase_if(job_->evaluations,
                                        [&](const EvaluationLease& e) { return e.cut == m.cut; });
                          drop_unneeded_cuts();
                        },
                        [&](const auto&) {
                          note(fmt::format("shard {} sent a {}, which is not for workers", shard,
                                           message_name(message)),
                               true);
                        }},
             message);
}

void ClientCore::subscribe(ShardIndex shard) {
  ShardLink& link = job_->links.at(shard.value());
  link.has_gap = false;
  const Round oldest_round = link.held.empty() ? job_->status.clock : link.held.front().round;
  actions_.push_back(SendMessage{link.peer, kControl,
                                 Subscribe{job_->id, order_, incarnation_, link.chain, link.version,
                                           link.acknowledged, oldest_round, link.initial_fingerprint}});
}

void ClientCore::on_version(ShardIndex shard, std::variant<Publish, Assign> version) {
  ShardLink& link = job_->links.at(shard.value());
  const std::size_t bytes = version_bytes(version);
  link.behind =
      link.behind || (job_->unmerged_bytes > 0 && job_->unmerged_bytes + bytes > options_.unmerged_bytes_max);
  if (link.behind) return;  // what follows a version that was dropped would not fit
  const VersionHeader& header =
      std::visit([](const auto& v) -> const VersionHeader& { return v.header; }, version);
  const auto* assign = std::get_if<Assign>(&version);
  const bool is_newer = assign != nullptr
                            ? assign->from_version <= link.version && header.version >= link.version
                            : header.version == link.version.next();
  const bool continues = link.chain != ChainId() && header.chain == link.chain && is_newer;
  const bool begins = link.chain == ChainId() && link.initial_fingerprint != 0 && assign != nullptr &&
                      assign->from_version == Version();
  if (!continues && !begins && (assign == nullptr || !assign->whole))
    return on_gap(shard, assign == nullptr,
                  fmt::format("version {} of chain {} does not fit version {} of chain {}", header.version,
                              header.chain, link.version, link.chain));
  job_->unmerged_bytes += bytes;
  link.chain = header.chain;
  link.version = header.version;
  tell_replica(Replica::MergeVersion{shard, std::move(version)});
}

/// A version does not fit what is here.
void ClientCore::on_gap(ShardIndex shard, bool adds, const std::string& reason) {
  ShardLink& link = job_->links.at(shard.value());
  // Those that were under way when it asked again do not fit either.
  if (adds && link.has_gap) return;
  note(fmt::format("shard {}: {}; subscribing again", shard, reason), true);
  subscribe(shard);
  link.has_gap = true;
}

void ClientCore::on_ack(ShardIndex shard, Sequence next_sequence, std::vector<ReturnedPush> returned) {
  ShardLink& link = job_->links.at(shard.value());
  link.acknowledged = std::max(link.acknowledged, next_sequence);
  while (!link.held.empty() && link.held.front().sequence < next_sequence) link.held.pop_front();
  tell_replica(Replica::TakeAck{shard, next_sequence, std::move(returned)});
}

void ClientCore::on_subscribed(ShardIndex shard, Sequence next_sequence) {
  ShardLink& link = job_->links.at(shard.value());
  link.subscribed = true;
  on_ack(shard, next_sequence, {});
  // What is held from there on goes again, in advance().
  link.next_to_send = next_sequence;
  link.delivered = next_sequence;
  for (const auto& [id, cut] : job_->cuts)
    if (cut.missing.contains(shard))
      actions_.push_back(SendMessage{link.peer, kControl, FetchCut{job_->id, id}});
}

bool ClientCore::is_acknowledged() const {
  return std::all_of(job_->links.begin(), job_->links.end(),
                     [](const ShardLink& link) { return link.held.empty(); });
}

/// Hands pushes that are held to their sessions, oldest first, as far as the window allows: a session's queue
/// has a maximum, and one that overflows loses everything.
void ClientCore::send_pushes() {
  for (ShardLink& link : job_->links) {
    // Not subscribed: held until the shard has said where to go on.
    if (!link.subscribed || link.held.empty() || link.held.back().sequence < link.next_to_send) continue;
    std::size_t unacknowledged_bytes = 0;
    for (const Push& push : link.held) {
      const std::size_t bytes = push.payload.size();
      if (push.sequence >= link.next_to_send) {
        if (unacknowledged_bytes > 0 && unacknowledged_bytes + bytes > options_.window_bytes_max) break;
        link.next_to_send = push.sequence.next();
        actions_.push_back(SendMessage{link.peer, kBulk, push, link.next_to_send.value()});
      }
      unacknowledged_bytes += bytes;
    }
  }
}

}  // namespace nanduti
