#include "common/base/check.h"
#include "common/protocol/message.h"
#include "common/protocol/messages_generated.h"

namespace nanduti {

namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

/// Writes each message as a table and returns its offset; the table's type follows from the overload.
class Writer {
 public:
  explicit Writer(FlatBufferBuilder& builder) : b_(builder) {}

  auto write(const RegisterWorker& m) {
    const auto id = id128(m.incarnation);
    return wire::CreateRegisterWorker(b_, text(m.name), text(m.site), &id, text(m.device), text(m.hardware),
                                      m.order.value(), m.job.value());
  }
  auto write(const JobPrepared& m) {
    return wire::CreateJobPrepared(b_, m.job.value(), data(m.data), m.layout_hash);
  }
  auto write(const JobRefused& m) { return wire::CreateJobRefused(b_, m.job.value(), text(m.reason)); }
  auto write(const LeaseRequest& m) { return wire::CreateLeaseRequest(b_, m.job.value()); }
  auto write(const LeaseReturn& m) {
    const auto range = samples(m.range);
    return wire::CreateLeaseReturn(b_, m.job.value(), m.lease.value(), &range);
  }
  auto write(const EvaluationDone& m) {
    return wire::CreateEvaluationDone(b_, m.job.value(), m.lease.value(), m.correct, m.total, m.loss_sum);
  }
  auto write(const WorkerStatus& m) {
    return wire::CreateWorkerStatus(
        b_, m.job.value(), m.clock.value(), m.samples, m.loss_sum, m.compute_seconds, m.stall.gate,
        m.stall.codec, m.stall.data, m.stall.merge, m.compute_cpu_seconds, m.codec_cpu_seconds,
        m.evaluation_seconds, m.bytes_up, m.bytes_down, m.staleness, m.at_gate, m.round_trip_seconds,
        m.pushes_in_flight, m.turnaround_p50_seconds, m.turnaround_p99_seconds, m.stall.window,
        m.residual_norm, m.exact_bytes_up, m.exact_bytes_down, m.round_trip_deviation_seconds,
        m.path_bytes_per_second);
  }
  auto write(const ResidualFlushed& m) { return wire::CreateResidualFlushed(b_, m.job.value()); }
  auto write(const Draining&) { return wire::CreateDraining(b_); }
  auto write(const Leave&) { return wire::CreateLeave(b_); }
  auto write(const Registered& m) { return wire::CreateRegistered(b_, m.order.value()); }
  auto write(const PrepareJob& m) { return wire::CreatePrepareJob(b_, m.job.value(), text(m.spec_text)); }
  auto write(const JoinJob& m) {
    std::vector<Offset<wire::Place>> places;
    for (const ShardPlace& p : m.shards)
      places.push_back(
          wire::CreatePlace(b_, text(p.endpoint), p.index.value(), p.destination, p.begin, p.end));
    return wire::CreateJoinJob(b_, m.job.value(), m.layout_hash, b_.CreateVector(places));
  }
  auto write(const LeaseGrant& m) {
    const auto range = samples(m.range);
    return wire::CreateLeaseGrant(b_, m.job.value(), m.lease.value(), &range, m.active_from.value(),
                                  m.entry_clock.value(), m.ahead);
  }
  auto write(const NoLease& m) { return wire::CreateNoLease(b_, m.job.value()); }
  auto write(const EvaluationLease& m) {
    return wire::CreateEvaluationLease(b_, m.job.value(), m.lease.value(), m.cut.value(), m.begin, m.end);
  }
  auto write(const FlushResidual& m) { return wire::CreateFlushResidual(b_, m.job.value()); }
  auto write(const EndJob& m) { return wire::CreateEndJob(b_, m.job.value(), text(m.reason)); }
  auto write(const Fenced& m) { return wire::CreateFenced(b_, text(m.reason)); }
  auto write(const RegisterShard& m) {
    return wire::CreateRegisterShard(b_, text(m.server_name), text(m.endpoint), m.destination,
                                     text(m.hardware), m.job.value(), m.epoch.value(), m.key);
  }
  auto write(const ShardOpened& m) { return wire::CreateShardOpened(b_, m.job.value()); }
  auto write(const ShardFailed& m) { return wire::CreateShardFailed(b_, m.job.value(), text(m.reason)); }
  auto write(const SettleReport& m) {
    std::vector<wire::Settled> entries;
    for (const SettleEntry& e : m.entries)
      entries.emplace_back(e.order.value(), e.sequence.value(), e.round.value(), e.lease.value(),
                           samples(e.range), e.applied_parts, e.age);
    return wire::CreateSettleReport(b_, m.job.value(), b_.CreateVectorOfStructs(entries), m.number);
  }
  auto write(const FenceDone& m) {
    return wire::CreateFenceDone(b_, m.job.value(), m.order.value(), m.next_sequence.value());
  }
  auto write(const CutTaken& m) {
    std::vector<wire::Position> settled;
    for (const SettledPosition& p : m.settled)
      settled.emplace_back(p.order.value(), p.next_sequence.value(), p.clock.value());
    return wire::CreateCutTaken(b_, m.job.value(), m.cut.value(), m.version.value(),
                                b_.CreateVectorOfStructs(settled), m.residual_norm);
  }
  auto write(const ShardAtRest& m) { return wire::CreateShardAtRest(b_, m.job.value(), m.version.value()); }
  auto write(const OpenShard& m) {
    return wire::CreateOpenShard(b_, m.job.value(), text(m.spec_text), data(m.data), m.index.value(), m.begin,
                                 m.end, m.layout_hash, m.key);
  }
  auto write(const Membership& m) {
    std::vector<wire::MemberEntry> members;
    for (const Member& e : m.members)
      members.emplace_back(e.order.value(), id128(e.incarnation), static_cast<std::uint8_t>(e.state),
                           e.entry_clock.value());
    return wire::CreateMembership(b_, m.job.value(), m.epoch.value(), b_.CreateVectorOfStructs(members),
                                  b_.CreateVector(m.earlier_active));
  }
  auto write(const Fence& m) { return wire::CreateFence(b_, m.job.value(), m.order.value()); }
  auto write(const TakeCut& m) { return wire::CreateTakeCut(b_, m.job.value(), m.cut.value()); }
  auto write(const ReleaseCut& m) { return wire::CreateReleaseCut(b_, m.job.value(), m.cut.value()); }
  auto write(const Rest& m) { return wire::CreateRest(b_, m.job.value()); }
  auto write(const CloseShard& m) { return wire::CreateCloseShard(b_, m.job.value()); }
  auto write(const Subscribe& m) {
    const auto id = id128(m.incarnation);
    return wire::CreateSubscribe(b_, m.job.value(), m.order.value(), &id, m.chain.value(), m.version.value(),
                                 m.oldest_held.value(), m.initial_fingerprint, m.oldest_round.value());
  }
  auto write(const Push& m) {
    const auto range = samples(m.range);
    return wire::CreatePush(b_, m.job.value(), m.order.value(), m.sequence.value(), m.round.value(),
                            m.epoch.value(), m.base_version.value(), m.lease.value(), &range, m.stands_for,
                            m.smallest_clock.value(), m.coding, m.acknowledged.value());
  }
  auto write(const FetchCut& m) { return wire::CreateFetchCut(b_, m.job.value(), m.cut.value()); }
  auto write(const Subscribed& m) {
    return wire::CreateSubscribed(b_, m.job.value(), m.next_sequence.value());
  }
  auto write(const PushAck& m) {
    return wire::CreatePushAck(b_, m.job.value(), static_cast<std::uint8_t>(m.level), m.next_sequence.value(),
                               returned(m.returned));
  }
  auto write(const Publish& m) { return wire::CreatePublish(b_, header(m.header), m.coding); }
  auto write(const Assign& m) {
    std::vector<wire::Span> ranges;
    for (const AssignedRange& r : m.ranges) ranges.emplace_back(r.begin, r.end);
    return wire::CreateAssign(b_, header(m.header), m.from_version.value(), m.whole,
                              b_.CreateVectorOfStructs(ranges));
  }
  auto write(const CutValues& m) { return wire::CreateCutValues(b_, m.job.value(), m.cut.value()); }
  auto write(const ShardRefusal& m) {
    return wire::CreateShardRefusal(b_, m.job.value(), text(m.reason), m.cut.value());
  }
  auto write(const Tune& m) {
    return wire::CreateTune(b_, m.job.value(), m.number, m.from_round.value(), m.bound.has_value(),
                            m.bound.value_or(0), m.round_samples, text(m.settings));
  }
  auto write(const Tuned& m) { return wire::CreateTuned(b_, m.job.value(), m.number, m.from_round.value()); }
  auto write(const SettleConfirmed& m) { return wire::CreateSettleConfirmed(b_, m.job.value(), m.number); }

