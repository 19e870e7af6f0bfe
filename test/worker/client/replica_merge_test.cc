// Goal: the replica merges and never overwrites, and counts each verdict once. Method: replicas fed by hand,
// with dyadic values so that sums are exact, and codecs that leave a residual.
#include <cmath>

#include "common/base/random.h"
#include "test/worker/client/replica_bench.h"

using namespace nanduti;

namespace {

/// Dense or sparse, as it happens. A payload begins with a flag and, where sparse, has (index, value) pairs.
class RandomCodec final : public Codec {
 public:
  explicit RandomCodec(RandomStream& random) : random_(random) {}
  [[nodiscard]] Coding coding() const override { return Coding::kDenseFloat32; }
  [[nodiscard]] EncodedUpdate encode(std::span<float> residual, std::span<const float> progress,
                                     const CodingContext&) const override {
    for (std::size_t i = 0; i < progress.size(); ++i) residual[i] += progress[i];
    std::vector<float> words{random_.below(2) == 0 ? 1.0f : 0.0f};
    for (std::size_t i = 0; i < residual.size(); ++i) {
      if (words[0] == 0.0f && random_.below(6) != 0) continue;
      if (words[0] == 0.0f) words.push_back(static_cast<float>(i));
      words.push_back(std::exchange(residual[i], 0.0f));
    }
    SharedBytes payload = SharedBytes::take(std::move(words));
    Update update = *decode(payload, residual.size());
    return {std::move(payload), std::move(update)};
  }
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override {
    const auto* words = reinterpret_cast<const float*>(payload.data());
    const std::size_t count = payload.size() / sizeof(float);
    struct Owner {
      std::vector<std::uint32_t> indices;
      std::vector<float> values;
    };
    auto owner = std::make_shared<Owner>();
    const bool dense = words[0] == 1.0f;
    for (std::size_t at = 1; at < count; ++at) {
      if (!dense) owner->indices.push_back(static_cast<std::uint32_t>(words[at++]));
      owner->values.push_back(words[at]);
    }
    return Update{size, dense, owner->indices, owner->values, owner};
  }

 private:
  RandomStream& random_;
};

}  // namespace

TEST_CASE(
    "a worker that does not see its own work computes on the shadow less its residual, until a version has "
    "it") {
  Bench bench(8, false, std::make_shared<FirstOnlyCodec>(), 64, {0, 0.5f});
  assign_all(bench, 1.0f, {0, 0});
  CHECK(bench.run_round(0.5f) == all_of(1.0f));
  // Half of what was not sent; nothing of what is in flight.
  std::vector<float> x = bench.run_round(0.25f);
  CHECK(x == std::vector<float>{1, 0.75f, 0.75f, 0.75f, 1, 0.75f, 0.75f, 0.75f});
  // Nor of what is not coded.
  bench.offer();
  bench.offer();
  bench.finish(0.5f);
  REQUIRE(bench.computing);
  CHECK(bench.computing->buffers->parameters[0] == 1.0f);
  bench.finish(0.0f);
  bench.code();
  // The first push has settled: what the shadow has of it is all that is seen of it.
  publish(bench, 0, header(1, 1, {1, 1}, 1), -0.25f);
  x = bench.run_round(0.0f);
  CHECK(x[0] == 0.75f);
  CHECK(x[kSize / 2] == 1.0f);
}

TEST_CASE("a worker sees its own work at once, at full weight, and hands it over without counting it twice") {
  Bench bench(8);
  assign_all(bench, 4.0f, {0, 0});
  CHECK(bench.run_round(0.5f) == all_of(4.0f));
  CHECK(bench.run_round(0.0f) == all_of(3.5f));
  // The shard has applied half of it (two workers) and says so.
  for (std::uint32_t k = 0; k < 2; ++k) publish(bench, k, header(1, 1, {1, 0}, 1), -0.25f);
  CHECK(bench.run_round(0.0f) == all_of(3.75f));
}

