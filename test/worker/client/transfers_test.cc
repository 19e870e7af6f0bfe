// Goal: bulk goes over a thin link once, and what waits for it says so. Method: one ClientCore; the test
// plays the coordinator, the shards and the host.
#include "test/worker/client/client_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

CutValues values(std::uint64_t cut, float value) {
  return {JobId(1), CutId(cut), SharedBytes::take(std::vector<float>(ClientBench::kSize / 2, value))};
}

EvaluationLease evaluation(std::uint64_t lease, std::uint64_t cut) {
  return {JobId(1), LeaseId(lease), CutId(cut), 10 * lease, 10 * lease + 10};
}

}  // namespace

TEST_CASE("a worker asks for samples once every shard has sent its shadow") {
  ClientBench bench;
  bench.join();
  CHECK(bench.to<LeaseRequest>(kCoordinator).empty());
  const Assign shadow = ClientBench::shadow({{IncarnationOrder(1), Round(), Round()}});
  bench.hear(bench.peers[0], shadow);
  CHECK(bench.to<LeaseRequest>(kCoordinator).empty());
  bench.hear(bench.peers[1], shadow);
  CHECK(bench.to<LeaseRequest>(kCoordinator).size() == 1);
}

TEST_CASE("a cut is fetched once for all evaluations of it, and dropped with the last one") {
  ClientBench bench;
  bench.join();
  for (std::uint64_t lease = 1; lease <= 3; ++lease) bench.hear(kCoordinator, evaluation(lease, 1));
  bench.hear(kCoordinator, evaluation(2, 1));  // asked again
  for (const PeerId shard : bench.peers) CHECK(bench.to<FetchCut>(shard).size() == 1);
  bench.hear(bench.peers[0], values(1, 1));
  // A lost session takes along what was asked for, and nothing else.
  for (const PeerId shard : std::vector(bench.peers)) {
    bench.tell(PeerClosed{shard, "lost", true});
    bench.tell(PeerConnected{shard, {}});
    bench.hear(shard, Subscribed{JobId(1), Sequence()});
  }
  CHECK(bench.to<FetchCut>(bench.peers[0]).size() == 1);
  CHECK(bench.to<FetchCut>(bench.peers[1]).size() == 2);
  bench.hear(bench.peers[0], values(1, 3));  // nobody asked
  bench.hear(bench.peers[1], values(1, 2));
  const auto answer = [&] {
    const LeaseId lease = bench.evaluations.back().lease;
    bench.tell(ClientCore::CutEvaluated{JobId(1), lease, 5, 10, 1, 1});
  };
  for (std::uint64_t lease = 1; lease <= 3; ++lease) {
    REQUIRE(bench.evaluations.size() == lease);
    CHECK(bench.evaluations.back().lease == LeaseId(lease));
    CHECK(bench.evaluations.back().parameters == bench.evaluations[0].parameters);
    answer();
  }
  const std::vector<float>& parameters = *bench.evaluations[0].parameters;
  CHECK(parameters[0] == 1);
  CHECK(parameters[ClientBench::kSize / 2 - 1] == 1);
  CHECK(parameters[ClientBench::kSize / 2] == 2);
  CHECK(bench.to<EvaluationDone>(kCoordinator).size() == 3);
  std::vector<double> told;  // with each answer, the time of all so far
  for (const WorkerStatus& status : bench.to<WorkerStatus>(kCoordinator))
    told.push_back(status.evaluation_seconds);
  CHECK(told == std::vector<double>{1, 2, 3});
  CHECK(bench.evaluations.size() == 3);
  const std::weak_ptr<const std::vector<float>> held = bench.evaluations[0].parameters;
  bench.evaluations.clear();
  CHECK(held.expired());
  bench.hear(kCoordinator, evaluation(4, 1));
  CHECK(bench.to<FetchCut>(bench.peers[0]).size() == 2);
}

TEST_CASE("a worker holds no more cuts than a shard does") {
  ClientBench bench;
  bench.join();
  for (std::uint64_t cut = 1; cut <= kCutsMax + 1; ++cut) bench.hear(kCoordinator, evaluation(cut, cut));
  for (std::uint64_t cut = 1; cut <= 2; ++cut)
    for (const PeerId shard : bench.peers) bench.hear(shard, values(cut, 1));
  REQUIRE(bench.evaluations.size() == 1);
  CHECK(bench.evaluations[0].lease == LeaseId(2));
}

