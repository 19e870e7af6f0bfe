// Goal: whatever admitted workers send, a shard stays, and nothing but their own settled pushes changes it
// (P2, P8). Method: a shard with an open job, an honest worker and two hostile ones; the input decides their
// messages, what the network does and when time passes. Checked after every step: parameters change with a
// settled push only, each push of the honest worker settles once and at once, counters and ledgers agree. A
// second kind of input has a hostile coordinator as well: the shard has to stay, no more.
#include "common/base/check.h"
#include "server/shard/shard_core.h"
#include "test/common/protocol/any_message.h"
#include "test/fuzz/fuzz_input.h"
#include "test/server/shard/some_optimizer.h"
#include "test/support/codecs.h"

namespace nanduti {
namespace {

using namespace std::chrono_literals;

constexpr PeerId kCoordinator{0};
constexpr PeerId kHonestPeer{100};
constexpr std::uint64_t kHostilePeers = 3;  // one more than there are hostile workers: a stranger
constexpr std::uint64_t kSize = 64;
constexpr IncarnationOrder kHonest{1};

IncarnationId incarnation(std::uint64_t order) {
  IncarnationId id;
  id.words = {order,
              order == kHonest.value() ? 0xD1CE'0FF1'CE0F'F1CEull : 1};  // nobody guesses the honest one
  return id;
}

class Scene {
 public:
  explicit Scene(FuzzInput input)
      : input_(input),
        any_(input, kSize),
        deterministic_(input_.below(4) == 0),
        age_power_(input_.below(3) == 0 ? 1.0 : 0.0),
        optimizer_type_(static_cast<ServerOptimizerType>(input_.below(3))),
        hostile_coordinator_(input_.below(4) == 0),
        core_({"tcp://coordinator", {"nyc", "tcp://shard", 1, "", JobId()}}, RandomStream(1)) {
    happen(PeerConnected{kCoordinator, {}});
    tell(kCoordinator, OpenShard{JobId(1), "", {}, ShardIndex(0), 0, kSize, 5});
    happen(PeerConnected{kHonestPeer, {}});
    // Numbers are easily guessed, before the worker is announced too.
    if (input_.flag()) tell(hostile(0), Subscribe{JobId(1), kHonest, incarnation(2), {}, {}, {}});
    announce(MemberState::kActive);
    tell(kHonestPeer, Subscribe{JobId(1), kHonest, incarnation(1), {}, {}, {}});
    for (std::uint64_t order = 2; order <= 3; ++order)
      tell(hostile(order - 1), Subscribe{JobId(1), IncarnationOrder(order), incarnation(order), {}, {}, {}});
  }

  void run() {
    while (!input_.empty()) step();
    if (hostile_coordinator_ || deterministic_) return;
    push_honestly();
    tell(kCoordinator, Rest{JobId(1)});
    const ShardValues& values = *core_.values();
    NANDUTI_CHECK(std::memcmp(values.w().data(), values.shadow().data(), kSize * sizeof(float)) == 0);
  }

 private:
  static PeerId hostile(std::uint64_t index) { return PeerId(kHonestPeer.value() + 1 + index); }

  void step() {
    const PeerId peer = hostile(input_.below(kHostilePeers));
    switch (input_.below(12)) {
      default:
        return tell(hostile_coordinator_ && input_.below(2) == 0 ? kCoordinator : peer, any_.make());
      case 4:
      case 5:
        return tell(peer, plausible_push());
      case 6:
        return push_honestly();
      case 7:
        return happen(PeerClosed{peer, "gone", false});
      case 8:
        return tell(peer, any_subscription());
      case 9:
        now_ += Duration(std::chrono::milliseconds(input_.below(1000)));
        if (core_.next_deadline() <= now_) core_.on_deadline(now_);
        return collect();
      case 10:
        return announce(static_cast<MemberState>(1 + input_.below(3)));
      case 11:
        if (input_.flag()) return tell(kCoordinator, TakeCut{JobId(1), CutId(input_.below(8))});
        return tell(kCoordinator, Fence{JobId(1), IncarnationOrder(3 + input_.below(2))});
    }
  }

  Subscribe any_subscription() {
    Subscribe request{JobId(1),
                      IncarnationOrder(1 + input_.below(4)),
                      incarnation(2 + input_.below(3)),
                      ChainId(input_.below(2)),
                      Version(input_.below(4)),
                      Sequence(input_.below(4))};
    if (request.version == Version(1))
      request.initial_fingerprint = initial_fingerprint(std::vector<float>(kSize, 1.0f));
    return request;
  }

  /// The next push of a hostile worker, in most fields.
  Push plausible_push() {
    Push push;
    push.job = JobId(1);
    push.order = IncarnationOrder(1 + input_.below(4));
    if (const PushLedger* ledger = core_.ledger(push.order)) push.sequence = ledger->next_sequence();
    if (input_.below(4) == 0) push.sequence = Sequence(push.sequence.value() + input_.below(300));
    push.round = Round(input_.below(4) == 0 ? input_.next_u64() : input_.below(8));
    push.epoch = MembershipEpoch(input_.below(4));
    push.base_version = Version(input_.below(4) == 0 ? input_.next_u64() : input_.below(8));
    push.lease = LeaseId(input_.below(3));
    push.stands_for = 1 + static_cast<std::uint32_t>(input_.below(kMembersMax));
    push.coding = static_cast<std::uint8_t>(input_.below(3));
    std::vector<float> values(input_.below(8) == 0 ? input_.below(2 * kSize) : kSize);
    for (float& value : values) value = static_cast<float>(input_.below(16));
    if (!values.empty() && input_.below(8) == 0) {
      const auto bits = static_cast<std::uint32_t>(input_.next_u64());
      std::memcpy(values.data(), &bits, sizeof bits);
    }
    push.payload = SharedBytes::take(std::move(values));
    return push;
  }

  void push_honestly() {
    const PushLedger* ledger = core_.ledger(kHonest);
    if (ledger == nullptr) return;
    const Sequence sequence = ledger->next_sequence();
    Push push;
    push.job = JobId(1);
    push.order = kHonest;
    push.sequence = sequence;
    push.round = ledger->clock();
    push.epoch = MembershipEpoch(1);
    push.lease = LeaseId(1);
    push.coding = 1;
    push.payload = SharedBytes::take(std::vector<float>(kSize, 1.0f));
    ++honest_pushes_;
    tell(kHonestPeer, push);
    if (hostile_coordinator_ || deterministic_) return;
    NANDUTI_CHECK(
        ledger->next_sequence() == sequence.next() && (age_power_ != 0 || ledger->returned().empty()),
        "the honest worker's push {} is not settled", sequence);
    tell(kHonestPeer, push);
    NANDUTI_CHECK(ledger->next_sequence() == sequence.next(), "a duplicate is settled");
  }

  /// Workers 1 to 3; the hostile ones in this state.
  void announce(MemberState state) {
    epoch_ = epoch_.next();
    tell(kCoordinator, Membership{JobId(1),
                                  epoch_,
                                  {{kHonest, incarnation(1), MemberState::kActive, Round()},
                                   {IncarnationOrder(2), incarnation(2), state, Round()},
                                   {IncarnationOrder(3), incarnation(3), state, Round()}}});
  }

  void tell(PeerId peer, Message message) { happen(MessageReceived{peer, std::move(message)}); }

  void happen(const ShardCore::Event& event) {
    std::vector<float> before;
    if (const ShardValues* values = core_.values()) before.assign(values->w().begin(), values->w().end());
    const std::uint64_t settled = core_.counters().settled;
    core_.on_event(now_, event);
    collect();
    if (hostile_coordinator_) return;
    if (const PushLedger* ledger = core_.ledger(kHonest))
      NANDUTI_CHECK(ledger->next_sequence().value() <= honest_pushes_,
                    "somebody pushes as the honest worker");
    const ShardValues* values = core_.values();
    if (core_.counters().settled == settled && !before.empty())
      NANDUTI_CHECK(
          values != nullptr && std::memcmp(values->w().data(), before.data(), kSize * sizeof(float)) == 0,
          "parameters change without a settled push");
    std::uint64_t pushes = 0;
    for (std::uint64_t order = 1; order <= 4; ++order)
      if (const PushLedger* ledger = core_.ledger(IncarnationOrder(order)))
        pushes += ledger->next_sequence().value();
    NANDUTI_CHECK(core_.counters().settled + core_.counters().refused == pushes,
                  "{} settled, ledgers hold {}", core_.counters().settled, pushes);
  }

  /// Loads, and acknowledges what the network lets through.
  void collect() {
    for (std::vector<ShardCore::Action> actions = core_.take_actions(); !actions.empty();
         actions = core_.take_actions()) {
      for (ShardCore::Action& action : actions) {
        const auto* send = std::get_if<SendMessage>(&action);
        if (send != nullptr)
          NANDUTI_CHECK(decode_message(encode_message(send->message)).ok(),
                        "the shard sends a {} that nobody decodes", message_name(send->message));
        if (send != nullptr && send->tag != 0 && input_.below(4) != 0)
          core_.on_event(now_, MessageAcked{send->peer, send->tag});
        const auto* load = std::get_if<ShardCore::LoadShard>(&action);
        if (load == nullptr) continue;
        const std::uint64_t size =
            std::min<std::uint64_t>(load->request.end - load->request.begin, kLoadedMax);
        const ShardSettings settings{both_ways(), age_power_};
        core_.on_event(
            now_, ShardCore::ShardLoaded{load->request.job,
                                         ShardStart{settings, std::vector<float>(size, 1.0f), deterministic_,
                                                    some_optimizer(optimizer_type_, size),
                                                    [settings](const std::string&) { return settings; }}});
      }
    }
  }

  static constexpr std::uint64_t kLoadedMax = 4096;  // what AnyMessage's OpenShard asks for

  FuzzInput input_;
  AnyMessageFrom<FuzzInput> any_;
  bool deterministic_;
  double age_power_;
  ServerOptimizerType optimizer_type_;
  bool hostile_coordinator_;
  ProtocolTime now_{1h};
  ShardCore core_;
  MembershipEpoch epoch_;
  std::uint64_t honest_pushes_ = 0;
};

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nanduti::Scene(nanduti::FuzzInput(data, size)).run();
  return 0;
}