TEST_CASE("a merge keeps what is in flight and in the residual") {
  Bench bench(8, false, std::make_shared<FirstOnlyCodec>(), 64, {1, 0.5f});
  assign_all(bench, 4.0f, {0, 0});
  bench.run_round(0.5f);  // coordinate 0 of each shard in flight, the rest in the residual at rho = 1/2
  for (std::uint32_t k = 0; k < 2; ++k) publish(bench, k, header(1, 1, {0, 1}), 1.0f);
  CHECK(bench.run_round(0) == std::vector<float>{4.5f, 4.75f, 4.75f, 4.75f, 4.5f, 4.75f, 4.75f, 4.75f});
}

TEST_CASE("refused mass returns to the residual once, whichever message says it first and however often") {
  const auto mass_back = [](bool ack_first) {
    Bench bench(8);
    assign_all(bench, 0.0f, {0});
    bench.run_round(0.5f);
    const Replica::TakeAck ack{ShardIndex(0), Sequence(1), {{Sequence(0), 0}}};
    if (ack_first) bench.tell(ack);
    publish(bench, 0, header(1, 1, {1}, 1, {{Sequence(0), 0}}), 0);
    bench.tell(ack);
    publish(bench, 0, header(2, 1, {1}, 1, {{Sequence(0), 0}}), 0);
    CHECK(bench.replica.shard(ShardIndex(0)).in_flight().empty());
    int returned = 0;
    for (const Replica::Verdicts& verdicts : bench.all<Replica::Verdicts>()) returned += verdicts.returned;
    CHECK(returned == 1);
    const auto residual = host_values(bench.replica.shard(ShardIndex(0))).residual();
    return std::vector<float>(residual.begin(), residual.end());
  };
  CHECK(mass_back(true) == std::vector<float>(kSize / 2, 0.5f));
  CHECK(mass_back(false) == std::vector<float>(kSize / 2, 0.5f));
}

TEST_CASE(
    "what a shard does not apply of a push returns once, and the push is in flight with the rest until it is "
    "merged") {
  for (const bool ack_first : {true, false}) {
    Bench bench(8);
    assign_all(bench, 0.0f, {0, 0});
    bench.run_round(0.5f);
    const std::vector<float> before = bench.run_round(0.25f);
    const ShardReplica& state = bench.replica.shard(ShardIndex(0));
    const Replica::TakeAck ack{ShardIndex(0), Sequence(1), {{Sequence(0), 64}}};
    if (ack_first) {
      bench.tell(ack);
      bench.tell(ack);
      REQUIRE(state.in_flight().size() == 2);
      CHECK(state.in_flight()[0].weighed);
      CHECK(host_values(state).in_flight()[0].values[3] == 0.125f);
      CHECK(host_values(state).residual()[3] == 0.375f);
      // All of it is still part of x, as before.
      const std::vector<float> x = bench.run_round(0);
      CHECK(x[3] == -0.75f);
    }
    publish(bench, 0, header(1, 1, {1, 1}, 1, {{Sequence(0), 64}}), 0);
    bench.tell(ack);
    CHECK(state.in_flight().front().sequence == Sequence(1));
    CHECK(host_values(state).residual()[3] ==
          (ack_first ? 0.0f : 0.375f));  // the round after has taken it along
    int returned = 0;
    for (const Replica::Verdicts& verdicts : bench.all<Replica::Verdicts>()) returned += verdicts.returned;
    CHECK(returned == 1);
  }
}

TEST_CASE("buffers of a round begin as zeros: gaps between tensors, which nobody computes, stay so") {
  HostMemory memory;
  const auto buffers = memory.make_buffers(100);
  CHECK(vector_of(buffers->parameters) == std::vector<float>(100, 0.0f));
  CHECK(vector_of(buffers->progress) == std::vector<float>(100, 0.0f));
}

