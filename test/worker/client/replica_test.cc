// Goal: the replica merges and never overwrites, gates as promise P1 says, counts each verdict once.
// Method: replicas fed by hand, with dyadic values so that sums are exact, and a codec that leaves a
// residual.
#include "worker/client/replica.h"

#include "test/support/catch.h"

using namespace nanduti;

namespace {

constexpr std::uint64_t kSize = 8;
constexpr JobId kJob{1};
constexpr IncarnationOrder kOwn{1};

/// Sends coordinate 0 only: everything else stays in the residual.
class FirstOnlyCodec final : public Codec {
 public:
  [[nodiscard]] Coding coding() const override { return Coding::kDenseFloat32; }
  [[nodiscard]] EncodedUpdate encode(std::span<const float> values, const CodecKey& key) const override {
    std::vector<float> first(values.size(), 0.0f);
    first[0] = values[0];
    return dense_.encode(first, key);
  }
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override {
    return dense_.decode(payload, size);
  }

 private:
  DenseFloat32Codec dense_;
};

Replica make(std::optional<std::uint32_t> bound, bool deterministic = false,
             std::shared_ptr<const Codec> codec = std::make_shared<DenseFloat32Codec>(),
             std::uint32_t window = 64) {
  return Replica({{{0, kSize / 2}, {kSize / 2, kSize}},
                  kOwn,
                  bound,
                  deterministic,
                  window,
                  std::size_t{256} << 20,
                  std::move(codec),
                  1});
}

SharedBytes constant(float value) { return SharedBytes::take(std::vector<float>(kSize / 2, value)); }

VersionHeader header(std::uint64_t version, std::uint64_t epoch, std::vector<std::uint64_t> clocks,
                     std::uint64_t settled = 0, std::vector<Sequence> refused = {}) {
  VersionHeader h;
  h.job = kJob;
  h.chain = ChainId(9);
  h.version = Version(version);
  h.epoch = MembershipEpoch(epoch);
  for (std::size_t i = 0; i < clocks.size(); ++i)
    h.active.push_back({IncarnationOrder(i + 1), Round(0), Round(clocks[i])});
  h.verdicts = {{kOwn, Sequence(settled), std::move(refused)}};
  return h;
}

void assign_all(Replica& replica, float value, std::vector<std::uint64_t> clocks) {
  for (std::uint32_t k = 0; k < 2; ++k)
    REQUIRE(replica
                .on_version(ShardIndex(k),
                            Assign{header(0, 1, clocks), Version(), true, {{0, kSize / 2}}, constant(value)})
                .ok());
}

void publish(Replica& replica, std::uint32_t shard, const VersionHeader& h, float change) {
  REQUIRE(replica.on_version(ShardIndex(shard), Publish{h, 1, constant(change)}).ok());
}

std::vector<Push> run_round(Replica& replica, std::uint64_t round, float progress) {
  (void)replica.begin_round(Round(round));
  return replica.finish_round({kJob, Round(round), LeaseId(1), {DataEpoch(0), round, round + 1}},
                              std::vector<float>(kSize, progress));
}

}  // namespace

TEST_CASE("a worker sees its own work at once, at full weight, and hands it over without counting it twice") {
  Replica replica = make(8);
  assign_all(replica, 4.0f, {0, 0});
  run_round(replica, 0, 0.5f);
  CHECK(replica.begin_round(Round(1)) == std::vector<float>(kSize, 3.5f));
  // The shard has applied half of it (two workers) and says so.
  for (std::uint32_t k = 0; k < 2; ++k) publish(replica, k, header(1, 1, {1, 0}, 1), -0.25f);
  CHECK(replica.begin_round(Round(1)) == std::vector<float>(kSize, 3.75f));
}

TEST_CASE("a merge keeps what is in flight and in the residual") {
  Replica replica = make(8, false, std::make_shared<FirstOnlyCodec>());
  assign_all(replica, 4.0f, {0, 0});
  run_round(replica, 0, 0.5f);  // coordinate 0 of each shard in flight, the rest in the residual at rho = 1/2
  for (std::uint32_t k = 0; k < 2; ++k) publish(replica, k, header(1, 1, {0, 1}), 1.0f);
  CHECK(replica.begin_round(Round(1)) ==
        std::vector<float>{4.5f, 4.75f, 4.75f, 4.75f, 4.5f, 4.75f, 4.75f, 4.75f});
  CHECK(replica.has_residual());
}

