#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/protocol/aligned_vector.h"
#include "common/protocol/message.h"
#include "common/protocol/messages_generated.h"
#include "common/protocol/printable_text.h"

namespace nanduti {

namespace {

/// Reads tables into messages and remembers the first field that is out of its limits.
class Reader {
 public:
  explicit Reader(SharedBytes payload) : payload_(std::move(payload)) {}

  [[nodiscard]] const std::string& fault() const { return fault_; }
  [[nodiscard]] bool payload_used() const { return payload_used_; }

  void read(const wire::RegisterWorker& t, RegisterWorker& m) {
    m = {text("name", t.name(), kNameBytesMax),
         text("site", t.site(), kNameBytesMax),
         id128<IncarnationId>("incarnation", t.incarnation()),
         text("device", t.device(), kNameBytesMax),
         text("hardware", t.hardware(), kTextBytesMax),
         IncarnationOrder(t.order()),
         JobId(t.job())};
  }
  void read(const wire::JobPrepared& t, JobPrepared& m) {
    m = {JobId(t.job()), data(t.data()), t.layout_hash()};
  }
  void read(const wire::JobRefused& t, JobRefused& m) { m = {JobId(t.job()), reason(t.reason())}; }
  void read(const wire::LeaseRequest& t, LeaseRequest& m) { m = {JobId(t.job())}; }
  void read(const wire::LeaseReturn& t, LeaseReturn& m) {
    m = {JobId(t.job()), LeaseId(t.lease()), samples(t.samples())};
  }
  void read(const wire::EvaluationDone& t, EvaluationDone& m) {
    m = {JobId(t.job()), LeaseId(t.lease()), t.correct(), t.total(), real("loss_sum", t.loss_sum())};
    require(m.correct <= m.total, "correct");
  }
  void read(const wire::WorkerStatus& t, WorkerStatus& m) {
    m = {JobId(t.job()),
         Round(t.clock()),
         t.samples(),
         real("loss_sum", t.loss_sum()),
         seconds("compute_seconds", t.compute_seconds()),
         {seconds("stall_gate", t.stall_gate()), seconds("stall_codec", t.stall_codec()),
          seconds("stall_data", t.stall_data()), seconds("stall_merge", t.stall_merge()),
          seconds("stall_window", t.stall_window())},
         seconds("compute_cpu_seconds", t.compute_cpu_seconds()),
         seconds("codec_cpu_seconds", t.codec_cpu_seconds()),
         seconds("evaluation_seconds", t.evaluation_seconds()),
         t.bytes_up(),
         t.bytes_down(),
         t.staleness(),
         t.at_gate(),
         seconds("round_trip_seconds", t.round_trip_seconds()),
         t.pushes_in_flight(),
         seconds("turnaround_p50", t.turnaround_p50()),
         seconds("turnaround_p99", t.turnaround_p99()),
         seconds("residual_norm", t.residual_norm()),
         t.exact_bytes_up(),
         t.exact_bytes_down(),
         seconds("round_trip_deviation", t.round_trip_deviation()),
         seconds("path_bytes_per_second", t.path_bytes_per_second())};
  }
  void read(const wire::ResidualFlushed& t, ResidualFlushed& m) { m = {JobId(t.job())}; }
  void read(const wire::Draining&, Draining&) {}
  void read(const wire::Leave&, Leave&) {}
  void read(const wire::Registered& t, Registered& m) { m = {IncarnationOrder(t.order())}; }
  void read(const wire::PrepareJob& t, PrepareJob& m) { m = {JobId(t.job()), spec_text(t.spec_text())}; }
  void read(const wire::JoinJob& t, JoinJob& m) {
    m = {JobId(t.job()), t.layout_hash(), {}};
    if (!count("shards", t.shards(), kShardsMax)) return;
    for (const wire::Place* p : *t.shards()) {
      m.shards.push_back({text("endpoint", p->endpoint(), kNameBytesMax), ShardIndex(p->index()),
                          p->destination(), p->begin(), p->end()});
      require(p->begin() <= p->end(), "shards.begin");
    }
  }
  void read(const wire::LeaseGrant& t, LeaseGrant& m) {
    m = {JobId(t.job()),         LeaseId(t.lease()), samples(t.samples()), MembershipEpoch(t.active_from()),
         Round(t.entry_clock()), t.ahead()};
  }
  void read(const wire::NoLease& t, NoLease& m) { m = {JobId(t.job())}; }
  void read(const wire::EvaluationLease& t, EvaluationLease& m) {
    m = {JobId(t.job()), LeaseId(t.lease()), CutId(t.cut()), t.begin(), t.end()};
    require(t.begin() <= t.end(), "begin");
  }
  void read(const wire::FlushResidual& t, FlushResidual& m) { m = {JobId(t.job())}; }
  void read(const wire::EndJob& t, EndJob& m) { m = {JobId(t.job()), reason(t.reason())}; }
  void read(const wire::Fenced& t, Fenced& m) { m = {reason(t.reason())}; }
  void read(const wire::RegisterShard& t, RegisterShard& m) {
    m = {text("server_name", t.server_name(), kNameBytesMax),
         text("endpoint", t.endpoint(), kNameBytesMax),
         t.destination(),
         text("hardware", t.hardware(), kTextBytesMax),
         JobId(t.job()),
         MembershipEpoch(t.epoch()),
         t.key()};
  }
  void read(const wire::ShardOpened& t, ShardOpened& m) { m = {JobId(t.job())}; }
  void read(const wire::ShardFailed& t, ShardFailed& m) { m = {JobId(t.job()), reason(t.reason())}; }
  void read(const wire::SettleReport& t, SettleReport& m) {
    m.job = JobId(t.job());
    m.number = t.number();
    if (!count("entries", t.entries(), kSettleEntriesMax)) return;
    for (const wire::Settled* e : *t.entries())
      m.entries.push_back({IncarnationOrder(e->order()), Sequence(e->sequence()), Round(e->round()),
                           LeaseId(e->lease()), samples(&e->samples()),
                           applied_parts(e->applied_parts(), kAppliedWhole), e->age()});
  }
  void read(const wire::FenceDone& t, FenceDone& m) {
    m = {JobId(t.job()), IncarnationOrder(t.order()), Sequence(t.next_sequence())};
  }
  void read(const wire::CutTaken& t, CutTaken& m) {
    m = {JobId(t.job()),
         CutId(t.cut()),
         Version(t.version()),
         {},
         floats(),
         seconds("residual_norm", t.residual_norm())};
    if (!count("settled", t.settled(), kMembersMax)) return;
    for (const wire::Position* p : *t.settled())
      m.settled.push_back({IncarnationOrder(p->order()), Sequence(p->next_sequence()), Round(p->clock())});
  }
  void read(const wire::ShardAtRest& t, ShardAtRest& m) { m = {JobId(t.job()), Version(t.version())}; }
  void read(const wire::OpenShard& t, OpenShard& m) {
    m = {JobId(t.job()), spec_text(t.spec_text()), data(t.data()), ShardIndex(t.index()), t.begin(),
         t.end(),        t.layout_hash(),          t.key()};
    require(t.begin() <= t.end() && (t.end() - t.begin()) * sizeof(float) <= kPayloadBytesMax, "begin");
  }
  void read(const wire::Membership& t, Membership& m) {
    m = {JobId(t.job()), MembershipEpoch(t.epoch()), {}, {}};
    if (count("earlier_active", t.earlier_active(), kEarlierEpochsMax))
      m.earlier_active.assign(t.earlier_active()->begin(), t.earlier_active()->end());
    require(m.earlier_active.size() <= t.epoch(), "earlier_active");
    if (!count("members", t.members(), kMembersMax)) return;
    for (const wire::MemberEntry* e : *t.members()) {
      require(e->state() >= 1 && e->state() <= 4, "members.state");
      m.members.push_back({IncarnationOrder(e->order()),
                           id128<IncarnationId>("members.incarnation", &e->incarnation()),
                           static_cast<MemberState>(e->state()), Round(e->entry_clock())});
    }
  }
  void read(const wire::Fence& t, Fence& m) { m = {JobId(t.job()), IncarnationOrder(t.order())}; }
  void read(const wire::TakeCut& t, TakeCut& m) { m = {JobId(t.job()), CutId(t.cut())}; }
  void read(const wire::ReleaseCut& t, ReleaseCut& m) { m = {JobId(t.job()), CutId(t.cut())}; }
  void read(const wire::Rest& t, Rest& m) { m = {JobId(t.job())}; }
  void read(const wire::CloseShard& t, CloseShard& m) { m = {JobId(t.job())}; }
  void read(const wire::Subscribe& t, Subscribe& m) {
    m = {JobId(t.job()),
         IncarnationOrder(t.order()),
         id128<IncarnationId>("incarnation", t.incarnation()),
         ChainId(t.chain()),
         Version(t.version()),
         Sequence(t.oldest_held()),
         Round(t.oldest_round()),
         t.initial_fingerprint()};
  }
  void read(const wire::Push& t, Push& m) {
    m = {JobId(t.job()),
         IncarnationOrder(t.order()),
         Sequence(t.sequence()),
         Round(t.round()),
         MembershipEpoch(t.epoch()),
         Version(t.base_version()),
         LeaseId(t.lease()),
         samples(t.samples()),
         t.stands_for(),
         Round(t.smallest_clock()),
         t.coding(),
         Sequence(t.acknowledged()),
         take_payload()};
    require(t.stands_for() >= 1 && t.stands_for() <= kMembersMax, "stands_for");
  }
  void read(const wire::FetchCut& t, FetchCut& m) { m = {JobId(t.job()), CutId(t.cut())}; }
  void read(const wire::Subscribed& t, Subscribed& m) { m = {JobId(t.job()), Sequence(t.next_sequence())}; }
  void read(const wire::PushAck& t, PushAck& m) {
    require(t.level() >= 1 && t.level() <= 3, "level");
    m = {JobId(t.job()), static_cast<AckLevel>(t.level()), Sequence(t.next_sequence()),
         returned(t.returned())};
  }
  void read(const wire::Publish& t, Publish& m) { m = {header(t.header()), t.coding(), take_payload()}; }
  void read(const wire::Assign& t, Assign& m) {
    m = {header(t.header()), Version(t.from_version()), t.whole(), {}, floats()};
    std::uint64_t values = 0;
    std::uint64_t reached = 0;
    if (count("ranges", t.ranges(), kPayloadBytesMax)) {
      for (const wire::Span* r : *t.ranges()) {
        require(r->begin() >= reached && r->begin() < r->end(), "ranges");
        reached = r->end();
        values += r->end() - r->begin();
        m.ranges.push_back({r->begin(), r->end()});
      }
    }
    require(values == m.payload.size() / sizeof(float), "ranges");
  }
  void read(const wire::CutValues& t, CutValues& m) { m = {JobId(t.job()), CutId(t.cut()), floats()}; }
  void read(const wire::Tune& t, Tune& m) {
    m = {JobId(t.job()), t.number(), Round(t.from_round()), {}, t.round_samples(), {}};
    if (t.bounded()) m.bound = t.bound();
    require(t.round_samples() > 0, "round_samples");
    m.settings = yaml_text("settings", t.settings());
  }
  void read(const wire::Tuned& t, Tuned& m) { m = {JobId(t.job()), t.number(), Round(t.from_round())}; }
  void read(const wire::SettleConfirmed& t, SettleConfirmed& m) { m = {JobId(t.job()), t.number()}; }
  void read(const wire::ShardRefusal& t, ShardRefusal& m) {
    m = {JobId(t.job()), reason(t.reason()), CutId(t.cut())};
  }

