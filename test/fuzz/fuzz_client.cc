// Goal: whatever a coordinator and shards send, a worker stays, and computes only what it was lent (P8).
// Method: a worker that has joined a job on two shards; the input decides their messages, lost sessions, what
// computing gives and the time. Checked: rounds and evaluations have parameters of the right size and samples
// within a lease, one at a time, and everything that the worker sends decodes.
#include <map>

#include "common/base/check.h"
#include "test/common/protocol/any_message.h"
#include "test/fuzz/fuzz_input.h"
#include "test/support/codecs.h"
#include "test/support/replica_host.h"
#include "worker/client/client_core.h"

namespace nanduti {
namespace {

using namespace std::chrono_literals;

constexpr PeerId kCoordinator{0};
constexpr std::uint64_t kShardSize = 32;
constexpr std::uint64_t kParameters = 2 * kShardSize;
constexpr std::uint64_t kRoundSamples = 10;
constexpr IncarnationOrder kOwn{1};

class Scene {
 public:
  explicit Scene(FuzzInput input)
      : input_(input),
        any_(input, kShardSize),
        deterministic_(input_.below(4) == 0),
        core_({"tcp://coordinator:1", "1", {"worker", "asuncion", {}, "cpu", ""}}, RandomStream(1)) {
    collect();
    happen(PeerConnected{kCoordinator, {}});
    tell(kCoordinator, Registered{kOwn});
    start_job();
  }

  void run() {
    while (!input_.empty()) step();
  }

 private:
  void step() {
    switch (input_.below(14)) {
      default:
        return tell(any_peer(), any_.make());
      case 3:
        return tell(any_peer(), version());
      case 4:
        return tell(kCoordinator, grant());
      case 5:
        return finish_work();
      case 6:
        now_ += Duration(std::chrono::milliseconds(input_.below(3000)));
        if (core_.next_deadline() <= now_) core_.on_deadline(now_);
        return collect();
      case 7: {
        const bool redials = input_.flag();
        const PeerId peer = any_peer();
        happen(PeerClosed{peer, "gone", redials});
        if (redials) happen(PeerConnected{peer, {}});
        return;
      }
      case 8:
        return happen(MessageAcked{any_peer(), input_.below(4)});
      case 9:
        return start_job();
      case 10: {
        const std::uint64_t a = input_.below(64), b = input_.below(64);
        tell(kCoordinator, EvaluationLease{JobId(1), LeaseId(1), CutId(1 + input_.below(2)), std::min(a, b),
                                           std::max(a, b)});
        for (const auto& [peer, place] : shards_snapshot())
          tell(peer, CutValues{JobId(1), CutId(1 + input_.below(2)),
                               floats(input_.below(8) == 0 ? input_.below(2 * kShardSize) : kShardSize)});
        return;
      }
      case 11:
        if (input_.below(8) == 0) return happen(ClientCore::DrainRequested{});
        return tell(kCoordinator, FlushResidual{JobId(1)});
      case 12:
        return tell(any_peer(),
                    PushAck{JobId(1), AckLevel::kDurableHere, Sequence(input_.below(4)), {some_returned()}});
    }
  }

  /// The way into a job, as far as the worker goes along.
  void start_job() {
    tell(kCoordinator, PrepareJob{JobId(1), "model: {}"});
    tell(kCoordinator, JoinJob{JobId(1),
                               5,
                               {{"tcp://x:1", ShardIndex(0), 1, 0, kShardSize},
                                {"tcp://x:1", ShardIndex(1), 2, kShardSize, kParameters}}});
    for (const auto& [peer, place] : shards_snapshot()) {
      happen(PeerConnected{peer, {}});
      tell(peer, Subscribed{JobId(1), Sequence(0)});
      Assign assign;
      assign.header = header(MembershipEpoch(1), Version(1));
      assign.whole = true;
      assign.ranges = {{0, kShardSize}};
      assign.payload = floats(kShardSize);
      tell(peer, assign);
    }
    tell(kCoordinator, LeaseGrant{JobId(1), LeaseId(1), {DataEpoch(0), 0, 25}, MembershipEpoch(1), Round()});
  }