TEST_CASE("the gate admits a round exactly when every active worker is within the bound on every shard") {
  for (std::uint32_t bound = 0; bound < 4; ++bound) {
    Replica replica = make(bound);
    assign_all(replica, 0.0f, {0, 0});
    CHECK(replica.gate(Round(bound), MembershipEpoch(1)) == Replica::Gate::kOpen);
    CHECK(replica.gate(Round(bound + 1), MembershipEpoch(1)) == Replica::Gate::kStaleness);
    publish(replica, 0, header(1, 1, {1, 1}), 0);
    CHECK(replica.gate(Round(bound + 1), MembershipEpoch(1)) == Replica::Gate::kStaleness);
    publish(replica, 1, header(1, 1, {1, 1}), 0);
    CHECK(replica.gate(Round(bound + 1), MembershipEpoch(1)) == Replica::Gate::kOpen);
    CHECK(replica.staleness(Round(bound + 1)) == bound);
  }
  CHECK(make(0).gate(Round(0), MembershipEpoch(0)) == Replica::Gate::kNoParameters);
}

TEST_CASE("without a bound only the window stops a worker") {
  Replica replica = make(std::nullopt, false, std::make_shared<DenseFloat32Codec>(), 3);
  assign_all(replica, 0.0f, {0, 0});
  for (std::uint64_t r = 0; r < 3; ++r) {
    REQUIRE(replica.gate(Round(r), MembershipEpoch(1)) == Replica::Gate::kOpen);
    run_round(replica, r, 1.0f);
  }
  CHECK(replica.gate(Round(3), MembershipEpoch(1)) == Replica::Gate::kWindow);
  for (std::uint32_t k = 0; k < 2; ++k)
    replica.on_ack(ShardIndex(k), {kJob, AckLevel::kDurableHere, Sequence(1), {}});
  CHECK(replica.gate(Round(3), MembershipEpoch(1)) == Replica::Gate::kOpen);
}

TEST_CASE("a newer membership on one shard counts against all shards") {
  Replica replica = make(0);
  assign_all(replica, 0.0f, {5});
  CHECK(replica.gate(Round(5), MembershipEpoch(1)) == Replica::Gate::kOpen);
  VersionHeader joined = header(1, 2, {5});
  joined.active.push_back({IncarnationOrder(2), Round(3), Round(4)});
  publish(replica, 0, joined, 0);
  // Shard 1 has not heard of worker 2, whose rounds begin at 3.
  CHECK(replica.gate(Round(5), MembershipEpoch(1)) == Replica::Gate::kStaleness);
  CHECK(replica.gate(Round(3), MembershipEpoch(1)) == Replica::Gate::kOpen);
  CHECK(replica.gate(Round(3), MembershipEpoch(2)) == Replica::Gate::kNotActive);
}

TEST_CASE("refused mass returns to the residual once, whichever message says it first and however often") {
  const auto mass_back = [](bool ack_first) {
    Replica replica = make(8);
    assign_all(replica, 0.0f, {0});
    run_round(replica, 0, 0.5f);
    const PushAck ack{kJob, AckLevel::kDurableHere, Sequence(1), {Sequence(0)}};
    if (ack_first) replica.on_ack(ShardIndex(0), ack);
    publish(replica, 0, header(1, 1, {1}, 1, {Sequence(0)}), 0);
    replica.on_ack(ShardIndex(0), ack);
    publish(replica, 0, header(2, 1, {1}, 1, {Sequence(0)}), 0);
    CHECK(replica.shard(ShardIndex(0)).in_flight().empty());
    return std::vector<float>(replica.shard(ShardIndex(0)).residual().begin(),
                              replica.shard(ShardIndex(0)).residual().end());
  };
  CHECK(mass_back(true) == std::vector<float>(kSize / 2, 0.5f));
  CHECK(mass_back(false) == std::vector<float>(kSize / 2, 0.5f));
}

TEST_CASE("pushes are held until they are acknowledged") {
  Replica replica = make(8);
  assign_all(replica, 0.0f, {0});
  for (std::uint64_t r = 0; r < 4; ++r) run_round(replica, r, 1.0f);
  const auto& held = replica.shard(ShardIndex(1)).in_flight();
  REQUIRE(held.size() == 4);
  replica.on_ack(ShardIndex(1), {kJob, AckLevel::kDurableHere, Sequence(2), {}});
  REQUIRE(held.size() == 4);  // as part of x
  CHECK(held[1].acknowledged);
  CHECK(held[1].push.payload.empty());
  CHECK_FALSE(held[2].acknowledged);
  CHECK(held[2].push.sequence == Sequence(2));
  CHECK(held[2].push.payload.size() == kSize / 2 * sizeof(float));
  CHECK(held[2].push.range.begin == 2);
  CHECK_FALSE(replica.is_acknowledged());
}

TEST_CASE("a deterministic replica merges through exactly the version that the gate admits") {
  Replica replica = make(1, true);
  assign_all(replica, 0.0f, {0, 0});
  CHECK(replica.gate(Round(1), MembershipEpoch(1)) == Replica::Gate::kOpen);
  CHECK(replica.gate(Round(2), MembershipEpoch(1)) == Replica::Gate::kStaleness);
  for (std::uint64_t v = 1; v <= 3; ++v)
    for (std::uint32_t k = 0; k < 2; ++k) publish(replica, k, header(v, 1, {v, v}), 1.0f);
  REQUIRE(replica.gate(Round(2), MembershipEpoch(1)) == Replica::Gate::kOpen);
  CHECK(replica.begin_round(Round(2)) == std::vector<float>(kSize, 1.0f));
  CHECK(replica.begin_round(Round(3)) == std::vector<float>(kSize, 2.0f));
}