TEST_CASE("versions that do not fit make a worker subscribe once, until one fits") {
  ClientBench bench;
  bench.join();
  const PeerId shard = bench.peers[0];
  bench.send_shadow();
  const auto subscriptions = [&] { return bench.to<Subscribe>(shard).size(); };
  const auto publish = [&](std::uint64_t version) {
    Publish message;
    message.header = ClientBench::shadow({}, version).header;
    bench.hear(shard, message);
  };
  const std::size_t before = subscriptions();
  publish(1);
  CHECK(subscriptions() == before);
  for (std::uint64_t version = 3; version < 6; ++version) publish(version);
  CHECK(subscriptions() == before + 1);
  // The answer overtakes versions that were under way: streams reorder.
  bench.hear(shard, Subscribed{JobId(1), Sequence()});
  publish(6);
  CHECK(subscriptions() == before + 1);
  SECTION("the answer fits, and a later gap is another one") {
    bench.hear(shard, ClientBench::shadow({}, 6));
    publish(7);
    CHECK(subscriptions() == before + 1);
    publish(9);
    CHECK(subscriptions() == before + 2);
  }
  SECTION("the answer does not fit") {
    Assign wrong = ClientBench::shadow({}, 6);
    wrong.ranges[0].end -= 1;
    bench.hear(shard, wrong);
    CHECK(subscriptions() == before + 2);
  }
  SECTION("a new session asks anew") {
    bench.tell(PeerClosed{shard, "lost", true});
    bench.tell(PeerConnected{shard, {}});
    CHECK(subscriptions() == before + 2);
    publish(9);
    CHECK(subscriptions() == before + 3);
  }
}

TEST_CASE("a worker says that it waits for others once its own pushes have arrived") {
  const bool deterministic = GENERATE(false, true);
  ClientBench bench(1, deterministic);
  bench.join();
  bench.send_shadow({{IncarnationOrder(1), Round(), Round()}, {IncarnationOrder(2), Round(), Round()}});
  bench.lend(100);
  for (int round = 0; round < 2; ++round) bench.finish_round();
  CHECK(bench.rounds.size() == 2);  // the bound is 1
  CHECK_FALSE(bench.status().at_gate);
  const auto deliver = [&](PeerId peer) {
    for (const SendMessage& send : std::vector(bench.sent))
      if (send.peer == peer && std::holds_alternative<Push>(send.message))
        bench.tell(MessageAcked{peer, send.tag});
  };
  deliver(bench.peers[0]);
  CHECK_FALSE(bench.status().at_gate);
  deliver(bench.peers[1]);
  CHECK(bench.status().at_gate);
  // What a lost session had delivered, the shard may not have.
  bench.tell(PeerClosed{bench.peers[1], "lost", true});
  CHECK_FALSE(bench.status().at_gate);
  bench.tell(PeerConnected{bench.peers[1], {}});
  bench.hear(bench.peers[1], Subscribed{JobId(1), Sequence(1)});
  CHECK_FALSE(bench.status().at_gate);
  deliver(bench.peers[1]);
  CHECK(bench.status().at_gate);
}

TEST_CASE(
    "in lockstep a worker whose window's bytes are full waits for others, once what it sent has arrived") {
  ClientOptions options;
  options.window_bytes_max = ClientBench::kSize / 2 * sizeof(float);  // one push to each shard
  ClientBench bench(1, true, options);
  bench.join();
  bench.send_shadow({{IncarnationOrder(1), Round(), Round()}, {IncarnationOrder(2), Round(), Round()}});
  bench.lend(100);
  for (int round = 0; round < 2; ++round) bench.finish_round();
  CHECK(bench.to<Push>(bench.peers[0]).size() == 1);
  CHECK_FALSE(bench.status().at_gate);
  for (const SendMessage& send : std::vector(bench.sent))
    if (std::holds_alternative<Push>(send.message)) bench.tell(MessageAcked{send.peer, send.tag});
  CHECK(bench.status().at_gate);
  // What the shard has settled makes room: there is a push to send again.
  for (const PeerId shard : bench.peers)
    bench.hear(shard, PushAck{JobId(1), AckLevel::kDurableHere, Sequence(1), {}});
  CHECK(bench.to<Push>(bench.peers[0]).size() == 2);
  CHECK_FALSE(bench.status().at_gate);
}

