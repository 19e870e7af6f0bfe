#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/protocol/message.h"

namespace nanduti {

/// Makes messages of every type that decode_message lets through, with small, plausible and extreme values,
/// for tests of what cores do with them. `Source` draws the numbers: next_u64() and below(bound).
template <class Source>
class AnyMessageFrom {
 public:
  /// `values`: how many float32 most payloads hold.
  explicit AnyMessageFrom(Source source, std::uint64_t values = 4096)
      : random_(std::move(source)), values_(values) {}

  /// A message of any type.
  Message make() {
    for (;;) {
      Result<Message> decoded = decode_message(encode_message(draw(random_.below(kTypes))));
      if (decoded.ok()) return std::move(decoded).value();
    }
  }
  /// A message of the type with this index in Message. Most, but not all, decode.
  Message draw(std::size_t type) { return make_type(type, std::make_index_sequence<kTypes>()); }

  static constexpr std::size_t kTypes = std::variant_size_v<Message>;

 private:
  template <std::size_t... Is>
  Message make_type(std::size_t type, std::index_sequence<Is...>) {
    using Make = Message (AnyMessageFrom::*)();
    static constexpr Make kMakers[] = {&AnyMessageFrom::make_one<Is>...};
    return (this->*kMakers[type])();
  }
  template <std::size_t I>
  Message make_one() {
    std::variant_alternative_t<I, Message> m;
    fill(m);
    return m;
  }

  std::uint64_t number() {
    switch (random_.below(8)) {
      case 0:
        return ~std::uint64_t{0} - random_.below(2);
      case 1:
        return random_.next_u64() >> random_.below(64);
      case 2:
        return 4096 * random_.below(4);
      default:
        return random_.below(5);
    }
  }
  template <class Id>
  Id id() {
    return Id(static_cast<decltype(Id().value())>(number()));
  }
  JobId job() { return random_.below(8) == 0 ? id<JobId>() : JobId(1); }
  IncarnationId incarnation() {
    IncarnationId out;
    out.words = {number(), 1};
    return out;
  }
  SampleRange samples() {
    const std::uint64_t a = number(), b = number();
    return {id<DataEpoch>(), std::min(a, b), std::max(a, b)};
  }
  SharedBytes floats() {
    const float value = random_.below(4) == 0 ? 1e38f : 1.0f;
    return SharedBytes::take(
        std::vector<float>(random_.below(3) == 0 ? number() % (2 * values_ + 1) : values_, value));
  }
  DataDescription data() {
    if (random_.below(2) == 0) return {20, 10, 1, 28, 28, 10, 3};
    const auto small = [&] { return static_cast<std::uint32_t>(number()); };
    return {number(), number(), small(), small(), small(), small(), number()};
  }
  std::vector<ReturnedPush> returned() {
    std::vector<ReturnedPush> out;
    for (std::uint64_t i = random_.below(3); i > 0; --i)
      out.push_back({id<Sequence>(), static_cast<std::uint16_t>(random_.below(kAppliedWhole))});
    return out;
  }
  VersionHeader header() {
    VersionHeader h{job(), Term(1), ChainId(random_.below(3)), id<Version>(), id<MembershipEpoch>(), {}, {}};
    for (std::uint64_t i = random_.below(3); i > 0; --i) {
      h.active.push_back({id<IncarnationOrder>(), id<Round>(), id<Round>()});
      h.verdicts.push_back({id<IncarnationOrder>(), id<Sequence>(), returned()});
    }
    return h;
  }