 private:
  Offset<flatbuffers::String> text(const std::string& t) { return b_.CreateString(t); }
  static wire::Id128 id128(const RandomId& id) { return {id.words[0], id.words[1]}; }
  static wire::Samples samples(const SampleRange& r) { return {r.epoch.value(), r.begin, r.end}; }
  Offset<wire::Data> data(const DataDescription& d) {
    return wire::CreateData(b_, d.train_samples, d.test_samples, d.channels, d.height, d.width, d.classes,
                            d.fingerprint);
  }
  Offset<flatbuffers::Vector<const wire::Returned*>> returned(const std::vector<ReturnedPush>& list) {
    std::vector<wire::Returned> pushes;
    for (const ReturnedPush& r : list) pushes.emplace_back(r.sequence.value(), r.applied_parts);
    return b_.CreateVectorOfStructs(pushes);
  }
  Offset<wire::VersionHeader> header(const VersionHeader& h) {
    std::vector<wire::Clock> active;
    for (const MemberClock& c : h.active)
      active.emplace_back(c.order.value(), c.entry_clock.value(), c.clock.value());
    std::vector<Offset<wire::Verdict>> verdicts;
    for (const Verdict& v : h.verdicts)
      verdicts.push_back(
          wire::CreateVerdict(b_, v.order.value(), v.next_sequence.value(), returned(v.returned)));
    return wire::CreateVersionHeader(b_, h.job.value(), h.term.value(), h.chain.value(), h.version.value(),
                                     h.epoch.value(), b_.CreateVectorOfStructs(active),
                                     b_.CreateVector(verdicts));
  }

  FlatBufferBuilder& b_;
};

template <class M>
SharedBytes payload_of(const M& message) {
  if constexpr (requires { message.payload; }) return message.payload;
  return {};
}

}  // namespace

EncodedMessage encode_message(const Message& message) {
  FlatBufferBuilder builder(256);
  Writer writer(builder);
  // Message and wire::Body list the types in the same order; decode_message relies on it too.
  const auto type = static_cast<wire::Body>(message.index() + 1);
  const Offset<void> body = std::visit([&](const auto& m) { return writer.write(m).Union(); }, message);
  builder.Finish(wire::CreateEnvelope(builder, type, body));
  const auto detached = std::make_shared<flatbuffers::DetachedBuffer>(builder.Release());
  const auto* bytes = reinterpret_cast<const std::byte*>(detached->data());
  return {SharedBytes(detached, {bytes, detached->size()}),
          std::visit([](const auto& m) { return payload_of(m); }, message)};
}

std::string_view message_name(const Message& message) {
  return wire::EnumNameBody(static_cast<wire::Body>(message.index() + 1));
}

}  // namespace nanduti
