// Goal: a worker takes a tuning that comes before or after it joins, says from which round on, offers and
// asks by its length of rounds, and gives a job up whose tuning it cannot read. Method: one ClientCore; the
// test plays the coordinator, the shards and the host.
#include "test/worker/client/client_bench.h"

namespace nanduti {
namespace {

Tune tuning(std::uint64_t number, std::uint64_t from, std::uint64_t round_samples,
            std::string settings = {}) {
  return {JobId(1), number, Round(from), 5u, round_samples, std::move(settings)};
}

TEST_CASE("a tuning is taken from its round on, and rounds have its length") {
  ClientBench bench;
  bench.join();
  bench.send_shadow();
  bench.lend(100);
  REQUIRE(bench.rounds.size() == 1);
  bench.hear(kCoordinator, tuning(1, 2, 20));
  REQUIRE(bench.to<Tuned>(kCoordinator).size() == 1);
  CHECK(bench.to<Tuned>(kCoordinator)[0].number == 1);
  CHECK(bench.to<Tuned>(kCoordinator)[0].from_round == Round(2));
  for (int round = 0; round < 3; ++round) bench.finish_round();
  REQUIRE(bench.rounds.size() == 4);
  CHECK(bench.rounds[1].range.size() == 10);
  CHECK(bench.rounds[2].range.size() == 20);
  CHECK(bench.rounds[3].range.begin == 40);
}

TEST_CASE("a tuning that comes before the job is joined holds from the first round on") {
  ClientBench bench;
  bench.hear(kCoordinator, tuning(3, 0, 25, "good"));
  CHECK(bench.to<Tuned>(kCoordinator).empty());
  bench.join();
  REQUIRE(bench.to<Tuned>(kCoordinator).size() == 1);
  bench.send_shadow();
  bench.lend(100);
  REQUIRE(bench.rounds.size() == 1);
  CHECK(bench.rounds[0].range.size() == 25);
  CHECK(bench.replica.replica()->settings(Round(0)).bound == 5u);
  CHECK(bench.replica.replica()->settings(Round(0)).accumulate_rounds_max == 4);
}

TEST_CASE("an older tuning that comes late is none") {
  ClientBench bench;
  bench.join();
  bench.hear(kCoordinator, tuning(2, 0, 20));
  bench.hear(kCoordinator, tuning(1, 0, 30));
  CHECK(bench.to<Tuned>(kCoordinator).size() == 1);
}

TEST_CASE("a tuning that cannot be read ends the job here, and the coordinator hears why") {
  ClientBench bench;
  bench.join();
  bench.send_shadow();
  bench.hear(kCoordinator, tuning(1, 0, 20, "bad"));
  REQUIRE(bench.to<JobRefused>(kCoordinator).size() == 1);
  CHECK(bench.to<JobRefused>(kCoordinator)[0].reason ==
        "a tuning that this worker cannot read: settings 'bad'");
  CHECK(bench.unloaded == 1);
}

TEST_CASE("the same where it has come before the job is joined") {
  ClientBench bench;
  bench.hear(kCoordinator, tuning(1, 0, 20, "bad"));
  bench.join();
  CHECK(bench.to<JobRefused>(kCoordinator).size() == 1);
  CHECK(bench.peers.empty());
  CHECK(bench.unloaded == 1);
}

TEST_CASE("what a round has done counts as it goes on, and once") {
  ClientBench bench;
  bench.join();
  bench.hear(kCoordinator, {Tune{JobId(1), 1, Round(0), 0u, 10, "good"}});
  bench.send_shadow({{IncarnationOrder(1), Round(), Round()}, {IncarnationOrder(2), Round(), Round()}});
  bench.lend(100);
  CHECK(bench.status().samples == 0);
  bench.finish_round();  // the gate is closed to the next one
  CHECK(bench.rounds.back().extends);
  CHECK(bench.status().samples == 10);
  for (int more = 0; more < 3; ++more) bench.finish_round();
  CHECK_FALSE(bench.replica.computing());
  CHECK(bench.status().samples == 40);
  CHECK(bench.status().loss_sum == 4);
  CHECK(bench.status().compute_seconds == 4);
}

TEST_CASE("what a lease has left is given back when the worker drains, and no sample twice") {
  ClientBench bench;
  bench.join();
  bench.send_shadow();
  bench.lend(100);
  bench.finish_round();
  bench.tell(ClientCore::DrainRequested());
  bench.finish_round();
  REQUIRE(bench.to<LeaseReturn>(kCoordinator).size() == 1);
  CHECK(bench.to<LeaseReturn>(kCoordinator)[0].range.begin == 20);
  CHECK(bench.to<LeaseReturn>(kCoordinator)[0].range.end == 100);
}

}  // namespace
}  // namespace nanduti