  void fill(RegisterWorker& m) {
    m = {"w", "asuncion", incarnation(), "cpu", "", id<IncarnationOrder>(), job()};
  }
  void fill(JobPrepared& m) { m = {job(), data(), random_.below(2) == 0 ? 5 : number()}; }
  void fill(LeaseReturn& m) { m = {job(), id<LeaseId>(), samples()}; }
  void fill(EvaluationDone& m) {
    const std::uint64_t a = number(), b = number();
    m = {job(), id<LeaseId>(), std::min(a, b), std::max(a, b), 1e300};
  }
  void fill(WorkerStatus& m) {
    m.job = job();
    m.clock = id<Round>();
    m.samples = number();
    m.loss_sum = m.compute_seconds = m.evaluation_seconds = 1e300;
    m.stall = {1e300, 1e300, 0, 1, 2};
    m.bytes_up = number();
    m.bytes_down = number();
    m.staleness = m.pushes_in_flight = 7;
    m.at_gate = number() == 0;
    m.residual_norm = 1e300;
    m.exact_bytes_up = number();
    m.exact_bytes_down = number();
    m.round_trip_deviation_seconds = m.path_bytes_per_second = 1e300;
    m.round_trip_seconds = m.turnaround_p99_seconds = 1e300;
  }
  void fill(Draining&) {}
  void fill(Leave&) {}
  void fill(Registered& m) { m = {id<IncarnationOrder>()}; }
  void fill(PrepareJob& m) { m = {job(), "model: {}"}; }
  void fill(JoinJob& m) {
    m = {job(), 5, {}};
    std::uint64_t begin = 0;
    for (std::uint64_t i = 0, n = random_.below(4); i < n; ++i) {
      const std::uint64_t end = random_.below(3) == 0 ? number() : begin + 4096;
      m.shards.push_back({"tcp://x:1",
                          ShardIndex(static_cast<std::uint32_t>(random_.below(6) == 0 ? number() : i)), 1,
                          begin, std::max(begin, end)});
      begin = end;
    }
  }
  void fill(LeaseGrant& m) {
    m = {job(), id<LeaseId>(), samples(), id<MembershipEpoch>(), id<Round>(), number()};
  }
  void fill(EvaluationLease& m) {
    const std::uint64_t a = number(), b = number();
    m = {job(), id<LeaseId>(), id<CutId>(), std::min(a, b), std::max(a, b)};
  }
  void fill(Fenced& m) { m = {"too slow"}; }
  void fill(RegisterShard& m) {
    m = {"nyc",
         "tcp://x:1",
         static_cast<std::uint32_t>(random_.below(4)),
         "",
         JobId(random_.below(2)),
         id<MembershipEpoch>()};
  }
  void fill(SettleReport& m) {
    m = {job(), {}};
    for (std::uint64_t i = random_.below(5); i > 0; --i)
      m.entries.push_back({id<IncarnationOrder>(), id<Sequence>(), id<Round>(), id<LeaseId>(), samples(),
                           static_cast<std::uint16_t>(random_.below(kAppliedWhole + 1))});
  }
  void fill(FenceDone& m) { m = {job(), id<IncarnationOrder>(), id<Sequence>()}; }
  void fill(CutTaken& m) { m = {job(), id<CutId>(), id<Version>(), {}, floats(), 2.5}; }
  void fill(ShardAtRest& m) { m = {job(), id<Version>()}; }
  void fill(OpenShard& m) {
    const std::uint64_t begin = number();
    m = {job(), "model: {}",  data(), ShardIndex(static_cast<std::uint32_t>(number())),
         begin, begin + 4096, 5};
  }
  void fill(Membership& m) {
    m = {job(), id<MembershipEpoch>(), {}, {}};
    for (std::uint64_t i = std::min<std::uint64_t>(random_.below(4), m.epoch.value()); i > 0; --i)
      m.earlier_active.push_back(static_cast<std::uint32_t>(number()));
    for (std::uint64_t i = random_.below(4); i > 0; --i)
      m.members.push_back({id<IncarnationOrder>(), incarnation(),
                           static_cast<MemberState>(1 + random_.below(4)), id<Round>()});
  }
  void fill(Fence& m) { m = {job(), id<IncarnationOrder>()}; }
  void fill(Subscribe& m) {
    m = {job(),         id<IncarnationOrder>(), incarnation(), id<ChainId>(),
         id<Version>(), id<Sequence>(),         id<Round>(),   random_.next_u64()};
  }
  void fill(Push& m) {
    m = {job(),
         id<IncarnationOrder>(),
         id<Sequence>(),
         id<Round>(),
         id<MembershipEpoch>(),
         id<Version>(),
         id<LeaseId>(),
         samples(),
         1,
         id<Round>(),
         static_cast<std::uint8_t>(random_.below(3)),
         id<Sequence>(),
         floats()};
  }
  void fill(PushAck& m) { m = {job(), AckLevel::kDurableHere, id<Sequence>(), returned()}; }
  void fill(Publish& m) { m = {header(), static_cast<std::uint8_t>(random_.below(3)), floats()}; }
  void fill(Assign& m) {
    const SharedBytes payload = floats();
    const std::uint64_t begin = number(), values = payload.size() / sizeof(float);
    m = {header(), id<Version>(), random_.below(2) == 0, {{begin, begin + values}}, payload};
  }
  void fill(CutValues& m) { m = {job(), id<CutId>(), floats()}; }
  void fill(Tune& m) {
    m = {job(), number(), id<Round>(), {}, number(), random_.below(2) == 0 ? "" : "staleness: {}"};
    if (random_.below(2) == 0) m.bound = static_cast<std::uint32_t>(number());
  }
  void fill(Tuned& m) { m = {job(), number(), id<Round>()}; }
  void fill(SettleConfirmed& m) { m = {job(), number()}; }
  void fill(Subscribed& m) { m = {job(), id<Sequence>()}; }
  template <class M>
  void fill(M& m) {
    m.job = job();
    if constexpr (requires { m.reason; }) m.reason = "for a reason";
    if constexpr (requires { m.cut; }) m.cut = id<CutId>();
  }

  Source random_;
  std::uint64_t values_;
};

/// The same from a seed.
class AnyMessage : public AnyMessageFrom<RandomStream> {
 public:
  explicit AnyMessage(std::uint64_t seed) : AnyMessageFrom(RandomStream(seed)) {}
};

}  // namespace nanduti
