// Goal: whatever shards and the coordinator send, a worker goes on, starts over or says why not.
// Method: one ClientCore; the test plays the coordinator, the shards and the host.
#include "test/common/protocol/any_message.h"
#include "test/worker/client/client_bench.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE("shards that do not make up the whole model, in order, are refused") {
  std::vector<ShardPlace> places = {{"tcp://x:1", ShardIndex(0), 1, 0, 4096},
                                    {"tcp://x:1", ShardIndex(1), 2, 4096, ClientBench::kSize}};
  bool fits = false;
  SECTION("whole") { fits = true; }
  SECTION("a gap") { places[0].end = 4000; }
  SECTION("an overlap") { places[1].begin = 4000; }
  SECTION("not from the start") { places[0].begin = 1; }
  SECTION("not to the end") { places[1].end = ClientBench::kSize - 1; }
  SECTION("out of order") { std::swap(places[0].index, places[1].index); }
  SECTION("an index that is none") { places[1].index = ShardIndex(9); }
  SECTION("none") { places.clear(); }
  ClientBench bench;
  bench.hear(kCoordinator, JoinJob{JobId(1), 5, places});
  CHECK(bench.peers.size() == (fits ? 2 : 0));
  CHECK(bench.to<JobRefused>(kCoordinator).size() == (fits ? 0 : 1));
}

TEST_CASE("no message of the coordinator or a shard brings a worker down") {
  std::size_t rounds = 0;
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    INFO("seed " << seed);
    AnyMessage any(seed);
    RandomStream random(seed, 1);
    ClientBench bench(seed, seed % 2 == 0);
    const std::uint64_t join_at = random.below(8);
    for (std::uint64_t i = 0; i < 60; ++i) {
      bench.now += Duration(std::chrono::milliseconds(random.below(700)));
      if (i == join_at) bench.join();
      if (i == join_at + 1) {
        Assign assign;
        assign.header.job = JobId(1);
        assign.header.chain = ChainId(1);
        assign.header.epoch = MembershipEpoch(1);
        assign.header.active = {{IncarnationOrder(1), Round(), Round()}};
        assign.whole = true;
        assign.ranges = {{0, 4096}};
        assign.payload = SharedBytes::take(std::vector<float>(4096, 1.0f));
        for (const PeerId peer : bench.peers) bench.hear(peer, assign);
        bench.hear(kCoordinator,
                   LeaseGrant{JobId(1), LeaseId(1), {DataEpoch(0), 0, 100}, MembershipEpoch(1), Round()});
      }
      const Message message = any.make();
      // What a coordinator alone can say takes the job away: less often.
      const bool to_coordinator = bench.peers.empty() || random.below(8) == 0;
      bench.hear(to_coordinator ? kCoordinator : bench.peers[random.below(bench.peers.size())], message);
      if (bench.replica.computing() && random.below(2) == 0) bench.finish_round();
      if (bench.core.next_deadline() <= bench.now) bench.core.on_deadline(bench.now);
      bench.collect();
    }
    rounds += bench.rounds.size();
  }
  CHECK(rounds > 1000);
}

TEST_CASE("a cut of the wrong size is a reason to give the job up, and the coordinator hears it") {
  ClientBench bench;
  bench.join();
  bench.hear(kCoordinator, EvaluationLease{JobId(1), LeaseId(1), CutId(1), 0, 10});
  const auto cut = [](std::size_t values) {
    return CutValues{JobId(1), CutId(1), SharedBytes::take(std::vector<float>(values))};
  };
  bench.hear(bench.peers[0], cut(4096));
  CHECK(bench.to<JobRefused>(kCoordinator).empty());
  bench.hear(bench.peers[1], cut(4095));
  REQUIRE(bench.to<JobRefused>(kCoordinator).size() == 1);
  CHECK(bench.to<JobRefused>(kCoordinator)[0].reason ==
        "shard 1 sent a cut of 16380 bytes for 4096 parameters");
  CHECK(bench.unloaded == 1);
}

TEST_CASE("a cut that is not held any more does not stand in the way of the next evaluation") {
  ClientBench bench;
  bench.join();
  bench.hear(kCoordinator, EvaluationLease{JobId(1), LeaseId(1), CutId(1), 0, 10});
  bench.hear(kCoordinator, EvaluationLease{JobId(1), LeaseId(2), CutId(2), 0, 10});
  for (const PeerId shard : {bench.peers[0], bench.peers[1]})
    bench.hear(shard, CutValues{JobId(1), CutId(2), SharedBytes::take(std::vector<float>(4096))});
  CHECK(bench.evaluations.empty());
  bench.hear(bench.peers[1], ShardRefusal{JobId(1), "cut 1 is not held any more", CutId(1)});
  REQUIRE(bench.evaluations.size() == 1);
  CHECK(bench.evaluations[0].lease == LeaseId(2));
}