  std::map<PeerId, std::uint32_t> shards_snapshot() const { return shards_; }
  PeerId any_peer() {
    const std::uint64_t which = input_.below(4);
    if (which == 0) return kCoordinator;
    if (which == 3 || shards_.empty()) return PeerId(input_.below(8));
    auto shard = shards_.begin();
    std::advance(shard, static_cast<std::ptrdiff_t>(input_.below(shards_.size())));
    return shard->first;
  }
  ReturnedPush some_returned() {
    return {Sequence(number()), static_cast<std::uint16_t>(input_.below(kAppliedWhole))};
  }
  std::uint64_t number() {
    const std::uint64_t small = input_.below(8);
    switch (input_.below(8)) {
      case 0:
        return input_.next_u64();
      case 1:
        return ~small;
      default:
        return small;
    }
  }

  VersionHeader header(MembershipEpoch epoch, Version version) {
    VersionHeader header;
    header.job = JobId(1);
    header.chain = ChainId(1);
    header.version = version;
    header.epoch = epoch;
    header.active = {{kOwn, Round(), Round()}};
    return header;
  }
  /// One that follows, in most fields.
  Message version() {
    VersionHeader h = header(MembershipEpoch(1 + input_.below(3)), Version(number()));
    h.active[0].clock = Round(number());
    h.active.push_back({IncarnationOrder(2), Round(number()), Round(number())});
    h.verdicts = {{kOwn, Sequence(number()), {some_returned()}}};
    if (input_.flag())
      return Publish{std::move(h), static_cast<std::uint8_t>(input_.below(3)),
                     floats(input_.below(4) == 0 ? input_.below(2 * kShardSize) : kShardSize)};
    Assign assign{std::move(h), Version(number()), input_.flag(), {}, {}};
    std::uint64_t begin = input_.below(4), values = 0;
    for (std::uint64_t i = input_.below(3); i > 0; --i) {
      const std::uint64_t end = begin + 1 + input_.below(2 * kShardSize);
      assign.ranges.push_back({begin, end});
      values += end - begin;
      begin = end + input_.below(2);
    }
    if (assign.whole && input_.flag()) {
      assign.ranges = {{0, kShardSize}};
      values = kShardSize;
    }
    assign.payload = floats(values);
    return assign;
  }
  LeaseGrant grant() {
    const std::uint64_t a = number(), b = number();
    return {JobId(1),
            LeaseId(number()),
            {DataEpoch(0), std::min(a, b), std::max(a, b)},
            MembershipEpoch(input_.below(3)),
            Round(number()),
            number()};
  }
  SharedBytes floats(std::uint64_t count) {
    return SharedBytes::take(std::vector<float>(count, static_cast<float>(input_.below(16))));
  }

  void finish_work() {
    if (replica_.has_work()) return step_replica();
    if (replica_.computing()) {
      if (input_.below(8) == 0)
        return happen(ClientCore::WorkFailed{replica_.computing()->job, "a failing device"});
      return replica_.finish_round(std::vector<float>(kParameters, 0.5f), 1.0, 1.0);
    }
    if (!evaluating_) return;
    const ClientCore::EvaluateCut cut = *std::exchange(evaluating_, std::nullopt);
    happen(ClientCore::CutEvaluated{cut.job, cut.lease, 0, cut.end - cut.begin, 1.0, 1.0});
  }

