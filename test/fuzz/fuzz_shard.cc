// Goal: whatever admitted workers send, a shard stays, and nothing but their own settled pushes changes it
// (P2, P8). Method: a shard with an open job, an honest worker and two hostile ones; the input decides their
// messages, what the network does and when time passes. Checked after every step: parameters change with a
// settled push only, each push of the honest worker settles once and at once, counters and ledgers agree. A
// second kind of input has a hostile coordinator as well: the shard has to stay, no more. In the end a shard
// that is made from the log and the snapshots is the same; made from bytes that somebody has changed it is an
// error or any shard.
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
        durability_(input_.flag() ? Durability::kLog : Durability::kMemory),
        core_(options(), RandomStream(1)) {
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
    const bool damages = input_.below(4) == 0;
    const std::uint64_t where = input_.next_u64();
    while (!input_.empty()) step();
    check_recovery();
    if (damages) recover_damaged(where);
    if (hostile_coordinator_ || deterministic_) return;
    push_honestly();
    tell(kCoordinator, Rest{JobId(1)});
    const ShardValues& values = *core_.values();
    NANDUTI_CHECK(std::memcmp(values.w().data(), values.shadow().data(), kSize * sizeof(float)) == 0);
  }

 private:
  static PeerId hostile(std::uint64_t index) { return PeerId(kHonestPeer.value() + 1 + index); }

  static ShardOptions options() {
    ShardOptions options{"tcp://coordinator", {"nyc", "tcp://shard", 1, "", JobId()}};
    options.snapshot_log_bytes = 0;
    options.snapshot_log_entries = 7;
    return options;
  }

  [[nodiscard]] RecoveredShard stored() const {
    RecoveredShard recovered;
    std::size_t first = 0;
    if (snapshot_) {
      recovered.snapshot = snapshot_->content;
      first = snapshot_->entries;
    }
    recovered.entries.assign(entries_.begin() + static_cast<std::ptrdiff_t>(first), entries_.end());
    return recovered;
  }

  void check_recovery() {
    if (entries_.empty()) return;
    RecoveredShard recovered = stored();
    const Result<OpenShard> request = ShardCore::request_of(recovered);
    NANDUTI_CHECK(request.ok());
    recovered.start = start_for(*request);
    const Result<ShardCore> core = ShardCore::recover(options(), RandomStream(2), std::move(recovered));
    NANDUTI_CHECK(core.ok(), "{}", core.error().message);
    const ShardValues &ours = *core->values(), &theirs = *core_.values();
    const auto same = [](std::span<const float> a, std::span<const float> b) {
      return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
    };
    NANDUTI_CHECK(same(ours.w(), theirs.w()) && same(ours.shadow(), theirs.shadow()) &&
                      ours.version() == theirs.version(),
                  "a recovered shard is another one");
    for (std::uint64_t order = 1; order <= 4; ++order) {
      const PushLedger *a = core->ledger(IncarnationOrder(order)), *b = core_.ledger(IncarnationOrder(order));
      NANDUTI_CHECK((a == nullptr) == (b == nullptr));
      if (a != nullptr)
        NANDUTI_CHECK(a->next_sequence() == b->next_sequence() && a->clock() == b->clock() &&
                          a->fenced() == b->fenced() && a->returned() == b->returned(),
                      "a recovered ledger is another one");
    }
  }

  void recover_damaged(std::uint64_t where) {
    if (entries_.empty()) return;
    RecoveredShard recovered = stored();
    const Result<OpenShard> request = ShardCore::request_of(recovered);
    recovered.start = start_for(*request);
    const auto damage = [&](SharedBytes& bytes) {
      if (bytes.empty()) return;
      std::vector<std::byte> changed(bytes.view().begin(), bytes.view().end());
      changed[where / 256 % changed.size()] ^= static_cast<std::byte>(where % 255 + 1);
      bytes = SharedBytes::take(std::move(changed));
    };
    if (recovered.snapshot && where % 2 == 0)
      damage(recovered.snapshot->head);
    else if (!recovered.entries.empty())
      damage(recovered.entries[where % recovered.entries.size()]);
    (void)ShardCore::recover(options(), RandomStream(2), std::move(recovered));
  }

  ShardStart start_for(const OpenShard& request) {
    const std::uint64_t size = std::min<std::uint64_t>(request.end - request.begin, kLoadedMax);
    const ShardSettings settings{both_ways(), age_power_};
    return {settings,
            std::vector<float>(size, 1.0f),
            deterministic_,
            durability_,
            some_optimizer(optimizer_type_, size),
            [settings](const std::string&) { return settings; }};
  }

  /// Storage that writes at once.
  void store(const ShardCore::Action& action) {
    if (const auto* append = std::get_if<ShardCore::AppendLog>(&action)) {
      if (append->begins) drop();
      std::vector<std::byte> bytes;
      for (const SharedBytes& piece : append->pieces)
        bytes.insert(bytes.end(), piece.view().begin(), piece.view().end());
      entries_.push_back(SharedBytes::take(std::move(bytes)));
    } else if (const auto* snapshot = std::get_if<ShardCore::BeginSnapshot>(&action)) {
      writing_ = {entries_.size(), snapshot->parts, {snapshot->head, {}}};
    } else if (const auto* part = std::get_if<ShardCore::SnapshotPart>(&action)) {
      writing_.content.parts.push_back(part->part);
      core_.on_event(now_, ShardCore::SnapshotPartWritten{});
      if (writing_.content.parts.size() < writing_.parts) return;
      snapshot_ = writing_;
      core_.on_event(now_, ShardCore::SnapshotEnded{});
    } else if (std::holds_alternative<ShardCore::DropLog>(action)) {
      drop();
    }
  }

  void drop() {
    entries_.clear();
    snapshot_.reset();
  }

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
        store(action);
        if (const auto* load = std::get_if<ShardCore::LoadShard>(&action))
          core_.on_event(
              now_, ShardCore::ShardLoaded{load->request.job, start_for(load->request), load->request.key});
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
  Durability durability_;
  struct Snapshot {
    std::size_t entries = 0;
    std::uint64_t parts = 0;
    RecoveredShard::Snapshot content;
  };
  std::vector<SharedBytes> entries_;
  std::optional<Snapshot> snapshot_;
  Snapshot writing_;
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