TEST_CASE("pushes are part of x until a version says that they are settled") {
  Bench bench(8);
  assign_all(bench, 0.0f, {0});
  for (std::uint64_t r = 0; r < 4; ++r) bench.run_round(1.0f);
  const auto& held = bench.replica.shard(ShardIndex(1)).in_flight();
  REQUIRE(held.size() == 4);
  CHECK(bench.replica.shard(ShardIndex(1)).in_flight_bytes() == 8 * kSize / 2 * sizeof(float));
  bench.tell(Replica::TakeAck{ShardIndex(1), Sequence(2), {}});
  REQUIRE(held.size() == 4);
  CHECK(held[1].acknowledged);
  CHECK_FALSE(held[2].acknowledged);
  CHECK(bench.replica.shard(ShardIndex(1)).in_flight_bytes() == 6 * kSize / 2 * sizeof(float));
  publish(bench, 1, header(1, 1, {2}, 2), -2.0f);
  CHECK(held.size() == 2);
  CHECK(bench.all<Replica::Verdicts>().back().settled == Sequence(2));
}

TEST_CASE("versions that do not follow each other are errors and change nothing") {
  Bench bench(0);
  CHECK_FALSE(bench.arrives(0, Publish{header(1, 1, {0}), 1, constant(1)}).empty());
  assign_all(bench, 2.0f, {0});
  CHECK(bench.arrives(0, Publish{header(2, 1, {0}), 1, constant(1)}) ==
        "version 2 of chain 9 does not follow version 0 of chain 9");
  CHECK(bench.all<Replica::MergeFailed>().back().chain == ChainId(9));
  CHECK(bench.all<Replica::MergeFailed>().back().version == Version(0));
  CHECK_FALSE(bench.arrives(0, Publish{header(1, 1, {0}), 7, constant(1)}).empty());
  CHECK_FALSE(bench.arrives(0, Assign{header(3, 1, {0}), Version(2), false, {}, SharedBytes()}).empty());
  CHECK_FALSE(
      bench
          .arrives(
              0,
              Assign{
                  header(3, 1, {0}), Version(0), false, {{2, 5}}, SharedBytes::take(std::vector<float>(3))})
          .empty());
  CHECK(bench.run_round(0) == all_of(2.0f));
}

TEST_CASE("a deterministic replica takes an assignment that leaps over the version that is due") {
  Bench bench(2, true);
  assign_all(bench, 1.0f, {0, 0});
  for (std::uint32_t k = 0; k < 2; ++k)
    REQUIRE(
        bench.arrives(k, Assign{header(3, 1, {3, 3}), Version(0), false, {{0, kSize / 2}}, constant(4.0f)})
            .empty());
  for (int round = 0; round < 3; ++round) CHECK(bench.run_round(0) == all_of(1.0f));
  CHECK(bench.run_round(0) == all_of(4.0f));  // version 1 is due
}

TEST_CASE("what cannot be merged later is refused when it arrives") {
  Bench bench(2, true);
  assign_all(bench, 1.0f, {0, 0});
  CHECK_FALSE(bench.arrives(0, Publish{header(2, 1, {2, 2}), 1, constant(0.5f)}).empty());
  CHECK_FALSE(bench.arrives(0, Publish{header(1, 1, {1, 1}), 9, constant(0.5f)}).empty());
  CHECK_FALSE(
      bench.arrives(0, Publish{header(1, 1, {1, 1}), 1, SharedBytes::take(std::vector<char>(3))}).empty());
  CHECK(bench.arrives(0, Publish{header(1, 1, {1, 1}), 1, constant(0.5f)}).empty());
}

TEST_CASE("a flush leaves no residual, whatever the codec") {
  Bench bench(0, false, std::make_shared<FirstOnlyCodec>());
  assign_all(bench, 1.0f, {0});
  bench.run_round(0.5f);
  bench.tell(Replica::Flush());
  auto flushed = bench.all<Replica::Flushed>();
  REQUIRE(flushed.size() == 1);
  CHECK(flushed[0].complete);
  REQUIRE(flushed[0].pushes.size() == 2);
  CHECK(flushed[0].pushes[0].lease == LeaseId());
  for (const float value : host_values(bench.replica.shard(ShardIndex(0))).residual()) CHECK(value == 0.0f);
  // There is nothing left to flush; in step with others an empty one counts too, as long as there is a step.
  bench.tell(Replica::Flush{true});
  CHECK(bench.all<Replica::Flushed>().back().pushes.empty());
  Bench in_step(0, true);
  assign_all(in_step, 1.0f, {0, 0});
  in_step.tell(Replica::Flush{true});
  CHECK(in_step.all<Replica::Flushed>().back().pushes.size() == 2);
}