  void step_replica() {
    replica_.step();
    for (const Replica::ComputeRound& round : replica_.take_begun()) check(round);
    for (const auto& report : replica_.take_reports()) happen(report);
  }
  void check(const Replica::ComputeRound& round) {
    NANDUTI_CHECK(round.buffers->parameters.size() == kParameters);
    NANDUTI_CHECK(round.range.begin < round.range.end && round.range.size() <= round_samples_max_,
                  "a round of samples {} to {}", round.range.begin, round.range.end);
    NANDUTI_CHECK(std::ranges::any_of(leases_,
                                      [&](const LeaseGrant& lease) {
                                        return lease.range.epoch == round.range.epoch &&
                                               lease.range.begin <= round.range.begin &&
                                               round.range.end <= lease.range.end;
                                      }),
                  "a round of samples {} to {}, which are not lent", round.range.begin, round.range.end);
  }

  void tell(PeerId peer, Message message) {
    // As it comes from a hub: nothing else reaches a core.
    const Result<Message> decoded = decode_message(encode_message(message));
    if (!decoded.ok()) return;
    if (const auto* lease = std::get_if<LeaseGrant>(&*decoded); lease != nullptr && peer == kCoordinator)
      leases_.push_back(*lease);
    if (const auto* tuning = std::get_if<Tune>(&*decoded); tuning != nullptr && peer == kCoordinator)
      round_samples_max_ = std::max(round_samples_max_, tuning->round_samples);
    happen(MessageReceived{peer, *decoded});
  }
  void happen(const ClientCore::Event& event) {
    core_.on_event(now_, event);
    collect();
  }

  void collect() {
    for (std::vector<ClientCore::Action> actions = core_.take_actions(); !actions.empty();
         actions = core_.take_actions())
      for (const ClientCore::Action& action : actions) carry_out(action);
  }
  void carry_out(const ClientCore::Action& action) {
    if (replica_.take(action)) return;
    if (const auto* send = std::get_if<SendMessage>(&action)) {
      NANDUTI_CHECK(decode_message(encode_message(send->message)).ok(),
                    "the worker sends a {} that nobody decodes", message_name(send->message));
    } else if (const auto* open = std::get_if<OpenPeer>(&action)) {
      if (open->peer != kCoordinator) shards_[open->peer] = open->destination;
    } else if (const auto* close = std::get_if<ClosePeer>(&action)) {
      shards_.erase(close->peer);
    } else if (const auto* load = std::get_if<ClientCore::LoadJob>(&action)) {
      LoadedJob loaded;
      loaded.data = {25, 64, 1, 1, 1, 2, 3};
      loaded.layout_hash = 5;
      loaded.parameters = kParameters;
      loaded.round_samples = kRoundSamples;
      if (input_.below(4) != 0) loaded.bound = static_cast<std::uint32_t>(input_.below(4));
      loaded.deterministic = deterministic_;
      if (loaded.bound.value_or(1) % 2 == 1)
        loaded.initial_values = std::make_shared<const std::vector<float>>(kParameters, 1.0f);
      loaded.codecs = both_ways();
      loaded.read_settings = [settings = RoundSettings(loaded)](const std::string&) { return settings; };
      core_.on_event(now_, ClientCore::JobLoaded{load->job, loaded});
    } else if (const auto* cut = std::get_if<ClientCore::EvaluateCut>(&action)) {
      NANDUTI_CHECK(!evaluating_, "two cuts are evaluated at once");
      NANDUTI_CHECK(cut->parameters->size() == kParameters && cut->begin <= cut->end);
      evaluating_ = *cut;
    } else if (std::holds_alternative<ClientCore::UnloadJob>(action)) {
      evaluating_.reset();
    }
  }

  FuzzInput input_;
  AnyMessageFrom<FuzzInput> any_;
  bool deterministic_;
  ProtocolTime now_{1h};
  std::map<PeerId, std::uint32_t> shards_;  // to what they were dialled as
  std::vector<LeaseGrant> leases_;
  std::uint64_t round_samples_max_ = kRoundSamples;  // the job's, or by any tuning
  ReplicaHost replica_;
  std::optional<ClientCore::EvaluateCut> evaluating_;
  ClientCore core_;
};

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nanduti::Scene(nanduti::FuzzInput(data, size)).run();
  return 0;
}
