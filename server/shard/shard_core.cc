#include "server/shard/shard_core.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/overloaded.h"

namespace nanduti {

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
  now_ = now;
  std::visit([&](const auto& e) { handle(e); }, event);
  settle();
  answer_subscribers();
  publish_if_due();
  send_acks();
  send_reports();
  end_entry();
}

void ShardCore::on_deadline(ProtocolTime now) {
  now_ = now;
  publish_if_due();
  end_entry();
}

ProtocolTime ShardCore::next_deadline() const {
  if (!job_ || !job_->values || is_lockstep()) return kNever;
  if (job_->held_since) return *job_->held_since + options_.hold_max;
  return job_->unpublished ? job_->unpublished_since + options_.unpublished_age_max : kNever;
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
  occupancy.unconfirmed_entries = unconfirmed_entries_;
  if (!job_) return occupancy;
  occupancy.cuts = job_->cuts.size();
  for (const auto& [peer, subscriber] : job_->subscribers)
    occupancy.subscriber_bytes = std::max(occupancy.subscriber_bytes, subscriber.unacked_bytes);
  for (const auto& [order, worker] : job_->workers) {
    const PushLedger::Waiting* head = worker.ledger.head();
    const std::size_t next = head == nullptr ? 0 : head->size_bytes();
    occupancy.reorder_bytes = std::max(occupancy.reorder_bytes, worker.ledger.waiting_bytes() - next);
  }
  return occupancy;
}

void ShardCore::handle(const PeerConnected& event) {
  if (event.peer != kCoordinator) return;  // a worker: it subscribes next
  coordinator_connected_ = true;
  RegisterShard registration = options_.registration;
  if (job_ && job_->values) {
    registration.job = job_->request.job;
    registration.epoch = job_->epoch;
    registration.key = job_->request.key;
    job_->cuts.clear();  // another coordinator's, or it takes them anew
  }
  send_to_coordinator(registration);
  for (const SettleReport& report : unconfirmed_reports_) send_to_coordinator(report);
}

void ShardCore::handle(const PeerClosed& event) {
  if (event.peer == kCoordinator) {
    coordinator_connected_ = false;
    note("the coordinator is away: " + event.reason, true);
  } else if (job_) {
    job_->subscribers.erase(event.peer);
  }
}

void ShardCore::handle(const MessageReceived& event) {
  if (event.peer == kCoordinator) return on_coordinator_message(event.message);
  std::visit(Overloaded{[&](const Subscribe& m) { on_subscribe(event.peer, m); },
                        [&](const Push& m) { on_push(event.peer, m); },
                        [&](const FetchCut& m) { on_fetch_cut(event.peer, m); },
                        [&](const auto&) {
                          ++counters_.malformed;
                          refuse(event.peer, fmt::format("a shard takes no {}", message_name(event.message)));
                        }},
             event.message);
}

void ShardCore::handle(const MessageAcked& event) {
  if (!job_) return;
  const auto subscriber = job_->subscribers.find(event.peer);
  if (subscriber != job_->subscribers.end()) on_acked(event.peer, subscriber->second, event.tag);
}

void ShardCore::handle(const ShardLoaded& event) {
  if (!job_ || job_->request.job != event.job || job_->request.key != event.key || job_->values) return;
  if (!event.start.ok()) {
    send_to_coordinator(ShardFailed{event.job, event.start.error().message});
    job_.reset();
    return;
  }
  const ShardStart& start = event.start.value();
  NANDUTI_CHECK(start.values.size() == job_->request.end - job_->request.begin);
  job_->values.emplace(start.values, start.optimizer);
  job_->initial_fingerprint = initial_fingerprint(start.values);
  job_->settings = start;
  job_->read_settings = start.read_settings;
  job_->deterministic = start.deterministic;
  job_->durability = start.durability;
  entry_begins_ = start.durability;
  begin_chain(ChainId(random_.next_u64() | 1));
  admit();
  send_to_coordinator(ShardOpened{event.job});
}

void ShardCore::admit() {
  const OpenShard& request = job_->request;
  Admission admission{request.job, request.layout_hash};
  admission.worker_payload_bytes_max = shard_payload_bytes_max(request.end - request.begin);
  actions_.push_back(Admit{admission});
}

void ShardCore::on_coordinator_message(const Message& message) {
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
                          if (is_ours(m.job)) rest();
                        },
                        [&](const Tune& m) {
                          if (is_ours(m.job)) tune(m);
                        },
                        [&](const SettleConfirmed& m) {
                          if (is_ours(m.job)) on_confirmed(m.number);
                        },
                        [&](const CloseShard& m) {
                          if (job_ && job_->request.job == m.job) close();
                        },
                        [&](const auto&) { ++counters_.malformed; }},
             message);
}

