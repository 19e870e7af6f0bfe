// Goal: whatever an admitted peer sends, the coordinator stays (P8).
// Method: seeded messages of every type from workers, shards and strangers, in every phase of a job.
#include <functional>

#include "test/common/protocol/any_message.h"
#include "test/server/coordinator/coordinator_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE("no message of any peer in any phase brings the coordinator down") {
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    INFO("seed " << seed);
    AnyMessage any(seed);
    RandomStream random(seed, 1);
    CoordinatorBench bench(CoordinatorOptions{2, 10s, 60s, 30s});
    const bool deterministic = seed % 4 == 0;
    // The honest part of a job, disturbed from a step that the seed decides.
    const std::vector<std::function<void()>> steps = {
        [&] { bench.add_shard(0); },
        [&] { bench.add_shard(1); },
        [&] { bench.add_worker(1); },
        [&] { bench.submit(1, 2, deterministic); },
        [&] { bench.add_worker(2); },
        [&] { bench.prepare(1); },
        [&] { bench.prepare(2); },
        [&] { bench.plan(); },
        [&] { bench.say(CoordinatorBench::shard(0), ShardOpened{JobId(1)}); },
        [&] { bench.say(CoordinatorBench::shard(1), ShardOpened{JobId(1)}); },
        [&] { bench.say(PeerId(1), LeaseRequest{JobId(1)}); },
        [&] { bench.say(PeerId(2), LeaseRequest{JobId(1)}); },
    };
    const std::uint64_t from = random.below(steps.size() + 1);
    for (std::size_t i = 0; i < steps.size() + 40; ++i) {
      if (i < steps.size()) steps[i]();
      if (i < from) continue;
      const std::uint64_t peers[] = {1, 2, 3, 100, 101};
      bench.say(PeerId(peers[random.below(5)]), any.make());
      if (random.below(16) == 0) bench.close(PeerId(peers[random.below(5)]));
      if (random.below(16) == 0) bench.wait(Duration(std::chrono::seconds(random.below(70))));
      (void)bench.core.job_reports(bench.now);
      (void)bench.core.workers_report(bench.now);
    }
  }
}
