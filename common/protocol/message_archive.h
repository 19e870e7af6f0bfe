#pragma once

#include "common/base/archive.h"
#include "common/protocol/message.h"

/// Fields of those message structs that processes keep in their durable state (archive.h).
namespace nanduti {

template <class Archive>
void archive(Archive& a, IncarnationId& id) {
  a(id.words[0], id.words[1]);
}
template <class Archive>
void archive(Archive& a, DataDescription& m) {
  a(m.train_samples, m.test_samples, m.channels, m.height, m.width, m.classes, m.fingerprint);
}
template <class Archive>
void archive(Archive& a, SampleRange& m) {
  a(m.epoch, m.begin, m.end);
}
template <class Archive>
void archive(Archive& a, OpenShard& m) {
  a(m.job, m.spec_text, m.data, m.index, m.begin, m.end, m.layout_hash, m.key);
}
template <class Archive>
void archive(Archive& a, StallSeconds& m) {
  a(m.gate, m.codec, m.data, m.merge, m.window);
}
template <class Archive>
void archive(Archive& a, WorkerStatus& m) {
  a(m.job, m.clock, m.samples, m.loss_sum, m.compute_seconds, m.stall, m.compute_cpu_seconds,
    m.codec_cpu_seconds, m.evaluation_seconds, m.bytes_up, m.bytes_down, m.staleness, m.at_gate,
    m.round_trip_seconds, m.pushes_in_flight, m.turnaround_p50_seconds, m.turnaround_p99_seconds,
    m.residual_norm, m.exact_bytes_up, m.exact_bytes_down, m.round_trip_deviation_seconds,
    m.path_bytes_per_second);
}
template <class Archive>
void archive(Archive& a, RegisterWorker& m) {
  a(m.name, m.site, m.incarnation, m.device, m.hardware, m.order, m.job);
}
template <class Archive>
void archive(Archive& a, RegisterShard& m) {
  a(m.server_name, m.endpoint, m.destination, m.hardware, m.job, m.epoch, m.key);
}
template <class Archive>
void archive(Archive& a, ShardPlace& m) {
  a(m.endpoint, m.index, m.destination, m.begin, m.end);
}
template <class Archive>
void archive(Archive& a, Member& m) {
  a(m.order, m.incarnation, m.state, m.entry_clock);
}
template <class Archive>
void archive(Archive& a, Tune& m) {
  a(m.job, m.number, m.from_round, m.bound, m.round_samples, m.settings);
}
template <class Archive>
void archive(Archive& a, SettleEntry& m) {
  a(m.order, m.sequence, m.round, m.lease, m.range, m.applied_parts, m.age);
}
template <class Archive>
void archive(Archive& a, ReturnedPush& m) {
  a(m.sequence, m.applied_parts);
}
template <class Archive>
void archive(Archive& a, MemberClock& m) {
  a(m.order, m.entry_clock, m.clock);
}
template <class Archive>
void archive(Archive& a, Verdict& m) {
  a(m.order, m.next_sequence, m.returned);
}
template <class Archive>
void archive(Archive& a, VersionHeader& m) {
  a(m.job, m.term, m.chain, m.version, m.epoch, m.active, m.verdicts);
}
template <class Archive>
void archive(Archive& a, Publish& m) {
  a(m.header, m.coding, m.payload);
}

}  // namespace nanduti