TEST_CASE("a shard that closes its session for good makes the worker start over, unless the job ends") {
  ClientBench bench;
  bench.join();
  bench.tell(PeerClosed{bench.peers[0], "the connection is lost", true});
  CHECK(bench.core.next_deadline() <= bench.now + 1s);  // the next status, and no more
  bench.tell(PeerClosed{bench.peers[1], "the job is not open here", false});
  const auto pass = [&](Duration span) {
    for (const ProtocolTime end = bench.now + span; bench.core.next_deadline() <= end;) {
      bench.now = bench.core.next_deadline();
      bench.core.on_deadline(bench.now);
      bench.collect();
    }
  };
  SECTION("it starts over as a new incarnation") {
    pass(11s);
    CHECK(bench.unloaded == 1);
    const auto registered = bench.to<RegisterWorker>(kCoordinator);
    REQUIRE(registered.size() == 2);
    CHECK(registered[0].incarnation != registered[1].incarnation);
    bench.hear(kCoordinator, Registered{IncarnationOrder(2)});
    bench.hear(kCoordinator, PrepareJob{JobId(1), "x"});
    bench.collect();
    CHECK(bench.to<JobPrepared>(kCoordinator).size() == 2);
  }
  SECTION("the job's end comes in time") {
    pass(2s);
    bench.hear(kCoordinator, EndJob{JobId(1), "the job is done"});
    pass(20s);
    CHECK(bench.unloaded == 1);
    CHECK(bench.to<RegisterWorker>(kCoordinator).size() == 1);
  }
}

TEST_CASE("a worker that drains after a lost session says nothing of the leases of its old life") {
  // The coordinator has lent them again, and would take the new life for one that lies.
  ClientBench bench;
  bench.join();
  bench.send_shadow();
  bench.lend(25);
  bench.tell(PeerClosed{kCoordinator, "the server does not know this session any more", true});
  bench.tell(PeerConnected{kCoordinator, {}});
  bench.tell(ClientCore::DrainRequested{});
  bench.finish_round();
  for (const PeerId shard : bench.peers)
    bench.hear(shard, PushAck{JobId(1), AckLevel::kDurableHere, Sequence(1), {}});
  CHECK(bench.to<LeaseReturn>(kCoordinator).empty());
  CHECK(bench.to<Leave>(kCoordinator).empty());
  bench.hear(kCoordinator, Registered{IncarnationOrder(2)});
  CHECK(bench.unloaded == 1);
  CHECK(bench.to<LeaseReturn>(kCoordinator).empty());
  CHECK(bench.to<Leave>(kCoordinator).size() == 1);
}

TEST_CASE(
    "a coordinator that goes on after a crash finds the worker where it was, and says again what was lost") {
  ClientBench bench;
  bench.join();
  bench.send_shadow();
  bench.lend(25, 3);
  bench.hear(kCoordinator, Tune{JobId(1), 1, Round(0), 1, 10, {}});
  REQUIRE(bench.to<Tuned>(kCoordinator).size() == 1);
  const RegisterWorker first = bench.to<RegisterWorker>(kCoordinator).back();
  CHECK(first.order == IncarnationOrder());
  CHECK(first.job == JobId());
  const std::size_t asked = bench.to<LeaseRequest>(kCoordinator).size();
  bench.tell(PeerClosed{kCoordinator, "the server does not know this session any more", true});
  bench.tell(PeerConnected{kCoordinator, {}});
  const RegisterWorker again = bench.to<RegisterWorker>(kCoordinator).back();
  CHECK(again.incarnation == first.incarnation);
  CHECK(again.order == IncarnationOrder(1));
  CHECK(again.job == JobId(1));
  CHECK(bench.to<LeaseRequest>(kCoordinator).size() == asked);
  bench.hear(kCoordinator, Registered{IncarnationOrder(1)});
  CHECK(bench.unloaded == 0);
  bench.hear(kCoordinator, Tune{JobId(1), 1, Round(0), 1, 10, {}});
  CHECK(bench.to<Tuned>(kCoordinator).size() == 2);
  SECTION("a lease that it knows is not trained twice") {
    bench.hear(kCoordinator,
               LeaseGrant{JobId(1), LeaseId(3), {DataEpoch(0), 10, 25}, MembershipEpoch(1), Round(), 0});
    for (int round = 0; round < 3; ++round) bench.finish_round();
    CHECK_FALSE(bench.replica.computing());
    std::uint64_t samples = 0;
    for (const Push& push : bench.to<Push>(bench.peers[0])) samples += push.range.size();
    CHECK(samples == 25);
  }
  SECTION("one that it does not know is") {
    bench.hear(kCoordinator,
               LeaseGrant{JobId(1), LeaseId(4), {DataEpoch(0), 30, 40}, MembershipEpoch(1), Round(), 0});
    for (int round = 0; round < 4; ++round) bench.finish_round();
    CHECK(bench.to<Push>(bench.peers[0]).back().range == SampleRange{DataEpoch(0), 30, 40});
  }
}

