// Goal: the replica gates as promise P1 says and begins, codes and withdraws rounds as it should. Method:
// replicas fed by hand, with dyadic values so that sums are exact, and a codec that leaves a residual.
#include "common/codec/block_codec.h"
#include "test/worker/client/replica_bench.h"

using namespace nanduti;

TEST_CASE("a worker that does not see its own work waits for it at the gate, though it is alone") {
  Bench bench(2, false, std::make_shared<DenseFloat32Codec>(), 64, {0, 1});
  assign_all(bench, 1.0f, {0});
  for (int round = 0; round < 3; ++round) bench.run_round(0.25f);
  bench.offer();
  CHECK_FALSE(bench.computing);
  CHECK(bench.replica.gate(Round(3), MembershipEpoch(1)) == Replica::Gate::kStaleness);
  publish(bench, 0, header(1, 1, {1}, 1), -0.25f);
  CHECK_FALSE(bench.computing);
  publish(bench, 1, header(1, 1, {1}, 1), -0.25f);
  CHECK(bench.computing);
}

TEST_CASE("a replica that has made the initial values begins with them, on the chain that it is told of") {
  ReplicaOptions options = Bench::options(2, false, std::make_shared<DenseFloat32Codec>(), 64, {});
  options.initial_values =
      std::make_shared<const std::vector<float>>(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8});
  Bench bench(options);
  bench.offer();
  CHECK_FALSE(bench.computing);  // of no chain yet
  CHECK(bench.replica.waits_at() == Replica::Gate::kNoParameters);
  Assign later = nothing_since(header(2, 1, {0}));
  later.from_version = Version(1);
  CHECK_FALSE(bench.arrives(0, later).empty());
  REQUIRE(bench.arrives(0, nothing_since(header(0, 1, {0}))).empty());
  Assign changed = nothing_since(header(3, 1, {0}));
  changed.ranges = {{1, 3}};
  changed.payload = SharedBytes::take(std::vector<float>{60, 70});
  REQUIRE(bench.arrives(1, changed).empty());
  REQUIRE(bench.computing);
  CHECK(x_of(bench) == std::vector<float>{1, 2, 3, 4, 5, 60, 70, 8});
  publish(bench, 1, header(4, 1, {0}), -1);
  CHECK(host_values(bench.replica.shard(ShardIndex(1))).shadow()[0] == 4);
}

TEST_CASE("without the initial values a replica takes no difference from them") {
  Bench bench(2);
  CHECK_FALSE(bench.arrives(0, nothing_since(header(0, 1, {0}))).empty());
}

TEST_CASE("alone a worker waits for nobody, but for its window: and says which it is") {
  Bench bench(2, false, std::make_shared<DenseFloat32Codec>(), 4);
  assign_all(bench, 1.0f, {0});
  for (int round = 0; round < 4; ++round) bench.run_round(0.25f);
  bench.offer();
  CHECK_FALSE(bench.computing);
  CHECK(bench.replica.waits_at() == Replica::Gate::kWindow);
  for (std::uint32_t k = 0; k < 2; ++k) bench.tell(Replica::TakeAck{ShardIndex(k), Sequence(1), {}});
  CHECK(bench.computing);
  CHECK(bench.replica.waits_at() == Replica::Gate::kOpen);
}

TEST_CASE("the offered round begins before the one before is coded, and has it at full weight") {
  Bench bench(8, false, std::make_shared<FirstOnlyCodec>(), 64, {1, 0.5f});
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(0, 1);
  REQUIRE(bench.computing);
  CHECK(bench.all<Replica::RoundBegun>().size() == 1);
  bench.offer(1, 2);
  CHECK(bench.all<Replica::RoundBegun>().size() == 1);
  bench.finish(0.5f);
  REQUIRE(bench.computing);
  CHECK(bench.computing->round == Round(1));
  CHECK(x_of(bench) == all_of(3.5f));
  CHECK(bench.pushes.empty());
  bench.code();
  REQUIRE(bench.pushes.size() == 2);
  CHECK(bench.pushes[0].round == Round(0));
  CHECK(bench.pushes[0].range.begin == 0);
  CHECK(bench.pushes[0].sequence == Sequence(0));
  // Once it is coded, what is left in the residual counts by its share.
  bench.finish(0);
  bench.offer(2, 3);
  CHECK(x_of(bench) == std::vector<float>{3.5f, 3.75f, 3.75f, 3.75f, 3.5f, 3.75f, 3.75f, 3.75f});
}