 private:
  void require(bool holds, const char* field) {
    if (!holds && fault_.empty()) fault_ = field;
  }
  std::string text(const char* field, const flatbuffers::String* t, std::size_t bytes_max) {
    if (t == nullptr) return {};
    require(t->size() <= bytes_max, field);
    return t->size() <= bytes_max ? printable_text(t->string_view()) : std::string();
  }
  /// YAML: it has lines.
  std::string yaml_text(const char* field, const flatbuffers::String* t) {
    if (t == nullptr) return {};
    require(t->size() <= kTextBytesMax, field);
    return t->size() <= kTextBytesMax ? t->str() : std::string();
  }
  std::string spec_text(const flatbuffers::String* t) { return yaml_text("spec_text", t); }
  std::string reason(const flatbuffers::String* t) { return text("reason", t, kTextBytesMax); }
  double real(const char* field, double value) {
    require(std::isfinite(value), field);
    return value;
  }
  double seconds(const char* field, double value) {
    require(std::isfinite(value) && value >= 0, field);
    return value;
  }
  template <class T>
  bool count(const char* field, const flatbuffers::Vector<T>* list, std::size_t count_max) {
    if (list == nullptr) return false;
    const bool holds = list->size() <= count_max && is_aligned(*list);
    require(holds, field);
    return holds;
  }
  template <class Id>
  Id id128(const char* field, const wire::Id128* id) {
    Id out;
    require(id != nullptr, field);
    if (id != nullptr) out.words = {id->high(), id->low()};
    return out;
  }
  SampleRange samples(const wire::Samples* s) {
    require(s != nullptr && s->begin() <= s->end(), "samples");
    if (s == nullptr) return {};
    return {DataEpoch(s->epoch()), s->begin(), s->end()};
  }
  DataDescription data(const wire::Data* d) {
    require(d != nullptr, "data");
    if (d == nullptr) return {};
    return {d->train_samples(), d->test_samples(), d->channels(),   d->height(),
            d->width(),         d->classes(),      d->fingerprint()};
  }
  std::uint16_t applied_parts(std::uint16_t parts, std::uint16_t parts_max) {
    require(parts <= parts_max, "applied_parts");
    return parts;
  }
  std::vector<ReturnedPush> returned(const flatbuffers::Vector<const wire::Returned*>* list) {
    std::vector<ReturnedPush> out;
    if (!count("returned", list, kReturnedMax)) return out;
    for (const wire::Returned* r : *list)
      out.push_back({Sequence(r->sequence()), applied_parts(r->applied_parts(), kAppliedWhole - 1)});
    return out;
  }
  VersionHeader header(const wire::VersionHeader* h) {
    VersionHeader out;
    require(h != nullptr, "header");
    if (h == nullptr) return out;
    out.job = JobId(h->job());
    out.term = Term(h->term());
    out.chain = ChainId(h->chain());
    out.version = Version(h->version());
    out.epoch = MembershipEpoch(h->epoch());
    if (count("header.active", h->active(), kMembersMax))
      for (const wire::Clock* c : *h->active())
        out.active.push_back({IncarnationOrder(c->order()), Round(c->entry_clock()), Round(c->clock())});
    if (count("header.verdicts", h->verdicts(), kMembersMax))
      for (const wire::Verdict* v : *h->verdicts())
        out.verdicts.push_back(
            {IncarnationOrder(v->order()), Sequence(v->next_sequence()), returned(v->returned())});
    return out;
  }
  SharedBytes take_payload() {
    payload_used_ = true;
    return payload_;
  }
  SharedBytes floats() {
    require(payload_.size() % sizeof(float) == 0, "payload");
    return take_payload();
  }