TEST_CASE("a worker that is asked once more for what it has flushed says so, and flushes nothing again") {
  ClientBench bench(1, true);
  bench.join();
  bench.send_shadow();
  bench.hear(kCoordinator, FlushResidual{JobId(1)});
  for (const PeerId shard : bench.peers)
    bench.hear(shard, PushAck{JobId(1), AckLevel::kDurableHere, Sequence(1), {}});
  REQUIRE(bench.to<ResidualFlushed>(kCoordinator).size() == 1);
  const std::size_t pushes = bench.to<Push>(bench.peers[0]).size();
  bench.hear(kCoordinator, FlushResidual{JobId(1)});
  CHECK(bench.to<ResidualFlushed>(kCoordinator).size() == 2);
  CHECK(bench.to<Push>(bench.peers[0]).size() == pushes);
}

TEST_CASE("a worker that is asked to join before it has read the job's data joins when it has") {
  // The coordinator goes by what the worker said before a lost session.
  ClientCore core({}, RandomStream(1));
  const ProtocolTime now{1h};
  const auto shards_opened = [&] {
    int opened = 0;
    for (const auto& action : core.take_actions())
      if (const auto* open = std::get_if<OpenPeer>(&action); open && open->peer != kCoordinator) {
        CHECK(open->hello.stream_count == 3);  // control, pushes and versions, cuts
        ++opened;
      }
    return opened;
  };
  core.on_event(now, PeerConnected{kCoordinator, {}});
  core.on_event(now, MessageReceived{kCoordinator, Registered{IncarnationOrder(1)}});
  core.on_event(now, MessageReceived{kCoordinator, PrepareJob{JobId(1), "x"}});
  core.on_event(
      now, MessageReceived{kCoordinator,
                           JoinJob{JobId(1), 5, {{"tcp://x:1", ShardIndex(0), 1, 0, ClientBench::kSize}}}});
  CHECK(shards_opened() == 0);
  LoadedJob job;
  job.parameters = ClientBench::kSize;
  job.layout_hash = 5;
  job.codecs = both_ways();
  core.on_event(now, ClientCore::JobLoaded{JobId(1), job});
  CHECK(shards_opened() == 1);
}

TEST_CASE("a worker names the initial values that it has made, until a difference from them does not fit") {
  const ProtocolTime now{std::chrono::hours(1)};
  ClientCore core({}, RandomStream(1));
  PeerId shard;
  std::vector<Subscribe> asked;
  const auto tell = [&](const ClientCore::Event& event) {
    core.on_event(now, event);
    for (const auto& action : core.take_actions()) {
      if (const auto* open = std::get_if<OpenPeer>(&action)) shard = open->peer;
      if (const auto* send = std::get_if<SendMessage>(&action))
        if (const auto* request = std::get_if<Subscribe>(&send->message)) asked.push_back(*request);
    }
  };
  LoadedJob job;
  job.parameters = ClientBench::kSize;
  job.layout_hash = 5;
  job.codecs = both_ways();
  job.initial_values = std::make_shared<const std::vector<float>>(ClientBench::kSize, 0.5f);
  tell(PeerConnected{kCoordinator, {}});
  tell(MessageReceived{kCoordinator, Registered{IncarnationOrder(1)}});
  tell(MessageReceived{kCoordinator, PrepareJob{JobId(1), "x"}});
  tell(ClientCore::JobLoaded{JobId(1), job});
  tell(MessageReceived{kCoordinator,
                       JoinJob{JobId(1), 5, {{"tcp://x:1", ShardIndex(0), 1, 0, ClientBench::kSize}}}});
  tell(PeerConnected{shard, {}});
  REQUIRE(asked.size() == 1);
  CHECK(asked[0].initial_fingerprint == initial_fingerprint(std::vector<float>(ClientBench::kSize, 0.5f)));
  Assign assign;
  assign.header.job = JobId(1);
  assign.header.chain = ChainId(9);
  assign.ranges = {{0, ClientBench::kSize + 1}};
  tell(MessageReceived{shard, assign});
  tell(ClientCore::ReplicaReported{
      JobId(1), Replica::MergeFailed{ShardIndex(0), ChainId(), Version(), "it does not fit", false, 0}});
  REQUIRE(asked.size() == 2);
  CHECK(asked[1].initial_fingerprint == 0);
}