TEST_CASE("versions that do not follow each other are errors and change nothing") {
  Replica replica = make(0);
  CHECK_FALSE(replica.on_version(ShardIndex(0), Publish{header(1, 1, {0}), 1, constant(1)}).ok());
  assign_all(replica, 2.0f, {0});
  CHECK(replica.on_version(ShardIndex(0), Publish{header(2, 1, {0}), 1, constant(1)}).error().message ==
        "version 2 of chain 9 does not follow version 0 of chain 9");
  CHECK_FALSE(replica.on_version(ShardIndex(0), Publish{header(1, 1, {0}), 7, constant(1)}).ok());
  CHECK_FALSE(
      replica.on_version(ShardIndex(0), Assign{header(3, 1, {0}), Version(2), false, {}, SharedBytes()})
          .ok());
  CHECK_FALSE(
      replica
          .on_version(
              ShardIndex(0),
              Assign{
                  header(3, 1, {0}), Version(0), false, {{2, 5}}, SharedBytes::take(std::vector<float>(3))})
          .ok());
  CHECK(replica.begin_round(Round(0)) == std::vector<float>(kSize, 2.0f));
}

TEST_CASE("a deterministic replica takes an assignment that leaps over the version that is due") {
  Replica replica = make(2, true);
  assign_all(replica, 1.0f, {0, 0});
  for (std::uint32_t k = 0; k < 2; ++k)
    REQUIRE(replica
                .on_version(ShardIndex(k),
                            Assign{header(3, 1, {3, 3}), Version(0), false, {{0, kSize / 2}}, constant(4.0f)})
                .ok());
  REQUIRE(replica.gate(Round(4), MembershipEpoch(1)) == Replica::Gate::kOpen);  // version 2 is due
  CHECK(replica.begin_round(Round(4)).at(0) == 4.0f);
}

TEST_CASE("what cannot be merged later is refused when it arrives") {
  Replica replica = make(2, true);
  assign_all(replica, 1.0f, {0, 0});
  CHECK_FALSE(replica.on_version(ShardIndex(0), Publish{header(2, 1, {2, 2}), 1, constant(0.5f)}).ok());
  CHECK_FALSE(replica.on_version(ShardIndex(0), Publish{header(1, 1, {1, 1}), 9, constant(0.5f)}).ok());
  CHECK_FALSE(replica
                  .on_version(ShardIndex(0),
                              Publish{header(1, 1, {1, 1}), 1, SharedBytes::take(std::vector<char>(3))})
                  .ok());
  CHECK(replica.on_version(ShardIndex(0), Publish{header(1, 1, {1, 1}), 1, constant(0.5f)}).ok());
}

TEST_CASE("a flush leaves no residual, whatever the codec") {
  Replica replica = make(0, false, std::make_shared<FirstOnlyCodec>());
  assign_all(replica, 1.0f, {0, 0});
  (void)replica.finish_round({kJob, Round(0), LeaseId(1), {}}, std::vector<float>(kSize, 0.5f));
  REQUIRE(replica.has_residual());
  CHECK(replica.flush(kJob, Round(1)).size() == 2);
  CHECK_FALSE(replica.has_residual());
}

TEST_CASE("a deterministic replica refuses on arrival what it could not merge when its round is due") {
  Replica replica = make(0, true);
  assign_all(replica, 4.0f, {0});
  const auto arrives = [&](Version from, bool whole, std::vector<AssignedRange> ranges, std::size_t values) {
    return replica
        .on_version(ShardIndex(0), Assign{header(1, 1, {1}), from, whole, std::move(ranges),
                                          SharedBytes::take(std::vector<float>(values, 1.0f))})
        .ok();
  };
  CHECK_FALSE(arrives(Version(), false, {{0, kSize}}, kSize));  // beyond the shard
  CHECK_FALSE(arrives(Version(), false, {{0, 2}}, 3));          // more values than ranges
  CHECK_FALSE(arrives(Version(), true, {{0, 2}}, 2));           // not whole
  CHECK_FALSE(arrives(Version(1), false, {{0, 2}}, 2));         // from a version that is not here
  CHECK(arrives(Version(), false, {{0, 2}}, 2));
  REQUIRE(replica.on_version(ShardIndex(1), Publish{header(1, 1, {1}), 1, {}}).ok());
  REQUIRE(replica.gate(Round(1), MembershipEpoch(1)) == Replica::Gate::kOpen);
  CHECK(replica.begin_round(Round(1))[0] == 1.0f);
}
