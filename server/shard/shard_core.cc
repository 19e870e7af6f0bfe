#include "server/shard/shard_core.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/overloaded.h"

namespace nanduti {

namespace {

constexpr PeerId kCoordinator{0};
constexpr StreamIndex kControl{0};
constexpr StreamIndex kBulk{1};

}  // namespace

ShardCore::ShardCore(const ShardOptions& options, RandomStream random) : options_(options), random_(random) {
  Hello hello;
  hello.protocol_version = kProtocolVersion;
  hello.codec_format = kCodecFormat;
  hello.role = PeerRole::kShard;
  hello.name = options_.registration.server_name;
  hello.stream_count = 2;
  actions_.push_back(OpenPeer{kCoordinator, options_.coordinator_endpoint, kCoordinatorDestination, hello});
}

void ShardCore::on_event(ProtocolTime now, const Event& event) {
  std::visit([&](const auto& e) { handle(now, e); }, event);
  settle(now);
  answer_subscribers();
  publish_if_due(now);
  send_acks();
  send_reports();
}

void ShardCore::on_deadline(ProtocolTime now) { publish_if_due(now); }

ProtocolTime ShardCore::next_deadline() const {
  if (!job_ || !job_->values || !job_->unpublished || is_lockstep()) return kNever;
  return job_->unpublished_since + options_.unpublished_age_max;
}

std::vector<ShardCore::Action> ShardCore::take_actions() { return std::exchange(actions_, {}); }

const ShardValues* ShardCore::values() const { return job_ && job_->values ? &*job_->values : nullptr; }

const PushLedger* ShardCore::ledger(IncarnationOrder order) const {
  if (!job_) return nullptr;
  const auto it = job_->workers.find(order);
  return it == job_->workers.end() ? nullptr : &it->second.ledger;
}

ShardCore::Occupancy ShardCore::occupancy() const {
  Occupancy occupancy;
  for (const auto& [tag, report] : unacked_reports_)
    occupancy.unacknowledged_entries += report.entries.size();
  if (!job_) return occupancy;
  occupancy.cuts = job_->cuts.size();
  for (const auto& [peer, subscriber] : job_->subscribers) {
    if (subscriber.unacked.size() > 1)
      occupancy.subscriber_bytes = std::max(occupancy.subscriber_bytes, subscriber.unacked_bytes);
  }
  return occupancy;
}

void ShardCore::handle(ProtocolTime, const PeerConnected& event) {
  if (event.peer != kCoordinator) return;  // a worker: it subscribes next
  coordinator_connected_ = true;
  RegisterShard registration = options_.registration;
  if (job_ && job_->values) registration.job = job_->request.job;
  send_to_coordinator(registration);
  for (const auto& [tag, report] : unacked_reports_) send_to_coordinator(report, tag);
}

void ShardCore::handle(ProtocolTime, const PeerClosed& event) {
  if (event.peer == kCoordinator) {
    coordinator_connected_ = false;
    note("the coordinator is away: " + event.reason, true);
  } else if (job_) {
    job_->subscribers.erase(event.peer);
  }
}

void ShardCore::handle(ProtocolTime now, const MessageReceived& event) {
  if (event.peer == kCoordinator) return on_coordinator_message(now, event.message);
  std::visit(Overloaded{[&](const Subscribe& m) { on_subscribe(event.peer, m); },
                        [&](const Push& m) { on_push(event.peer, m); },
                        [&](const FetchCut& m) { on_fetch_cut(event.peer, m); },
                        [&](const auto&) {
                          ++counters_.malformed;
                          refuse(event.peer, fmt::format("a shard takes no {}", message_name(event.message)));
                        }},
             event.message);
}

void ShardCore::handle(ProtocolTime, const MessageAcked& event) {
  if (event.peer == kCoordinator) {
    unacked_reports_.erase(event.tag);
    return;
  }
  if (!job_) return;
  const auto it = job_->subscribers.find(event.peer);
  if (it == job_->subscribers.end()) return;
  Subscriber& subscriber = it->second;
  if (const auto sent = subscriber.unacked.find(event.tag); sent != subscriber.unacked.end()) {
    subscriber.unacked_bytes -= sent->second;
    subscriber.unacked.erase(sent);
  }
  if (subscriber.lagging && subscriber.unacked.empty()) {
    subscriber.lagging = false;
    ++counters_.catch_ups;
    send_assign(event.peer, subscriber, subscriber.version, false);
  }
}

void ShardCore::handle(ProtocolTime, const ShardLoaded& event) {
  if (!job_ || job_->request.job != event.job || job_->values) return;
  if (!event.start.ok()) {
    send_to_coordinator(ShardFailed{event.job, event.start.error().message});
    job_.reset();
    return;
  }
  const ShardStart& start = event.start.value();
  NANDUTI_CHECK(start.values.size() == job_->request.end - job_->request.begin);
  job_->values.emplace(start.values);
  job_->codec = start.codec;
  job_->seed = start.seed;
  job_->deterministic = start.deterministic;
  job_->chain = ChainId(random_.next_u64() | 1);
  job_->published = make_header();
  Admission admission{event.job, job_->request.layout_hash};
  admission.worker_payload_bytes_max = shard_payload_bytes_max(job_->request.end - job_->request.begin);
  actions_.push_back(Admit{admission});
  send_to_coordinator(ShardOpened{event.job});
}

void ShardCore::on_coordinator_message(ProtocolTime now, const Message& message) {
  const bool loaded = job_ && job_->values;
  const auto is_ours = [&](JobId job) { return loaded && job_->request.job == job; };
  std::visit(Overloaded{[&](const OpenShard& m) { open(m); },
                        [&](const Membership& m) {
                          if (is_ours(m.job)) merge(m);
                        },
                        [&](const Fence& m) {
                          if (is_ours(m.job)) fence(m.order);
                        },
                        [&](const TakeCut& m) {
                          if (is_ours(m.job)) take_cut(m.cut);
                        },
                        [&](const ReleaseCut& m) {
                          if (is_ours(m.job)) job_->cuts.erase(m.cut);
                        },
                        [&](const Rest& m) {
                          if (is_ours(m.job)) rest(now);
                        },
                        [&](const CloseShard& m) {
                          if (job_ && job_->request.job == m.job) close();
                        },
                        [&](const auto&) { ++counters_.malformed; }},
             message);
}

void ShardCore::open(const OpenShard& request) {
  if (job_ && job_->request.job == request.job) {  // asked again after a lost session
    if (job_->values) send_to_coordinator(ShardOpened{request.job});
    return;
  }
  if (job_) close();
  job_.emplace(Job());
  job_->request = request;
  actions_.push_back(LoadShard{request});
}

void ShardCore::close() {
  for (const auto& [peer, subscriber] : job_->subscribers)
    actions_.push_back(ClosePeer{peer, "the job is over", true});
  unacked_reports_.clear();
  job_.reset();
  actions_.push_back(Admit{});
}

void ShardCore::merge(const Membership& membership) {
  Job& job = *job_;
  if (membership.epoch <= job.epoch) return;
  job.epoch = membership.epoch;
  std::uint32_t active = 0;
  for (auto& [order, worker] : job.workers) worker.member.state = MemberState::kDead;
  for (const Member& member : membership.members) {
    Worker& worker = job.workers[member.order];
    worker.member = member;
    if (member.state == MemberState::kDead) {
      worker.ledger.fence();
      continue;
    }
    worker.ledger.enter_at(member.entry_clock);
    if (member.state == MemberState::kActive) ++active;
  }
  job.active_counts[job.epoch] = active;
  if (job.active_counts.size() > options_.epochs_kept) job.active_counts.erase(job.active_counts.begin());
  job.membership_unpublished = true;
  // In lockstep the first membership comes with version 0: versions count steps.
  if (is_lockstep()) job.published = make_header();
}

bool ShardCore::is_lockstep() const {
  return job_ && job_->deterministic && job_->epoch <= MembershipEpoch(1);
}

void ShardCore::fence(IncarnationOrder order) {
  Worker& worker = job_->workers[order];
  worker.ledger.fence();
  worker.member.order = order;  // it leaves the gate with the next membership, not before
  // Versions for it are memory for nobody.
  for (auto it = job_->subscribers.begin(); it != job_->subscribers.end();) {
    if (it->second.order != order) {
      ++it;
      continue;
    }
    actions_.push_back(
        ClosePeer{it->first, fmt::format("worker incarnation {} has been declared dead", order), false});
    it = job_->subscribers.erase(it);
  }
  send_reports();
  send_to_coordinator(FenceDone{job_->request.job, order, worker.ledger.next_sequence()});
}

void ShardCore::take_cut(CutId cut) {
  Job& job = *job_;
  while (job.cuts.size() >= kCutsMax && !job.cuts.contains(cut)) job.cuts.erase(job.cuts.begin());
  const auto [it, is_new] = job.cuts.try_emplace(cut);
  if (is_new) it->second = job.values->copy_of_w();
  CutTaken taken{job.request.job, cut, job.values->version(), {}, it->second};
  for (const auto& [order, worker] : job.workers)
    if (!worker.ledger.fenced() && taken.settled.size() < kMembersMax)
      taken.settled.push_back({order, worker.ledger.next_sequence(), worker.ledger.clock()});
  send_reports();
  send_to_coordinator(std::move(taken));
}

void ShardCore::rest(ProtocolTime now) {
  if (!job_->at_rest) {
    publish(now, true);
    job_->at_rest = true;
  }
  send_to_coordinator(ShardAtRest{job_->request.job, job_->values->version()});
}

void ShardCore::on_subscribe(PeerId peer, const Subscribe& request) {
  if (!job_ || !job_->values || job_->request.job != request.job)
    return refuse(peer, fmt::format("job {} is not open here", request.job));
  const auto known = job_->workers.find(request.order);
  if (known != job_->workers.end() && known->second.ledger.fenced())
    return refuse(peer, fmt::format("worker incarnation {} has been declared dead", request.order));
  if (known != job_->workers.end() && known->second.member.incarnation != request.incarnation)
    return refuse(peer, "another incarnation has this order number");
  Subscriber subscriber;
  subscriber.order = request.order;
  subscriber.request = request;
  job_->subscribers.insert_or_assign(peer, std::move(subscriber));
}

void ShardCore::answer_subscribers() {
  if (!job_ || !job_->values) return;
  Job& job = *job_;
  for (auto it = job.subscribers.begin(); it != job.subscribers.end();) {
    const PeerId peer = it->first;
    Subscriber& subscriber = it->second;
    // A worker that the coordinator has just announced to us may be faster than the announcement.
    const auto worker = job.workers.find(subscriber.order);
    if (!subscriber.answered && worker != job.workers.end() &&
        worker->second.member.incarnation != subscriber.request.incarnation) {
      it = job.subscribers.erase(it);
      refuse(peer, "another incarnation has this order number");
      continue;
    }
    ++it;
    if (subscriber.answered || worker == job.workers.end()) continue;
    subscriber.answered = true;
    actions_.push_back(
        SendMessage{peer, kControl, Subscribed{job.request.job, worker->second.ledger.next_sequence()}});
    const bool continues =
        subscriber.request.chain == job.chain && subscriber.request.version <= job.values->version();
    const Version since = subscriber.request.version;
    const std::uint64_t behind = job.values->version().value() - since.value();
    if (continues && is_lockstep() && behind <= job.kept.size()) {
      for (std::size_t i = job.kept.size() - behind; i < job.kept.size(); ++i)
        send_version(peer, subscriber, job.kept[i], job.kept[i].payload.size());
      continue;
    }
    send_assign(peer, subscriber, continues ? since : Version(), !continues);
  }
}

void ShardCore::on_push(PeerId peer, const Push& push) {
  if (!job_ || !job_->values || push.job != job_->request.job) return;
  const auto subscriber = job_->subscribers.find(peer);
  if (subscriber == job_->subscribers.end() || subscriber->second.order != push.order)
    return refuse(peer, "a push must come from a subscribed worker, under its own order number");
  const auto worker = job_->workers.find(push.order);
  // Not answered: who it is has not been announced.
  if (worker == job_->workers.end() || !subscriber->second.answered) return;
  PushLedger::Waiting waiting{push, {}};
  waiting.push.payload = {};
  // A flush is exact whatever the job's codec.
  const DenseFloat32Codec exact;
  const Codec& codec = push.lease == LeaseId() ? exact : *job_->codec;
  if (push.coding != static_cast<std::uint8_t>(codec.coding())) {
    ++counters_.malformed;
    return refuse(peer, fmt::format("this job does not use coding {}", push.coding));
  }
  Result<Update> update = codec.decode(push.payload, job_->values->size());
  if (!update.ok()) {
    ++counters_.malformed;
    return refuse(peer, update.error().message);
  }
  waiting.update = std::move(update).value();
  switch (worker->second.ledger.offer(std::move(waiting))) {
    case PushLedger::Offer::kTaken:
      break;
    case PushLedger::Offer::kSettledBefore:
      worker->second.ack_due = true;
      [[fallthrough]];
    case PushLedger::Offer::kHeldAlready:
      ++counters_.duplicates;
      break;
    case PushLedger::Offer::kNoRoom:
      ++counters_.no_room;
      break;
    case PushLedger::Offer::kFenced:
      ++counters_.fenced;
      break;
  }
}

void ShardCore::on_fetch_cut(PeerId peer, const FetchCut& request) {
  if (!job_ || request.job != job_->request.job) return refuse(peer, "no such job here");
  const auto cut = job_->cuts.find(request.cut);
  if (cut == job_->cuts.end())
    return refuse(peer, fmt::format("cut {} is not held any more", request.cut), request.cut);
  actions_.push_back(SendMessage{peer, kBulk, CutValues{request.job, request.cut, cut->second}});
}

void ShardCore::refuse(PeerId peer, std::string reason, CutId cut) {
  note(fmt::format("refused a request of worker peer {}: {}", peer, reason), true);
  actions_.push_back(
      SendMessage{peer, kControl, ShardRefusal{job_ ? job_->request.job : JobId(), std::move(reason), cut}});
}

void ShardCore::settle(ProtocolTime now) {
  if (!job_ || !job_->values) return;
  Job& job = *job_;
  if (!is_lockstep()) {
    bool any = false;
    for (auto& [order, worker] : job.workers)
      while (settle_head(worker)) any = true;
    if (any && !job.unpublished) {
      job.unpublished = true;
      job.unpublished_since = now;
    }
    return;
  }
  // Deterministic: one push of every active worker at a time, in order of incarnation, then a version.
  // A step is a round of everybody or a flush of everybody: who flushes because it leaves waits for the
  // membership without it.
  for (;;) {
    bool complete = false;
    std::size_t active = 0, flushes = 0;
    for (auto& [order, worker] : job.workers) {
      if (worker.member.state != MemberState::kActive) continue;
      complete = true;
      const PushLedger::Waiting* head = worker.ledger.head();
      if (head == nullptr || !job.active_counts.contains(head->push.epoch)) {
        complete = false;
        break;
      }
      ++active;
      flushes += head->push.lease == LeaseId() ? 1 : 0;
    }
    if (!complete || (flushes != 0 && flushes != active)) return;
    for (auto& [order, worker] : job.workers)
      if (worker.member.state == MemberState::kActive) NANDUTI_CHECK(settle_head(worker));
    publish(now, false);
  }
}

/// Settles the worker's next push if it is there and its membership epoch is known.
bool ShardCore::settle_head(Worker& worker) {
  Job& job = *job_;
  const PushLedger::Waiting* head = worker.ledger.head();
  if (head == nullptr || worker.ledger.fenced() || head->push.epoch > job.epoch) return false;
  const auto active = job.active_counts.find(head->push.epoch);
  const bool refused = active == job.active_counts.end();  // older than epochs_kept memberships
  if (!refused) {
    const std::uint32_t workers = std::max(active->second, head->push.stands_for);
    job.values->apply(head->update, static_cast<float>(head->push.stands_for) / static_cast<float>(workers));
  }
  const PushLedger::Waiting settled = worker.ledger.settle_head(refused);
  ++(refused ? counters_.refused : counters_.settled);
  worker.base = settled.push.base_version;
  worker.ack_due = true;
  job.at_rest = false;
  job.report.push_back({settled.push.order, settled.push.sequence, settled.push.round, settled.push.lease,
                        settled.push.range, refused});
  return true;
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
  job.unpublished = false;
  job.membership_unpublished = false;
  job.published_through = smallest_active_clock();
  message.header = job.published = make_header();
  if (is_lockstep() && !exactly) keep(message);
  std::size_t bytes = message.payload.size();
  if (exactly)
    for (const AssignedRange& range : job.values->changed_since(before))
      bytes += (range.end - range.begin) * sizeof(float);
  for (auto& [peer, subscriber] : job.subscribers) {
    if (!subscriber.answered || subscriber.lagging) continue;
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

/// Keeps a version until every active worker has computed on it or a later one.
void ShardCore::keep(const Publish& version) {
  Job& job = *job_;
  job.kept.push_back(version);
  Version oldest = version.header.version;
  for (const auto& [order, worker] : job.workers)
    if (worker.member.state == MemberState::kActive) oldest = std::min(oldest, worker.base);
  while (!job.kept.empty() && job.kept.front().header.version <= oldest) job.kept.pop_front();
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
  const std::size_t bytes = assign.payload.size();
  send_version(peer, subscriber, std::move(assign), bytes);
}

void ShardCore::send_version(PeerId peer, Subscriber& subscriber, Message message, std::size_t bytes) {
  const std::uint64_t tag = next_tag_++;
  subscriber.unacked.emplace(tag, bytes);
  subscriber.unacked_bytes += bytes;
  subscriber.version = job_->values->version();
  actions_.push_back(SendMessage{peer, kBulk, std::move(message), tag});
}

void ShardCore::send_acks() {
  if (!job_) return;
  std::vector<Worker*> acknowledged;
  for (const auto& [peer, subscriber] : job_->subscribers) {
    const auto it = job_->workers.find(subscriber.order);
    if (it == job_->workers.end() || !it->second.ack_due || !subscriber.answered) continue;
    // To every session of the worker: one of two may be what a lost one has left behind.
    actions_.push_back(SendMessage{peer, kControl,
                                   PushAck{job_->request.job, AckLevel::kDurableHere,
                                           it->second.ledger.next_sequence(), it->second.ledger.refused()}});
    acknowledged.push_back(&it->second);
  }
  for (Worker* worker : acknowledged) worker->ack_due = false;
}

void ShardCore::send_reports() {
  if (!job_ || job_->report.empty()) return;
  std::vector<SettleEntry> entries = std::exchange(job_->report, {});
  for (std::size_t begin = 0; begin < entries.size(); begin += kSettleEntriesMax) {
    const std::size_t end = std::min(begin + kSettleEntriesMax, entries.size());
    SettleReport report{job_->request.job,
                        {entries.begin() + static_cast<std::ptrdiff_t>(begin),
                         entries.begin() + static_cast<std::ptrdiff_t>(end)}};
    const std::uint64_t tag = next_tag_++;
    send_to_coordinator(report, tag);
    unacked_reports_.emplace(tag, std::move(report));
  }
}

void ShardCore::send_to_coordinator(Message message, std::uint64_t tag) {
  if (!coordinator_connected_) return;  // it asks again, and reports are kept until acknowledged
  const bool bulk = std::holds_alternative<CutTaken>(message);
  actions_.push_back(SendMessage{kCoordinator, bulk ? kBulk : kControl, std::move(message), tag});
}

void ShardCore::note(std::string text, bool warning) { actions_.push_back(Note{std::move(text), warning}); }

}  // namespace nanduti
