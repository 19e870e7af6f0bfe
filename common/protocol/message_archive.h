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
  a(m.job, m.spec_text, m.data, m.index, m.begin, m.end, m.layout_hash);
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