void ShardCore::open(const OpenShard& request) {
  if (job_ && job_->request.job == request.job &&
      job_->request.key == request.key) {  // asked again after a lost session
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
  unconfirmed_reports_.clear();
  unconfirmed_entries_ = 0;
  if (is_durable()) actions_.push_back(DropLog{});
  job_.reset();
  actions_.push_back(Admit{});
  entry_.clear();
  entry_begins_.reset();
  snapshotting_ = false;
}

void ShardCore::merge(const Membership& membership) {
  Job& job = *job_;
  if (membership.epoch <= job.epoch) return;
  log(0, membership);
  // Of epochs that a shard has missed while it was away.
  std::uint64_t missed = membership.epoch.value() - membership.earlier_active.size();
  for (const std::uint32_t count : membership.earlier_active)
    job.active_counts.try_emplace(MembershipEpoch(missed++), count);
  job.epoch = membership.epoch;
  std::uint32_t active = 0;
  for (auto& [order, worker] : job.workers) worker.member.state = MemberState::kDead;
  for (const Member& member : membership.members) {
    Worker& worker = job.workers[member.order];
    worker.member = member;
    if (member.state == MemberState::kDead) continue;
    worker.ledger.enter_at(member.entry_clock);
    if (member.state == MemberState::kActive) ++active;
  }
  // Who is not named has died while the shard was away.
  for (auto& [order, worker] : job.workers) {
    if (worker.member.state != MemberState::kDead) continue;
    worker.ledger.fence();
    job.ages.forget(order);
  }
  job.active_counts[job.epoch] = active;
  while (job.active_counts.size() > options_.epochs_kept) job.active_counts.erase(job.active_counts.begin());
  job.membership_unpublished = true;
  // In lockstep the first membership comes with version 0: versions count steps.
  if (is_lockstep()) job.published = make_header();
}

bool ShardCore::is_lockstep() const {
  return job_ && job_->deterministic && job_->epoch <= MembershipEpoch(1);
}

void ShardCore::fence(IncarnationOrder order) {
  log(0, Fence{job_->request.job, order});
  Worker& worker = job_->workers[order];
  worker.ledger.fence();
  job_->ages.forget(order);
  worker.member.order = order;  // it leaves the gate with the next membership, not before
  // Versions for it are memory for nobody.
  for (auto it = job_->subscribers.begin(); it != job_->subscribers.end();) {
    if (it->second.request.order != order) {
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
  CutTaken taken{job.request.job, cut, job.values->version(), {}, it->second, job.values->residual_norm()};
  for (const auto& [order, worker] : job.workers)
    if (!worker.ledger.fenced() && taken.settled.size() < kMembersMax)
      taken.settled.push_back({order, worker.ledger.next_sequence(), worker.ledger.clock()});
  send_reports();
  send_to_coordinator(std::move(taken));
}

void ShardCore::rest() {
  if (!job_->at_rest) publish(true);
  send_to_coordinator(ShardAtRest{job_->request.job, job_->values->version()});
}

/// From the next version and push on. (What pushes are coded with is their workers' affair.)
void ShardCore::tune(const Tune& tuning) {
  if ((job_->tuning && tuning.number <= job_->tuning->number) || tuning.settings.empty()) return;
  Result<ShardSettings> settings = job_->read_settings(tuning.settings);
  if (!settings.ok()) {
    send_to_coordinator(ShardFailed{job_->request.job, settings.error().message});
    return;
  }
  log(0, tuning);
  job_->tuning = tuning;
  job_->settings = std::move(settings).value();
}

void ShardCore::on_fetch_cut(PeerId peer, const FetchCut& request) {
  if (!job_ || request.job != job_->request.job) return refuse(peer, "no such job here");
  const auto subscriber = job_->subscribers.find(peer);
  if (subscriber == job_->subscribers.end())
    return refuse(peer, "a cut is for subscribed workers", request.cut);
  std::map<CutId, Fetch>& fetches = subscriber->second.fetches;
  if (const auto under_way = fetches.find(request.cut); under_way != fetches.end()) {
    ++counters_.repeated;
    under_way->second.again = true;
    return;
  }
  const auto cut = job_->cuts.find(request.cut);
  if (cut == job_->cuts.end())
    return refuse(peer, fmt::format("cut {} is not held any more", request.cut), request.cut);
  const std::uint64_t tag = next_tag_++;
  fetches.emplace(request.cut, Fetch{tag});
  actions_.push_back(SendMessage{peer, kCuts, CutValues{request.job, request.cut, cut->second}, tag});
}

void ShardCore::refuse(PeerId peer, std::string reason, CutId cut) {
  note(fmt::format("refused a request of worker peer {}: {}", peer, reason), true);
  actions_.push_back(
      SendMessage{peer, kControl, ShardRefusal{job_ ? job_->request.job : JobId(), std::move(reason), cut}});
}

void ShardCore::send_to_coordinator(Message message) {
  if (!coordinator_connected_) return;  // it asks again, and reports are kept until confirmed
  const bool bulk = std::holds_alternative<CutTaken>(message);
  actions_.push_back(SendMessage{kCoordinator, bulk ? kBulk : kControl, std::move(message)});
}

void ShardCore::note(std::string text, bool warning) { actions_.push_back(Note{std::move(text), warning}); }

}  // namespace nanduti
