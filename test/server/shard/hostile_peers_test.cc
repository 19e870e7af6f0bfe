// Goal: whatever the coordinator or an admitted worker sends, the shard stays (P8).
// Method: seeded messages of every type from the coordinator, subscribed workers and strangers, in every
// state.
#include <functional>

#include "server/shard/shard_core.h"
#include "test/common/protocol/any_message.h"
#include "test/server/shard/some_optimizer.h"
#include "test/support/catch.h"
#include "test/support/codecs.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE("no message of any peer in any state brings a shard down") {
  constexpr PeerId kCoordinator{0};
  constexpr PeerId kWorker{100};
  ShardCore::Counters seen;
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    INFO("seed " << seed);
    AnyMessage any(seed);
    const ShardSettings settings{both_ways(), seed % 3 == 0 ? 1.0 : 0.0};
    RandomStream random(seed, 1);
    ShardCore core({"tcp://coordinator", {"nyc", "tcp://shard", 1, "", JobId()}}, RandomStream(seed, 2));
    ProtocolTime now{1h};
    const auto tell = [&](PeerId peer, Message message) {
      core.on_event(now, MessageReceived{peer, std::move(message)});
    };
    const auto collect = [&] {
      for (ShardCore::Action& action : core.take_actions()) {
        const auto* send = std::get_if<SendMessage>(&action);
        if (send != nullptr && send->tag != 0 && random.below(2) == 0)
          core.on_event(now, MessageAcked{send->peer, send->tag});
        const auto* load = std::get_if<ShardCore::LoadShard>(&action);
        if (load != nullptr && random.below(4) != 0)
          core.on_event(
              now, ShardCore::ShardLoaded{
                       load->request.job,
                       ShardStart{settings, std::vector<float>(load->request.end - load->request.begin, 1.0f),
                                  seed % 4 == 0, seed % 2 == 0 ? Durability::kLog : Durability::kMemory,
                                  some_optimizer(static_cast<ServerOptimizerType>(seed % 5 % 3),
                                                 load->request.end - load->request.begin),
                                  [settings](const std::string&) { return settings; }}});
      }
    };
    IncarnationId incarnation;
    incarnation.words = {1, 1};
    const std::vector<std::function<void()>> steps = {
        [&] {
          core.on_event(now, PeerConnected{kCoordinator, {}});
        },
        [&] {
          tell(kCoordinator, OpenShard{JobId(1), "", {}, ShardIndex(0), 0, 4096, 5});
        },
        [&] {
          core.on_event(now, PeerConnected{kWorker, {}});
        },
        [&] {
          const Member member{IncarnationOrder(1), incarnation, MemberState::kActive, Round()};
          tell(kCoordinator, Membership{JobId(1), MembershipEpoch(1), {member}});
        },
        [&] {
          tell(kWorker, Subscribe{JobId(1), IncarnationOrder(1), incarnation, {}, {}, {}});
        },
    };
    const std::uint64_t from = random.below(steps.size() + 1);
    for (std::size_t i = 0; i < steps.size() + 40; ++i) {
      now += Duration(std::chrono::milliseconds(random.below(700)));
      if (i < steps.size()) steps[i]();
      collect();
      if (i < from) continue;
      const PeerId peers[] = {kCoordinator, kWorker, kWorker, PeerId(101)};
      tell(peers[random.below(4)], any.make());
      collect();
      Push push;
      push.job = JobId(1);
      push.order = IncarnationOrder(1);
      if (const PushLedger* ledger = core.ledger(push.order)) push.sequence = ledger->next_sequence();
      push.epoch = MembershipEpoch(1);
      push.lease = LeaseId(1);
      push.coding = 1;
      push.payload = SharedBytes::take(std::vector<float>(4096, 1.0f));
      tell(kWorker, push);
      collect();
      if (core.next_deadline() <= now) core.on_deadline(now);
    }
    seen.settled += core.counters().settled;
    seen.malformed += core.counters().malformed;
    seen.fenced += core.counters().fenced;
    seen.catch_ups += core.counters().catch_ups;
  }
  CHECK(seen.settled > 100);  // some of it was taken for what it looked like
  CHECK(seen.malformed > 100);
}