TEST_CASE("a round that ends before the one before is coded waits for it") {
  Bench bench(8);
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(0, 1);
  bench.offer(1, 2);
  bench.finish(0.5f);
  bench.finish(0.25f);
  CHECK(bench.all<Replica::RoundCoded>().size() == 1);
  bench.code();
  REQUIRE(bench.all<Replica::RoundCoded>().size() == 2);
  CHECK(bench.all<Replica::RoundCoded>()[1].name.round == Round(1));
  CHECK(bench.run_round(0) == all_of(3.25f));
}

TEST_CASE("pushes name the versions that their round was computed from") {
  Bench bench(8);
  assign_all(bench, 4.0f, {0, 0});
  bench.offer();
  publish(bench, 1, header(1, 1, {0, 1}), 1.0f);
  bench.finish(0.5f);
  bench.code();
  CHECK(bench.pushes[0].base_version == Version(0));
  CHECK(bench.pushes[1].base_version == Version(0));
  bench.run_round(0.5f);
  CHECK(bench.pushes[0].base_version == Version(0));
  CHECK(bench.pushes[1].base_version == Version(1));
}

TEST_CASE("the gate admits a round exactly when every active worker is within the bound on every shard") {
  for (std::uint32_t bound = 0; bound < 4; ++bound) {
    Bench bench(bound);
    const Replica& replica = bench.replica;
    assign_all(bench, 0.0f, {0, 0});
    CHECK(replica.gate(Round(bound), MembershipEpoch(1)) == Replica::Gate::kOpen);
    CHECK(replica.gate(Round(bound + 1), MembershipEpoch(1)) == Replica::Gate::kStaleness);
    CHECK(replica.gate(Round(~std::uint64_t{0}), MembershipEpoch(1)) == Replica::Gate::kStaleness);
    publish(bench, 0, header(1, 1, {1, 1}), 0);
    CHECK(replica.gate(Round(bound + 1), MembershipEpoch(1)) == Replica::Gate::kStaleness);
    publish(bench, 1, header(1, 1, {1, 1}), 0);
    CHECK(replica.gate(Round(bound + 1), MembershipEpoch(1)) == Replica::Gate::kOpen);
  }
  CHECK(Bench(0).replica.gate(Round(0), MembershipEpoch(0)) == Replica::Gate::kNoParameters);
}

TEST_CASE("the offered round begins as soon as the gate opens, and the core hears of it") {
  Bench bench(1);
  assign_all(bench, 0.0f, {0, 0});
  bench.run_round(1.0f);
  bench.run_round(1.0f);
  CHECK(bench.all<Replica::GateChanged>().empty());
  bench.offer();
  CHECK_FALSE(bench.computing);
  REQUIRE(bench.all<Replica::GateChanged>().size() == 1);
  CHECK(bench.all<Replica::GateChanged>()[0].gate == Replica::Gate::kStaleness);
  publish(bench, 0, header(1, 1, {1, 1}), 0);
  CHECK_FALSE(bench.computing);
  publish(bench, 1, header(1, 1, {1, 1}), 0);
  REQUIRE(bench.computing);
  CHECK(bench.all<Replica::RoundBegun>().back().round == Round(2));
  CHECK(bench.all<Replica::RoundBegun>().back().staleness == 1);
  CHECK(bench.all<Replica::GateChanged>().size() == 1);
}

TEST_CASE("alone, a worker waits for nobody") {
  Bench bench(0);
  assign_all(bench, 0.0f, {0});
  for (int round = 0; round < 5; ++round) bench.run_round(1.0f);
  CHECK(bench.replica.gate(Round(5), MembershipEpoch(1)) == Replica::Gate::kOpen);
}