TEST_CASE("a deterministic replica refuses on arrival what it could not merge when its round is due") {
  Bench bench(0, true);
  assign_all(bench, 4.0f, {0, 0});
  const auto arrives = [&](Version from, bool whole, std::vector<AssignedRange> ranges, std::size_t values) {
    return bench
        .arrives(0, Assign{header(1, 1, {1, 1}), from, whole, std::move(ranges),
                           SharedBytes::take(std::vector<float>(values, 1.0f))})
        .empty();
  };
  CHECK_FALSE(arrives(Version(), false, {{0, kSize}}, kSize));  // beyond the shard
  CHECK_FALSE(arrives(Version(), false, {{0, 2}}, 3));          // more values than ranges
  CHECK_FALSE(arrives(Version(), true, {{0, 2}}, 2));           // not whole
  CHECK_FALSE(arrives(Version(1), false, {{0, 2}}, 2));         // from a version that is not here
  CHECK(arrives(Version(), false, {{0, 2}}, 2));
  REQUIRE(bench.arrives(1, Publish{header(1, 1, {1, 1}), 1, {}}).empty());
  bench.run_round(0);
  CHECK(bench.run_round(0)[0] == 1.0f);
}

TEST_CASE(
    "x is what summing from scratch gives, bit for bit, whatever is dense, sparse, settled or refused") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    RandomStream random(seed);
    constexpr std::uint64_t kValues = 40;
    const auto floats = [&] {
      std::vector<float> values(kValues);
      for (float& value : values) value = static_cast<float>(random.uniform(-1, 1));
      return values;
    };
    ShardReplica state = host_replica(kValues, kOwn);
    RandomCodec codec(random);
    VersionHeader h = header(0, 1, {0, 0});
    REQUIRE(state.merge(Assign{h, Version(), true, {{0, kValues}}, SharedBytes::take(floats())}).ok());
    std::uint64_t settled = 0;
    for (int step = 0; step < 60; ++step) {
      const std::uint64_t sent = state.next_sequence().value();
      if (random.below(2) == 0) {
        (void)state.push(floats(), codec, {});
      } else if (random.below(4) == 0 && settled < sent) {
        const Sequence sequence(settled + random.below(sent - settled));
        const auto applied_parts = static_cast<std::uint16_t>(random.below(2) * random.below(kAppliedWhole));
        state.acknowledge(Sequence(settled), std::vector<ReturnedPush>{{sequence, applied_parts}});
      } else {
        settled += random.below(sent - settled + 1);
        h.version = h.version.next();
        h.verdicts = {{kOwn, Sequence(settled), {}}};
        if (random.below(4) == 0) {
          const std::uint64_t begin = random.below(kValues - 8);
          REQUIRE(state
                      .merge(Assign{h,
                                    state.merged().version,
                                    false,
                                    {{begin, begin + 8}},
                                    SharedBytes::take(std::vector<float>(8, 0.3f))})
                      .ok());
        } else {
          std::vector<float> change = floats();
          REQUIRE(state.merge(Publish{h, 1, codec.encode(change, {}, {}).payload}, codec).ok());
        }
      }
      const std::vector<float> pending = floats();
      std::vector<float> x(kValues), scratch = vector_of(host_values(state).shadow());
      state.compute_parameters(x, pending, {1, 0.25f});
      for (const Update& update : host_values(state).in_flight()) {
        for (std::size_t k = 0; k < update.values.size(); ++k)
          scratch[update.dense ? k : update.indices[k]] -= update.values[k];
      }
      for (std::size_t i = 0; i < kValues; ++i)
        scratch[i] = (scratch[i] - pending[i]) - 0.25f * host_values(state).residual()[i];
      REQUIRE(x == scratch);
    }
  }
}