TEST_CASE("in lockstep a worker with a full window waits for others, elsewhere for its shards") {
  const bool deterministic = GENERATE(false, true);
  ClientOptions options;
  options.window_rounds_max = 1;
  ClientBench bench(1, deterministic, options);
  bench.join();
  bench.send_shadow({{IncarnationOrder(1), Round(), Round()}, {IncarnationOrder(2), Round(), Round()}});
  bench.lend(100);
  bench.finish_round();
  REQUIRE(bench.rounds.size() == 1);  // the bound is 1: the window is what ends
  CHECK_FALSE(bench.status().at_gate);
  for (const SendMessage& send : std::vector(bench.sent))
    if (std::holds_alternative<Push>(send.message)) bench.tell(MessageAcked{send.peer, send.tag});
  CHECK(bench.status().at_gate == deterministic);
}

TEST_CASE("in lockstep a worker waits for the others' last updates as well") {
  ClientBench bench(1, true);
  bench.join();
  bench.send_shadow({{IncarnationOrder(1), Round(), Round()}, {IncarnationOrder(2), Round(), Round()}});
  bench.hear(kCoordinator, FlushResidual{JobId(1)});
  CHECK_FALSE(bench.status().at_gate);
  for (const SendMessage& send : std::vector(bench.sent))
    if (std::holds_alternative<Push>(send.message)) bench.tell(MessageAcked{send.peer, send.tag});
  CHECK(bench.status().at_gate);
  for (const PeerId peer : bench.peers)
    bench.hear(peer, PushAck{JobId(1), AckLevel::kDurableHere, Sequence(1), {}});
  CHECK_FALSE(bench.status().at_gate);
  CHECK(bench.to<ResidualFlushed>(kCoordinator).size() == 1);
}

TEST_CASE("a worker's window ends at its bytes too, with two rounds at least") {
  ClientOptions options;
  const std::size_t rounds = GENERATE(std::size_t{1}, std::size_t{3});
  // A round's payload and its update, dense float32 both.
  options.window_bytes_max = rounds * 2 * ClientBench::kSize * sizeof(float);
  ClientBench bench(1, false, options);
  bench.join();
  bench.send_shadow({{IncarnationOrder(1), Round(), Round(100)}});  // the gate is open
  bench.lend(1000);
  for (int round = 0; round < 10 && bench.replica.computing(); ++round) bench.finish_round();
  const std::size_t held = std::max<std::size_t>(rounds, 2);
  CHECK(bench.rounds.size() == held);
  // A version that holds the first one makes room for another.
  for (const PeerId peer : bench.peers) {
    Assign version = ClientBench::shadow({{IncarnationOrder(1), Round(), Round(100)}}, 1);
    version.header.verdicts = {{IncarnationOrder(1), Sequence(held), {}}};
    bench.hear(peer, version);
  }
  CHECK(bench.rounds.size() == held + 1);
}

TEST_CASE("the gate holds at the end of numbers too") {
  constexpr std::uint64_t kLast = ~std::uint64_t{0};
  ClientBench bench;
  bench.join();
  bench.send_shadow({{IncarnationOrder(1), Round(kLast), Round(kLast)}});
  bench.lend(100);
  REQUIRE(bench.rounds.size() == 1);
  CHECK(bench.rounds[0].round == Round(kLast));
}

TEST_CASE("a cut is asked for once the shard has taken the subscription") {
  ClientBench bench;
  bench.hear(kCoordinator,
             JoinJob{JobId(1),
                     5,
                     {{"tcp://x:1", ShardIndex(0), 1, 0, ClientBench::kSize / 2},
                      {"tcp://x:1", ShardIndex(1), 2, ClientBench::kSize / 2, ClientBench::kSize}}});
  bench.hear(kCoordinator, evaluation(1, 1));
  for (const PeerId shard : std::vector(bench.peers)) {
    bench.tell(PeerConnected{shard, {}});
    CHECK(bench.to<FetchCut>(shard).empty());
    bench.hear(shard, Subscribed{JobId(1), Sequence()});
    CHECK(bench.to<FetchCut>(shard).size() == 1);
  }
}