TEST_CASE("pushes are held back where a shard has too many bytes unacknowledged, and none is lost") {
  ClientOptions options;
  options.window_bytes_max = 4096 * sizeof(float);  // one push
  ClientBench bench(1, false, options);
  bench.join();
  const PeerId shard = bench.peers[0];
  for (const PeerId peer : std::vector(bench.peers)) {
    Assign assign;
    assign.header.job = JobId(1);
    assign.header.chain = ChainId(1);
    assign.header.epoch = MembershipEpoch(1);
    assign.header.active = {{IncarnationOrder(1), Round(), Round(100)}};  // the gate is open
    assign.whole = true;
    const std::uint64_t size = peer == shard ? 4096 : ClientBench::kSize - 4096;
    assign.ranges = {{0, size}};
    assign.payload = SharedBytes::take(std::vector<float>(size));
    bench.hear(peer, assign);
  }
  bench.hear(kCoordinator,
             LeaseGrant{JobId(1), LeaseId(1), {DataEpoch(0), 0, 50}, MembershipEpoch(1), Round()});
  const auto sent = [&] {
    std::vector<std::uint64_t> sequences;
    for (const Push& push : bench.to<Push>(shard)) sequences.push_back(push.sequence.value());
    return sequences;
  };
  using Sequences = std::vector<std::uint64_t>;
  for (int round = 0; round < 2; ++round) bench.finish_round();
  CHECK(sent() == Sequences{0});
  // Another session: what the shard has not settled goes again, within the window.
  bench.tell(PeerClosed{shard, "lost", true});
  bench.tell(PeerConnected{shard, {}});
  bench.hear(shard, Subscribed{JobId(1), Sequence(0)});
  CHECK(sent() == Sequences{0, 0});
  bench.hear(shard, PushAck{JobId(1), AckLevel::kDurableHere, Sequence(1), {}});
  CHECK(sent() == Sequences{0, 0, 1});
  bench.hear(shard, PushAck{JobId(1), AckLevel::kDurableHere, Sequence(2), {}});
  CHECK(sent() == Sequences{0, 0, 1});
}

TEST_CASE("a round stays within its lease, at the end of numbers too") {
  ClientBench bench;
  bench.join();
  for (const PeerId peer : std::vector(bench.peers)) {
    Assign assign;
    assign.header.job = JobId(1);
    assign.header.chain = ChainId(1);
    assign.header.version = Version(1);
    assign.header.epoch = MembershipEpoch(1);
    assign.header.active = {{IncarnationOrder(1), Round(), Round()}};
    assign.whole = true;
    assign.ranges = {{0, 4096}};
    assign.payload = SharedBytes::take(std::vector<float>(4096));
    bench.hear(peer, assign);
  }
  constexpr std::uint64_t kLast = ~std::uint64_t{0};
  bench.hear(kCoordinator,
             LeaseGrant{JobId(1), LeaseId(1), {DataEpoch(0), kLast - 2, kLast}, MembershipEpoch(1), Round()});
  REQUIRE(bench.rounds.size() == 1);
  CHECK(bench.rounds[0].range == SampleRange{DataEpoch(0), kLast - 2, kLast});
}

TEST_CASE("a worker that was suspended goes on where its new entry says, with the lease that it holds") {
  ClientBench bench;
  bench.join();
  const auto version = [&](std::uint64_t number, std::uint64_t epoch, std::vector<MemberClock> active) {
    Assign assign;
    assign.header.job = JobId(1);
    assign.header.chain = ChainId(9);
    assign.header.version = Version(number);
    assign.header.epoch = MembershipEpoch(epoch);
    assign.header.active = std::move(active);
    assign.whole = true;
    assign.ranges = {{0, 4096}};
    assign.payload = SharedBytes::take(std::vector<float>(4096));
    for (const PeerId shard : bench.peers) bench.hear(shard, assign);
  };
  const IncarnationOrder own(1), other(2);
  version(0, 1, {{own, Round(0), Round(0)}, {other, Round(0), Round(0)}});
  bench.hear(kCoordinator,
             LeaseGrant{JobId(1), LeaseId(1), {DataEpoch(0), 0, 100}, MembershipEpoch(1), Round(0)});
  REQUIRE(bench.rounds.size() == 1);
  CHECK(bench.rounds[0].round == Round(0));
  version(1, 2, {{other, Round(0), Round(40)}});                               // suspended
  version(2, 3, {{own, Round(50), Round(50)}, {other, Round(0), Round(50)}});  // and back
  bench.finish_round();
  REQUIRE(bench.rounds.size() == 2);
  CHECK(bench.rounds[1].round == Round(50));
  CHECK(bench.rounds[1].range.begin == 10);
  bench.finish_round();
  REQUIRE(bench.rounds.size() == 3);  // the bound is 1
  CHECK(bench.rounds[2].round == Round(51));
  bench.finish_round();
  CHECK(bench.rounds.size() == 3);
}