TEST_CASE("an offer that has not begun can be withdrawn") {
  Bench bench(0);
  assign_all(bench, 0.0f, {0, 0});
  bench.offer(0, 1);
  bench.offer(1, 2);
  bench.tell(Replica::WithdrawRounds());
  bench.tell(Replica::WithdrawRounds());
  const auto withdrawn = bench.all<Replica::RoundsWithdrawn>();
  REQUIRE(withdrawn.size() == 2);
  REQUIRE(withdrawn[0].offer);
  CHECK(withdrawn[0].offer->range.begin == 1);
  CHECK_FALSE(withdrawn[1].offer);
  bench.finish(1.0f);
  CHECK_FALSE(bench.computing);
}

TEST_CASE("without a bound only the window stops a worker, in rounds and in bytes") {
  Bench bench(std::nullopt, false, std::make_shared<DenseFloat32Codec>(), 3);
  const Replica& replica = bench.replica;
  assign_all(bench, 0.0f, {0, 0});
  for (std::uint64_t r = 0; r < 3; ++r) {
    REQUIRE(replica.gate(Round(r), MembershipEpoch(1)) == Replica::Gate::kOpen);
    bench.run_round(1.0f);
  }
  CHECK(replica.gate(Round(3), MembershipEpoch(1)) == Replica::Gate::kWindow);
  for (std::uint32_t k = 0; k < 2; ++k) bench.tell(Replica::TakeAck{ShardIndex(k), Sequence(1), {}});
  CHECK(replica.gate(Round(3), MembershipEpoch(1)) == Replica::Gate::kOpen);

  ReplicaOptions options = Bench::options({}, false, std::make_shared<DenseFloat32Codec>(), 64, {});
  options.shards = {{0, kSize}};
  options.window_bytes_max = 40;
  Bench narrow(std::nullopt);
  narrow.replica = Replica(options);  // a push is 32 bytes, and so is its update
  REQUIRE(narrow
              .arrives(0, Assign{header(0, 1, {0, 0}),
                                 Version(),
                                 true,
                                 {{0, kSize}},
                                 SharedBytes::take(std::vector<float>(kSize))})
              .empty());
  narrow.run_round(1.0f);
  CHECK(narrow.replica.gate(Round(1), MembershipEpoch(1)) == Replica::Gate::kOpen);
  narrow.run_round(1.0f);
  CHECK(narrow.replica.gate(Round(2), MembershipEpoch(1)) == Replica::Gate::kWindow);
  narrow.tell(Replica::TakeAck{ShardIndex(0), Sequence(1), {}});
  CHECK(narrow.replica.gate(Round(2), MembershipEpoch(1)) == Replica::Gate::kWindow);
  VersionHeader merged = header(1, 1, {0, 0}, 1);
  REQUIRE(narrow.arrives(0, Publish{merged, 1, SharedBytes::take(std::vector<float>(kSize))}).empty());
  CHECK(narrow.replica.gate(Round(2), MembershipEpoch(1)) == Replica::Gate::kOpen);
}

TEST_CASE("a newer membership on one shard counts against all shards") {
  Bench bench(0);
  const Replica& replica = bench.replica;
  assign_all(bench, 0.0f, {5});
  CHECK(replica.gate(Round(5), MembershipEpoch(1)) == Replica::Gate::kOpen);
  VersionHeader joined = header(1, 2, {5});
  joined.active.push_back({IncarnationOrder(2), Round(3), Round(4)});
  publish(bench, 0, joined, 0);
  // Shard 1 has not heard of worker 2, whose rounds begin at 3.
  CHECK(replica.gate(Round(5), MembershipEpoch(1)) == Replica::Gate::kStaleness);
  CHECK(replica.gate(Round(3), MembershipEpoch(1)) == Replica::Gate::kOpen);
  CHECK(replica.gate(Round(3), MembershipEpoch(2)) == Replica::Gate::kNotActive);
}

TEST_CASE("a deterministic replica merges through exactly the version that the gate admits") {
  Bench bench(1, true);
  assign_all(bench, 0.0f, {0, 0});
  CHECK(bench.run_round(0) == all_of(0.0f));
  CHECK(bench.run_round(0) == all_of(0.0f));
  CHECK(bench.replica.gate(Round(2), MembershipEpoch(1)) == Replica::Gate::kStaleness);
  for (std::uint64_t v = 1; v <= 3; ++v)
    for (std::uint32_t k = 0; k < 2; ++k) publish(bench, k, header(v, 1, {v, v}), 1.0f);
  CHECK(bench.run_round(0) == all_of(1.0f));
  CHECK(bench.run_round(0) == all_of(2.0f));
}

