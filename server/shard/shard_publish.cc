// What subscribers hear: versions of the shadow, and what they have missed.
#include <algorithm>

#include "server/shard/shard_core.h"

namespace nanduti {

namespace {

// The largest header, and what FlatBuffers adds to it, is a message's.
static_assert(kMembersMax * (128 + kRefusalsKept * sizeof(Sequence)) < kMessageHeaderBytesMax);

/// Payload and, about, header.
template <class VersionMessage>
std::size_t size_bytes(const VersionMessage& message) {
  const VersionHeader& header = message.header;
  std::size_t bytes = sizeof(header) + message.payload.size() + header.active.size() * sizeof(MemberClock);
  for (const Verdict& verdict : header.verdicts)
    bytes += sizeof(verdict) + verdict.refused.size() * sizeof(Sequence);
  return bytes;
}

}  // namespace

void ShardCore::on_subscribe(PeerId peer, const Subscribe& request) {
  if (!job_ || !job_->values || job_->request.job != request.job)
    return refuse(peer, fmt::format("job {} is not open here", request.job));
  const auto known = job_->workers.find(request.order);
  if (known != job_->workers.end() && known->second.ledger.fenced())
    return refuse(peer, fmt::format("worker incarnation {} has been declared dead", request.order));
  if (known != job_->workers.end() && known->second.member.incarnation != request.incarnation)
    return refuse(peer, "another incarnation has this order number");
  const auto [it, is_new] = job_->subscribers.try_emplace(peer);
  Subscriber& subscriber = it->second;
  if (!is_new &&
      (subscriber.request.order != request.order || subscriber.request.incarnation != request.incarnation))
    return refuse(peer, "this session is another worker incarnation's");
  if (!subscriber.unacked.empty()) ++counters_.repeated;
  subscriber.request = request;
  subscriber.asks = true;
}

void ShardCore::on_acked(PeerId peer, Subscriber& subscriber, std::uint64_t tag) {
  for (auto it = subscriber.fetches.begin(); it != subscriber.fetches.end(); ++it) {
    if (it->second.tag != tag) continue;
    const FetchCut request{job_->request.job, it->first};
    const bool again = it->second.again;
    subscriber.fetches.erase(it);
    if (again) on_fetch_cut(peer, request);
    return;
  }
  const auto sent = subscriber.unacked.find(tag);
  if (sent == subscriber.unacked.end()) return;
  subscriber.unacked_bytes -= sent->second;
  subscriber.unacked.erase(sent);
  // Who has asked anew is answered instead.
  if (!subscriber.lagging || subscriber.asks || !subscriber.unacked.empty()) return;
  subscriber.lagging = false;
  ++counters_.catch_ups;
  send_assign(peer, subscriber, subscriber.version, false);
}

void ShardCore::answer_subscribers() {
  if (!job_ || !job_->values) return;
  Job& job = *job_;
  for (auto it = job.subscribers.begin(); it != job.subscribers.end();) {
    const PeerId peer = it->first;
    Subscriber& subscriber = it->second;
    // A worker that the coordinator has just announced to us may be faster than the announcement.
    const auto worker = job.workers.find(subscriber.request.order);
    if (subscriber.asks && worker != job.workers.end() &&
        worker->second.member.incarnation != subscriber.request.incarnation) {
      it = job.subscribers.erase(it);
      refuse(peer, "another incarnation has this order number");
      continue;
    }
    ++it;
    if (!subscriber.asks || worker == job.workers.end()) continue;
    // One answer at a time, which may be the whole shadow.
    if (!subscriber.unacked.empty()) continue;
    subscriber.asks = subscriber.lagging = false;
    subscriber.answered = true;
    const PushLedger& ledger = worker->second.ledger;
    // The acknowledgement that named them may have gone with a session: what Subscribed counts as settled
    // would be taken for applied.
    if (!ledger.refused().empty())
      actions_.push_back(SendMessage{
          peer, kControl,
          PushAck{job.request.job, AckLevel::kDurableHere, ledger.next_sequence(), ledger.refused()}});
    actions_.push_back(SendMessage{peer, kControl, Subscribed{job.request.job, ledger.next_sequence()}});
    const bool continues =
        subscriber.request.chain == job.chain && subscriber.request.version <= job.values->version();
    const Version since = subscriber.request.version;
    const std::uint64_t behind = job.values->version().value() - since.value();
    if (continues && is_lockstep() && behind <= job.kept.size()) {
      for (std::size_t i = job.kept.size() - behind; i < job.kept.size(); ++i)
        send_version(peer, subscriber, job.kept[i], size_bytes(job.kept[i]));
      continue;
    }
    send_assign(peer, subscriber, continues ? since : Version(), !continues);
  }
}

Round ShardCore::smallest_active_clock() const {
  Round smallest{~std::uint64_t{0}};
  bool any = false;
  for (const auto& [order, worker] : job_->workers) {
    if (worker.member.state != MemberState::kActive) continue;
    smallest = std::min(smallest, worker.ledger.clock());
    any = true;
  }
  return any ? smallest : job_->published_through;
}

void ShardCore::publish_if_due(ProtocolTime now) {
  if (!job_ || !job_->values) return;
  Job& job = *job_;
  if (is_lockstep()) return;  // settle() publishes every step
  const bool round_done = smallest_active_clock() > job.published_through;
  const bool old = job.unpublished && now >= job.unpublished_since + options_.unpublished_age_max;
  if (round_done || old || job.membership_unpublished) publish(now, false);
}

void ShardCore::publish(ProtocolTime, bool exactly) {
  Job& job = *job_;
  const Version before = job.values->version();
  Publish message;
  if (exactly) {
    job.values->publish_exactly();
  } else if (job.unpublished || job.deterministic) {
    EncodedUpdate encoded = job.values->publish(*job.codec, job.seed);
    message.coding = static_cast<std::uint8_t>(job.codec->coding());
    message.payload = std::move(encoded.payload);
  } else {
    job.values->publish_nothing();
  }
  ++counters_.versions;
  job.ages.on_version();
  job.unpublished = false;
  job.membership_unpublished = false;
  job.published_through = smallest_active_clock();
  message.header = job.published = make_header();
  if (is_lockstep() && !exactly) keep(message);
  std::size_t bytes = size_bytes(message);
  if (exactly)
    for (const AssignedRange& range : job.values->changed_since(before))
      bytes += (range.end - range.begin) * sizeof(float);
  for (auto& [peer, subscriber] : job.subscribers) {
    if (subscriber.asks || subscriber.lagging) continue;
    if (!subscriber.unacked.empty() && !is_lockstep() &&
        subscriber.unacked_bytes + bytes > options_.subscriber_bytes_max) {
      subscriber.lagging = true;  // caught up with one Assign when the link has room again
      continue;
    }
    if (exactly)
      send_assign(peer, subscriber, before, false);
    else
      send_version(peer, subscriber, message, bytes);
  }
}

/// Keeps a version until every active worker says that it has computed on it or a later one.
void ShardCore::keep(const Publish& version) {
  Job& job = *job_;
  job.kept.push_back(version);
  Version oldest = version.header.version;
  for (const auto& [order, worker] : job.workers)
    if (worker.member.state == MemberState::kActive) oldest = std::min(oldest, worker.base);
  while (!job.kept.empty() &&
         (job.kept.front().header.version <= oldest || job.kept.size() > kKeptVersionsMax))
    job.kept.pop_front();
}

VersionHeader ShardCore::make_header() {
  const Job& job = *job_;
  VersionHeader header;
  header.job = job.request.job;
  header.chain = job.chain;
  header.version = job.values->version();
  header.epoch = job.epoch;
  for (const auto& [order, worker] : job.workers) {
    if (!worker.ledger.fenced() && header.verdicts.size() < kMembersMax)
      header.verdicts.push_back({order, worker.ledger.next_sequence(), worker.ledger.refused()});
    if (worker.member.state == MemberState::kActive && header.active.size() < kMembersMax)
      header.active.push_back({order, worker.member.entry_clock, worker.ledger.clock()});
  }
  return header;
}

void ShardCore::send_assign(PeerId peer, Subscriber& subscriber, Version since, bool whole) {
  const Job& job = *job_;
  // What has settled since the newest version is not in the shadow: its verdicts wait for the next one.
  Assign assign;
  assign.header = job.published;
  assign.from_version = since;
  assign.whole = whole;
  if (whole && job.values->size() > 0)
    assign.ranges = {{0, job.values->size()}};
  else if (!whole)
    assign.ranges = job.values->changed_since(since);
  assign.payload = job.values->shadow_at(assign.ranges);
  const std::size_t bytes = size_bytes(assign);
  send_version(peer, subscriber, std::move(assign), bytes);
}

void ShardCore::send_version(PeerId peer, Subscriber& subscriber, Message message, std::size_t bytes) {
  const std::uint64_t tag = next_tag_++;
  if (subscriber.unacked.empty()) bytes = 0;  // there is always room for one
  subscriber.unacked.emplace(tag, bytes);
  subscriber.unacked_bytes += bytes;
  subscriber.version = job_->values->version();
  actions_.push_back(SendMessage{peer, kBulk, std::move(message), tag});
}

}  // namespace nanduti