  SharedBytes payload_;
  bool payload_used_ = false;
  std::string fault_;
};

/// One reader per alternative of Message, in order. Each table's C++ type follows from the union.
template <std::size_t I>
Message read_one(const wire::Envelope& envelope, Reader& reader) {
  std::variant_alternative_t<I, Message> message;
  constexpr auto type = static_cast<wire::Body>(I + 1);
#define NANDUTI_READ(NAME)                                  \
  if constexpr (type == wire::Body::NAME) {                 \
    reader.read(*envelope.body_as_##NAME(), message);       \
    static_assert(std::is_same_v<decltype(message), NAME>); \
  }
  // clang-format off
  NANDUTI_READ(RegisterWorker)
  NANDUTI_READ(JobPrepared)
  NANDUTI_READ(JobRefused)
  NANDUTI_READ(LeaseRequest)
  NANDUTI_READ(LeaseReturn)
  NANDUTI_READ(EvaluationDone)
  NANDUTI_READ(WorkerStatus)
  NANDUTI_READ(ResidualFlushed)
  NANDUTI_READ(Draining)
  NANDUTI_READ(Leave)
  NANDUTI_READ(Registered)
  NANDUTI_READ(PrepareJob)
  NANDUTI_READ(JoinJob)
  NANDUTI_READ(LeaseGrant)
  NANDUTI_READ(NoLease)
  NANDUTI_READ(EvaluationLease)
  NANDUTI_READ(FlushResidual)
  NANDUTI_READ(EndJob)
  NANDUTI_READ(Fenced)
  NANDUTI_READ(RegisterShard)
  NANDUTI_READ(ShardOpened)
  NANDUTI_READ(ShardFailed)
  NANDUTI_READ(SettleReport)
  NANDUTI_READ(FenceDone)
  NANDUTI_READ(CutTaken)
  NANDUTI_READ(ShardAtRest)
  NANDUTI_READ(OpenShard)
  NANDUTI_READ(Membership)
  NANDUTI_READ(Fence)
  NANDUTI_READ(TakeCut)
  NANDUTI_READ(ReleaseCut)
  NANDUTI_READ(Rest)
  NANDUTI_READ(CloseShard)
  NANDUTI_READ(Subscribe)
  NANDUTI_READ(Push)
  NANDUTI_READ(FetchCut)
  NANDUTI_READ(Subscribed)
  NANDUTI_READ(PushAck)
  NANDUTI_READ(Publish)
  NANDUTI_READ(Assign)
  NANDUTI_READ(CutValues)
  NANDUTI_READ(ShardRefusal)
  NANDUTI_READ(Tune)
  NANDUTI_READ(Tuned)
  NANDUTI_READ(SettleConfirmed)
#undef NANDUTI_READ
  // clang-format on
  return message;
}

template <std::size_t... Is>
Message read_body(const wire::Envelope& envelope, Reader& reader, std::index_sequence<Is...>) {
  using Read = Message (*)(const wire::Envelope&, Reader&);
  static constexpr Read kReaders[] = {&read_one<Is>...};
  return kReaders[static_cast<std::size_t>(envelope.body_type()) - 1](envelope, reader);
}

/// FlatBuffers wants its bytes aligned; what arrives inside a frame may not be.
SharedBytes aligned(const SharedBytes& bytes) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % 8 == 0) return bytes;
  std::vector<std::uint64_t> copy((bytes.size() + 7) / 8);
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  return SharedBytes::take(std::move(copy)).slice(0, bytes.size());
}

/// The envelope of a header that `aligned` has seen; nullptr if it is none or of no known type.
const wire::Envelope* verified_envelope(const SharedBytes& header) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(header.data());
  flatbuffers::Verifier verifier(bytes, header.size(), 16, 65536);
  if (header.size() < 8 || !wire::VerifyEnvelopeBuffer(verifier)) return nullptr;
  return wire::GetEnvelope(bytes);
}

}  // namespace