TEST_CASE("a deterministic replica codes a round before the next one begins") {
  Bench bench(1, true, std::make_shared<FirstOnlyCodec>(), 64, {1, 0.5f});
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(0, 1);
  bench.offer(1, 2);
  bench.finish(0.5f);
  CHECK(bench.pushes.size() == 2);
  REQUIRE(bench.computing);
  CHECK(x_of(bench) == std::vector<float>{3.5f, 3.75f, 3.75f, 3.75f, 3.5f, 3.75f, 3.75f, 3.75f});
}

TEST_CASE("a deterministic replica takes part in a step without samples") {
  Bench bench(0, true);
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(3, 3);
  CHECK_FALSE(bench.computing);
  REQUIRE(bench.pushes.size() == 2);
  CHECK(bench.pushes[0].range.size() == 0);
  CHECK(bench.replica.next_round() == Round(1));
}

namespace {

RoundSettings settings(std::optional<std::uint32_t> bound, std::uint64_t round_samples,
                       std::shared_ptr<const Codec> codec = std::make_shared<DenseFloat32Codec>()) {
  RoundSettings made;
  made.bound = bound;
  made.round_samples = round_samples;
  made.codecs = both_ways(std::move(codec));
  return made;
}

}  // namespace

TEST_CASE("of what is offered a round takes its part, and reports it; the last one what is left") {
  Bench bench(std::nullopt);
  bench.tell(Replica::TakeTuning{1, Round(), settings({}, 4)});
  assign_all(bench, 0.0f, {0, 0});
  bench.offer(0, 10);
  for (int round = 0; round < 3; ++round) bench.finish(0);
  CHECK_FALSE(bench.computing);
  CHECK_FALSE(bench.replica.offered());
  const auto begun = bench.all<Replica::RoundBegun>();
  REQUIRE(begun.size() == 3);
  CHECK(begun[0].range.begin == 0);
  CHECK(begun[1].range.begin == 4);
  CHECK(begun[2].range.begin == 8);
  CHECK(begun[2].range.end == 10);
}

TEST_CASE("a tuning holds from its round on, or from the next one, and a later one replaces it") {
  Bench bench(0);
  bench.tell(Replica::TakeTuning{1, Round(2), settings(5, 1)});
  CHECK(bench.all<Replica::TuningTaken>()[0].from_round == Round(2));
  assign_all(bench, 0.0f, {0, 0});
  const Replica& replica = bench.replica;
  CHECK(replica.gate(Round(1), MembershipEpoch(1)) == Replica::Gate::kStaleness);
  CHECK(replica.gate(Round(2), MembershipEpoch(1)) == Replica::Gate::kOpen);
  CHECK(replica.gate(Round(5), MembershipEpoch(1)) == Replica::Gate::kOpen);
  CHECK(replica.gate(Round(6), MembershipEpoch(1)) == Replica::Gate::kStaleness);
  bench.tell(Replica::TakeTuning{2, Round(4), settings(1, 1)});
  CHECK(replica.gate(Round(3), MembershipEpoch(1)) == Replica::Gate::kOpen);
  CHECK(replica.gate(Round(4), MembershipEpoch(1)) == Replica::Gate::kStaleness);
  bench.tell(Replica::TakeTuning{3, Round(0), settings(7, 1)});
  CHECK(bench.all<Replica::TuningTaken>()[2].from_round == Round(0));
  CHECK(replica.gate(Round(7), MembershipEpoch(1)) == Replica::Gate::kOpen);
  bench.run_round(0);
  bench.tell(Replica::TakeTuning{4, Round(0), settings(7, 1)});
  CHECK(bench.all<Replica::TuningTaken>()[3].from_round == Round(1));
}

TEST_CASE("a tuning may open the gate that a round waits at") {
  Bench bench(0);
  assign_all(bench, 0.0f, {0, 0});
  bench.run_round(0);
  bench.offer();
  CHECK_FALSE(bench.computing);
  bench.tell(Replica::TakeTuning{1, Round(1), settings(1, 1)});
  CHECK(bench.computing);
}

