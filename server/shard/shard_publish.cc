// What subscribers hear: versions of the shadow, and what they have missed.
#include <algorithm>

#include "server/shard/shard_core.h"

namespace nanduti {

namespace {

// The largest header, and what FlatBuffers adds to it, is a message's.
static_assert(kMembersMax * (128 + kReturnedKept * sizeof(ReturnedPush)) < kMessageHeaderBytesMax);

/// Longer than the load of a machine delays an acknowledgement; shorter than anybody misses.
constexpr Duration kHiccup = std::chrono::milliseconds(50);

/// Payload and, about, header.
template <class VersionMessage>
std::size_t size_bytes(const VersionMessage& message) {
  const VersionHeader& header = message.header;
  std::size_t bytes = sizeof(header) + message.payload.size() + header.active.size() * sizeof(MemberClock);
  for (const Verdict& verdict : header.verdicts)
    bytes += sizeof(verdict) + verdict.returned.size() * sizeof(ReturnedPush);
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
  subscriber.unacked_bytes -= sent->second.bytes;
  if (sent->second.measures) {
    const Duration took = now_ - sent->second.at;
    const bool first = subscriber.unloaded == Duration(0);
    subscriber.unloaded = first ? took : subscriber.unloaded + (took - subscriber.unloaded) / 4;
  }
  subscriber.unacked.erase(sent);
  if (subscriber.unacked.empty()) subscriber.draining = false;
  // Who has asked anew is answered instead.
  if (!subscriber.lagging || subscriber.asks || !subscriber.unacked.empty()) return;
  subscriber.lagging = false;
  ++counters_.catch_ups;
  catch_up(peer, subscriber, subscriber.version);
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
    if (job.lossy) skip_lost(worker->second, subscriber.request);
    const PushLedger& ledger = worker->second.ledger;
    // The acknowledgement that named them may have gone with a session: what Subscribed counts as settled
    // would be taken for applied.
    if (!ledger.returned().empty())
      actions_.push_back(SendMessage{
          peer, kControl,
          PushAck{job.request.job, AckLevel::kDurableHere, ledger.next_sequence(), ledger.returned()}});
    actions_.push_back(SendMessage{peer, kControl, Subscribed{job.request.job, ledger.next_sequence()}});
    const bool continues =
        subscriber.request.chain == job.chain && subscriber.request.version <= job.values->version();
    if (continues)
      catch_up(peer, subscriber, subscriber.request.version);
    else
      send_assign(peer, subscriber, Version(), !has_initial_values(subscriber.request));
  }
}

/// What the shard has acknowledged and lost since, the worker does not have any more either.
void ShardCore::skip_lost(Worker& worker, const Subscribe& request) {
  const Sequence next = worker.ledger.next_sequence();
  if (request.oldest_held <= next) return;
  log(0, request);
  const std::uint64_t lost = request.oldest_held.value() - next.value();
  counters_.lost += lost;
  if (!replaying_)
    note(fmt::format("{} pushes of worker incarnation {} are lost", lost, request.order), true);
  worker.ledger.skip_to(request.oldest_held, request.oldest_round);
}

/// A worker that begins has made version 0 itself. Every chain of a shard begins with it.
bool ShardCore::has_initial_values(const Subscribe& request) const {
  return request.chain == ChainId() && request.initial_fingerprint == job_->initial_fingerprint;
}

/// The versions after `since` once more if that is less than what they have changed. In lockstep always, if
/// they are still there: who leaps over a version cannot take part in its step.
void ShardCore::catch_up(PeerId peer, Subscriber& subscriber, Version since) {
  const Job& job = *job_;
  const std::uint64_t behind = job.values->version().value() - since.value();
  if (behind <= job.kept.size()) {
    const auto first = job.kept.end() - static_cast<std::ptrdiff_t>(behind);
    std::size_t bytes = 0;
    for (auto version = first; version != job.kept.end(); ++version) bytes += size_bytes(*version);
    std::size_t assigned = 0;
    for (const AssignedRange& range : job.values->changed_since(since))
      assigned += (range.end - range.begin) * sizeof(float);
    if (is_lockstep() || bytes <= std::min(assigned, options_.subscriber_bytes_max)) {
      for (auto version = first; version != job.kept.end(); ++version)
        send_version(peer, subscriber, *version, size_bytes(*version));
      return;
    }
  }
  send_assign(peer, subscriber, since, false);
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

void ShardCore::publish_if_due() {
  if (!job_ || !job_->values) return;
  Job& job = *job_;
  if (is_lockstep()) return;  // settle() publishes every step
  const bool round_done = smallest_active_clock() > job.published_through;
  const bool old = job.unpublished && now_ >= job.unpublished_since + options_.unpublished_age_max;
  const bool due = round_done || old || job.membership_unpublished;
  if (due && !job.membership_unpublished && is_a_link_full()) {
    if (!job.held_since) {
      job.held_since = now_;
      ++counters_.held;
    }
    if (now_ < *job.held_since + options_.hold_max) return;
  }
  job.held_since.reset();
  if (due) publish(false);
}

/// Whether versions queue up on the way to an active worker: what is due now had better wait and become one
/// version with what settles meanwhile. Once one takes twice as long as alone, the way has to be empty first,
/// which also shows again how long one takes alone.
bool ShardCore::is_a_link_full() {
  bool full = false;
  for (auto& [peer, subscriber] : job_->subscribers) {
    if (subscriber.asks || subscriber.lagging || subscriber.unacked.empty()) continue;
    const auto worker = job_->workers.find(subscriber.request.order);
    if (worker == job_->workers.end() || worker->second.member.state != MemberState::kActive) continue;
    const Duration oldest = now_ - subscriber.unacked.begin()->second.at;
    if (subscriber.unloaded > Duration(0) && oldest > 2 * subscriber.unloaded + kHiccup)
      subscriber.draining = true;
    full = full || subscriber.draining;
  }
  return full;
}

void ShardCore::publish(bool exactly) {
  Job& job = *job_;
  const Version before = job.values->version();
  Publish message;
  if (exactly) {
    job.values->publish_exactly();
  } else if (job.unpublished || job.deterministic) {
    const Codec& codec = *job.settings.codecs.publish;
    EncodedUpdate encoded = job.values->publish(
        codec, {job.values->version().next().value(), job.request.begin, job.epochs_done});
    message.coding = static_cast<std::uint8_t>(codec.coding());
    message.payload = std::move(encoded.payload);
  } else {
    job.values->publish_nothing();
  }
  log(exactly ? kAssignsAll : 0, message);
  finish_version(message, exactly);
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

/// The shadow has become the next version's, which is this message.
void ShardCore::finish_version(Publish& message, bool exactly) {
  Job& job = *job_;
  ++counters_.versions;
  job.ages.on_version();
  job.unpublished = false;
  job.membership_unpublished = false;
  if (exactly) job.at_rest = true;
  job.published_through = smallest_active_clock();
  message.header = job.published = make_header();
  if (exactly)
    while (!job.kept.empty()) forget_oldest_kept();
  else
    keep(message);
}

/// In lockstep a version is kept until every active worker says that it has computed on it or a later one.
void ShardCore::keep(const Publish& version) {
  Job& job = *job_;
  job.kept.push_back(version);
  job.kept_bytes += size_bytes(version);
  Version oldest;
  if (is_lockstep()) {
    oldest = version.header.version;
    for (const auto& [order, worker] : job.workers)
      if (worker.member.state == MemberState::kActive) oldest = std::min(oldest, worker.base);
  }
  const std::size_t bytes_max = job.values->size() * sizeof(float);
  while (!job.kept.empty() &&
         (job.kept.front().header.version <= oldest || job.kept.size() > kKeptVersionsMax ||
          (job.kept_bytes > bytes_max && !is_lockstep())))
    forget_oldest_kept();
}

void ShardCore::forget_oldest_kept() {
  job_->kept_bytes -= size_bytes(job_->kept.front());
  job_->kept.pop_front();
}

VersionHeader ShardCore::make_header() {
  const Job& job = *job_;
  VersionHeader header;
  header.job = job.request.job;
  header.term = options_.term;
  header.chain = job.chain;
  header.version = job.values->version();
  header.epoch = job.epoch;
  for (const auto& [order, worker] : job.workers) {
    if (!worker.ledger.fenced() && header.verdicts.size() < kMembersMax)
      header.verdicts.push_back({order, worker.ledger.next_sequence(), worker.ledger.returned()});
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
  const bool alone = subscriber.unacked.empty();
  if (alone) bytes = 0;  // there is always room for one
  subscriber.unacked.emplace(
      tag, Subscriber::Sent{bytes, now_, alone && std::holds_alternative<Publish>(message)});
  subscriber.unacked_bytes += bytes;
  subscriber.version = job_->values->version();
  actions_.push_back(SendMessage{peer, kBulk, std::move(message), tag});
}

}  // namespace nanduti