bool may_carry_payload(const SharedBytes& encoded_header) {
  const SharedBytes header = aligned(encoded_header);
  const wire::Envelope* envelope = verified_envelope(header);
  if (envelope == nullptr) return false;
  switch (envelope->body_type()) {
    case wire::Body::CutTaken:
    case wire::Body::Push:
    case wire::Body::Publish:
    case wire::Body::Assign:
    case wire::Body::CutValues:
      return true;
    default:
      return false;
  }
}

Result<Message> decode_message(const EncodedMessage& encoded) {
  if (encoded.payload.size() > kPayloadBytesMax)
    return make_error(ErrorCode::kCorrupt, "a message's payload has {} bytes; at most {} are allowed",
                      encoded.payload.size(), kPayloadBytesMax);
  const SharedBytes header = aligned(encoded.header);
  const wire::Envelope* verified = verified_envelope(header);
  if (verified == nullptr)
    return make_error(ErrorCode::kCorrupt, "a message is not a well-formed FlatBuffer");
  const wire::Envelope& envelope = *verified;
  const auto type = static_cast<std::size_t>(envelope.body_type());
  if (type == 0 || type > std::variant_size_v<Message> || envelope.body() == nullptr)
    return make_error(ErrorCode::kCorrupt, "a message of unknown type {}", type);
  Reader reader(encoded.payload);
  Message message = read_body(envelope, reader, std::make_index_sequence<std::variant_size_v<Message>>());
  if (!reader.fault().empty())
    return make_error(ErrorCode::kCorrupt, "{}: {} is outside its limits", message_name(message),
                      reader.fault());
  if (!encoded.payload.empty() && !reader.payload_used())
    return make_error(ErrorCode::kCorrupt, "{}: carries a payload that it may not have",
                      message_name(message));
  return message;
}

}  // namespace nanduti