TEST_CASE("a round is coded as it was when it began, and versions in any coding that exists are merged") {
  Bench bench(std::nullopt, false, std::make_shared<FirstOnlyCodec>());
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(0, 1);
  bench.tell(
      Replica::TakeTuning{1, Round(1), settings({}, 1, std::make_shared<BlockCodec>(BlockCodecOptions()))});
  bench.offer(1, 2);
  bench.finish(0.5f);
  bench.code();
  REQUIRE(bench.pushes.size() == 2);
  CHECK(bench.pushes[0].coding == static_cast<std::uint8_t>(Coding::kDenseFloat32));
  bench.finish(0.5f);
  bench.code();
  CHECK(bench.pushes[0].coding == static_cast<std::uint8_t>(Coding::kBlocks));
  std::vector<float> change(kSize / 2, 1.0f);
  const EncodedUpdate blocks = BlockCodec(BlockCodecOptions()).encode(change, {}, {});
  CHECK(bench
            .arrives(
                0, Publish{header(1, 1, {1, 1}), static_cast<std::uint8_t>(Coding::kBlocks), blocks.payload})
            .empty());
  CHECK(bench.arrives(0, Publish{header(2, 1, {1, 1}), 77, blocks.payload}) ==
        "a payload in coding 77, which does not exist");
}

TEST_CASE("at the bound a round goes on, up to its maximum, and its push has all of it") {
  Bench bench(0);
  RoundSettings accumulating = settings(0, 2);
  accumulating.accumulate_rounds_max = 3;
  bench.tell(Replica::TakeTuning{1, Round(), accumulating});
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(0, 100);
  bench.finish(0.5f);
  REQUIRE(bench.computing);
  CHECK(bench.computing->extends);
  CHECK(bench.computing->round == Round(0));
  CHECK(bench.computing->range.begin == 2);
  CHECK(x_of(bench) == all_of(3.5f));
  // What comes meanwhile is merged under what the round has done so far.
  for (std::uint32_t k = 0; k < 2; ++k) publish(bench, k, header(1, 1, {0, 0}), 1.0f);
  bench.finish(0.25f);
  REQUIRE(bench.computing);
  CHECK(x_of(bench) == all_of(4.25f));
  CHECK(bench.pushes.empty());
  bench.finish(0.125f);
  CHECK_FALSE(bench.computing);  // three times its length
  bench.code();
  REQUIRE(bench.pushes.size() == 2);
  CHECK(bench.pushes[0].round == Round(0));
  CHECK(bench.pushes[0].range.begin == 0);
  CHECK(bench.pushes[0].range.end == 6);
  CHECK(bench.pushes[0].base_version == Version(0));
  CHECK(bench.replica.next_round() == Round(1));
  const auto coded = bench.all<Replica::RoundCoded>();
  CHECK(coded.back().pushes[0].payload.size() == kSize / 2 * sizeof(float));
  // The gate opens: the next round begins where this one ended, and none goes on at an open gate.
  for (std::uint32_t k = 0; k < 2; ++k) publish(bench, k, header(2, 1, {1, 1}, 1), 0.0f);
  REQUIRE(bench.computing);
  CHECK_FALSE(bench.computing->extends);
  CHECK(bench.computing->range.begin == 6);
  CHECK(bench.computing->round == Round(1));
  for (std::uint32_t k = 0; k < 2; ++k) publish(bench, k, header(3, 1, {2, 2}, 1), 0.0f);
  bench.finish(0);
  REQUIRE(bench.computing);
  CHECK(bench.computing->round == Round(2));
}

TEST_CASE("a round does not go on into another lease") {
  Bench bench(0);
  RoundSettings accumulating = settings(0, 2);
  accumulating.accumulate_rounds_max = 3;
  bench.tell(Replica::TakeTuning{1, Round(), accumulating});
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(0, 2);
  bench.tell(Replica::OfferRounds{LeaseId(2), {DataEpoch(0), 2, 50}, MembershipEpoch(1), Round()});
  bench.finish(0.5f);
  CHECK_FALSE(bench.computing);
  bench.code();
  CHECK(bench.pushes.size() == 2);
}