TEST_CASE("own work and the residual count in x at the weights that the job gives them") {
  Bench bench(8, false, std::make_shared<FirstOnlyCodec>(), 64, {0.5f, 0.25f});
  assign_all(bench, 4.0f, {0, 0});
  bench.run_round(0.5f);  // coordinate 0 of each shard is in flight, the rest in the residual
  CHECK(bench.replica.residual_norm() == Approx(std::sqrt(6 * 0.25)));
  bench.offer();
  REQUIRE(bench.computing);
  CHECK(bench.computing->buffers->parameters[0] == 4.0f - 0.5f * 0.5f);
  CHECK(bench.computing->buffers->parameters[1] == 4.0f - 0.25f * 0.5f);
  bench.offer();
  bench.finish(1.0f);  // and is not coded
  REQUIRE(bench.computing);
  CHECK(bench.computing->buffers->parameters[0] == 4.0f - 0.5f * (0.5f + 1.0f));
  CHECK(bench.computing->buffers->parameters[1] == 4.0f - 0.5f * 1.0f - 0.25f * 0.5f);
}

TEST_CASE(
    "a flush names the membership of the rounds that its residual is of, unless that has been refused") {
  Bench bench(std::nullopt, false, std::make_shared<FirstOnlyCodec>());
  assign_all(bench, 1.0f, {0, 0, 0});
  bench.run_round(0.5f);
  // The others have left: this one's last round is in a membership of its own.
  for (std::uint32_t k = 0; k < 2; ++k)
    REQUIRE(bench.arrives(k, Publish{header(1, 2, {1}), 1, constant(0)}).empty());
  bench.run_round(0.5f);
  CHECK(bench.pushes[0].epoch == MembershipEpoch(2));
  bench.tell(Replica::Flush{});
  for (const Push& push : bench.pushes) CHECK(push.epoch == MembershipEpoch(1));
  // Too old for the shards: its mass returns, and goes again.
  bench.tell(Replica::TakeAck{ShardIndex(0), Sequence(3), {{Sequence(2), 0}}});
  bench.tell(Replica::Flush{});
  CHECK(bench.pushes[0].epoch == MembershipEpoch(2));
}

TEST_CASE("long after the others have left, a flush names the membership that is") {
  Bench bench(std::nullopt, false, std::make_shared<FirstOnlyCodec>(), 1000);
  assign_all(bench, 1.0f, {0, 0, 0});
  bench.run_round(0.5f);
  for (std::uint32_t k = 0; k < 2; ++k)
    REQUIRE(bench.arrives(k, Publish{header(1, 2, {1}), 1, constant(0)}).empty());
  for (int round = 0; round < 70; ++round) bench.run_round(0.5f);
  bench.tell(Replica::Flush{});
  CHECK(bench.pushes[0].epoch == MembershipEpoch(2));
}

TEST_CASE("a round is told when others' work has been merged for it, and its own is not others'") {
  Bench bench(8);
  assign_all(bench, 0.0f, {0, 0});
  const auto merged = [&](const std::vector<Verdict>& verdicts, std::uint64_t version) {
    for (std::uint32_t k = 0; k < 2; ++k) {
      VersionHeader h = header(version, 1, {0, 0});
      h.verdicts = verdicts;
      publish(bench, k, h, 1.0f);
    }
    bench.offer();
    REQUIRE(bench.computing);
    const bool told = bench.computing->merged;
    bench.finish(0.5f);
    bench.code();
    return told;
  };
  const IncarnationOrder other(2);
  CHECK_FALSE(merged({{kOwn, Sequence(0), {}}, {other, Sequence(0), {}}}, 1));
  CHECK_FALSE(merged({{kOwn, Sequence(1), {}}, {other, Sequence(0), {}}}, 2));
  CHECK(merged({{kOwn, Sequence(1), {}}, {other, Sequence(1), {}}}, 3));
  CHECK_FALSE(merged({{kOwn, Sequence(2), {}}, {other, Sequence(1), {}}}, 4));
  CHECK(merged({{IncarnationOrder(3), Sequence(1), {}}}, 5));
}
