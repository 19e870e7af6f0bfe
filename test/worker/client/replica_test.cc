// Goal: the replica merges and never overwrites, gates as promise P1 says, counts each verdict once.
// Method: replicas fed by hand, with dyadic values so that sums are exact, and a codec that leaves a
// residual.
#include "worker/client/replica.h"

#include "common/base/random.h"
#include "test/support/catch.h"
#include "test/support/codecs.h"

using namespace nanduti;

namespace {

constexpr std::uint64_t kSize = 8;
constexpr JobId kJob{1};
constexpr IncarnationOrder kOwn{1};

/// Sends coordinate 0 only: everything else stays in the residual.
class FirstOnlyCodec final : public Codec {
 public:
  [[nodiscard]] Coding coding() const override { return Coding::kDenseFloat32; }
  [[nodiscard]] EncodedUpdate encode(std::span<float> residual, std::span<const float> progress,
                                     const CodingContext& context) const override {
    for (std::size_t i = 0; i < progress.size(); ++i) residual[i] += progress[i];
    std::vector<float> first(residual.size(), 0.0f);
    first[0] = std::exchange(residual[0], 0.0f);
    return dense_.encode(first, {}, context);
  }
  [[nodiscard]] Result<Update> decode(const SharedBytes& payload, std::uint64_t size) const override {
    return dense_.decode(payload, size);
  }

 private:
  DenseFloat32Codec dense_;
};

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

/// A replica, with what a test needs to see of its reports.
struct Bench {
  explicit Bench(std::optional<std::uint32_t> bound, bool deterministic = false,
                 std::shared_ptr<const Codec> codec = std::make_shared<DenseFloat32Codec>(),
                 std::uint32_t window = 64, bool sees_own_work = true)
      : replica({kJob,
                 {{0, kSize / 2}, {kSize / 2, kSize}},
                 kOwn,
                 bound,
                 deterministic,
                 window,
                 std::size_t{1} << 20,
                 both_ways(std::move(codec)),
                 1,
                 sees_own_work}) {}

  void tell(Replica::Event event) {
    replica.on_event(std::move(event));
    for (Replica::Action& action : replica.take_actions()) {
      if (auto* round = std::get_if<Replica::ComputeRound>(&action)) {
        REQUIRE_FALSE(computing);
        computing = *round;
      } else if (std::holds_alternative<Replica::CodeRound>(action)) {
        code_due = true;
      } else {
        auto& report = std::get<Replica::Report>(action);
        if (auto* coded = std::get_if<Replica::RoundCoded>(&report)) pushes = coded->pushes;
        if (auto* flushed = std::get_if<Replica::Flushed>(&report)) pushes = flushed->pushes;
        reports.push_back(std::move(report));
      }
    }
  }
  template <class R>
  [[nodiscard]] std::vector<R> all() const {
    std::vector<R> found;
    for (const auto& report : reports)
      if (const auto* r = std::get_if<R>(&report)) found.push_back(*r);
    return found;
  }
  /// Empty if it was merged, else why not.
  std::string arrives(std::uint32_t shard, std::variant<Publish, Assign> version) {
    const std::size_t before = all<Replica::MergeFailed>().size();
    tell(Replica::MergeVersion{ShardIndex(shard), std::move(version)});
    const auto failed = all<Replica::MergeFailed>();
    return failed.size() == before ? std::string() : failed.back().reason;
  }
  void offer(std::uint64_t begin = 0, std::uint64_t end = 1,
             MembershipEpoch active_from = MembershipEpoch(1)) {
    tell(Replica::OfferRound{LeaseId(1), {DataEpoch(0), begin, end}, active_from, Round()});
  }
  void finish(float progress) {
    REQUIRE(computing);
    auto round = *std::exchange(computing, std::nullopt);
    round.buffers->progress.assign(kSize, progress);
    tell(Replica::RoundComputed{kJob, round.buffers, 0, 0});
  }
  void code() {
    if (std::exchange(code_due, false)) tell(Replica::TimeToCode());
  }
  /// x of the next round, which is offered, computed, and gives `progress`.
  std::vector<float> run_round(float progress) {
    offer();
    REQUIRE(computing);
    std::vector<float> x = computing->buffers->parameters;
    finish(progress);
    code();
    return x;
  }

  Replica replica;
  std::optional<Replica::ComputeRound> computing;
  bool code_due = false;
  std::vector<Push> pushes;  // the last ones
  std::vector<Replica::Report> reports;
};

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

void assign_all(Bench& bench, float value, std::vector<std::uint64_t> clocks) {
  for (std::uint32_t k = 0; k < 2; ++k)
    REQUIRE(bench.arrives(k, Assign{header(0, 1, clocks), Version(), true, {{0, kSize / 2}}, constant(value)})
                .empty());
}

void publish(Bench& bench, std::uint32_t shard, const VersionHeader& h, float change) {
  REQUIRE(bench.arrives(shard, Publish{h, 1, constant(change)}).empty());
}

std::vector<float> all_of(float value) { return std::vector<float>(kSize, value); }

}  // namespace

TEST_CASE(
    "a worker that does not see its own work computes on the shadow less its residual, until a version has "
    "it") {
  Bench bench(8, false, std::make_shared<FirstOnlyCodec>(), 64, false);
  assign_all(bench, 1.0f, {0, 0});
  CHECK(bench.run_round(0.5f) == all_of(1.0f));
  // rho = 1/2 of what was not sent; nothing of what is in flight.
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

TEST_CASE("a worker that does not see its own work waits for it at the gate, though it is alone") {
  Bench bench(2, false, std::make_shared<DenseFloat32Codec>(), 64, false);
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
  Bench bench(8, false, std::make_shared<FirstOnlyCodec>());
  assign_all(bench, 4.0f, {0, 0});
  bench.run_round(0.5f);  // coordinate 0 of each shard in flight, the rest in the residual at rho = 1/2
  for (std::uint32_t k = 0; k < 2; ++k) publish(bench, k, header(1, 1, {0, 1}), 1.0f);
  CHECK(bench.run_round(0) == std::vector<float>{4.5f, 4.75f, 4.75f, 4.75f, 4.5f, 4.75f, 4.75f, 4.75f});
}

TEST_CASE("the offered round begins before the one before is coded, and has it at full weight") {
  Bench bench(8, false, std::make_shared<FirstOnlyCodec>());
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(0, 1);
  REQUIRE(bench.computing);
  CHECK(bench.all<Replica::RoundBegun>().size() == 1);
  bench.offer(1, 2);
  CHECK(bench.all<Replica::RoundBegun>().size() == 1);
  bench.finish(0.5f);
  REQUIRE(bench.computing);
  CHECK(bench.computing->round == Round(1));
  CHECK(bench.computing->buffers->parameters == all_of(3.5f));
  CHECK(bench.pushes.empty());
  bench.code();
  REQUIRE(bench.pushes.size() == 2);
  CHECK(bench.pushes[0].round == Round(0));
  CHECK(bench.pushes[0].range.begin == 0);
  CHECK(bench.pushes[0].sequence == Sequence(0));
  // Once it is coded, what is left in the residual counts by its share.
  bench.finish(0);
  bench.offer(2, 3);
  CHECK(bench.computing->buffers->parameters ==
        std::vector<float>{3.5f, 3.75f, 3.75f, 3.75f, 3.5f, 3.75f, 3.75f, 3.75f});
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
  bench.tell(Replica::WithdrawRound());
  bench.tell(Replica::WithdrawRound());
  const auto withdrawn = bench.all<Replica::RoundWithdrawn>();
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

  ReplicaOptions options{kJob, {{0, kSize}}, kOwn, {}, false, 64, 40, both_ways()};
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

TEST_CASE("refused mass returns to the residual once, whichever message says it first and however often") {
  const auto mass_back = [](bool ack_first) {
    Bench bench(8);
    assign_all(bench, 0.0f, {0});
    bench.run_round(0.5f);
    const Replica::TakeAck ack{ShardIndex(0), Sequence(1), {Sequence(0)}};
    if (ack_first) bench.tell(ack);
    publish(bench, 0, header(1, 1, {1}, 1, {Sequence(0)}), 0);
    bench.tell(ack);
    publish(bench, 0, header(2, 1, {1}, 1, {Sequence(0)}), 0);
    CHECK(bench.replica.shard(ShardIndex(0)).in_flight().empty());
    int returned = 0;
    for (const Replica::Verdicts& verdicts : bench.all<Replica::Verdicts>()) returned += verdicts.returned;
    CHECK(returned == 1);
    const auto residual = bench.replica.shard(ShardIndex(0)).residual();
    return std::vector<float>(residual.begin(), residual.end());
  };
  CHECK(mass_back(true) == std::vector<float>(kSize / 2, 0.5f));
  CHECK(mass_back(false) == std::vector<float>(kSize / 2, 0.5f));
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
  Bench bench(1, true, std::make_shared<FirstOnlyCodec>());
  assign_all(bench, 4.0f, {0, 0});
  bench.offer(0, 1);
  bench.offer(1, 2);
  bench.finish(0.5f);
  CHECK(bench.pushes.size() == 2);
  REQUIRE(bench.computing);
  CHECK(bench.computing->buffers->parameters ==
        std::vector<float>{3.5f, 3.75f, 3.75f, 3.75f, 3.5f, 3.75f, 3.75f, 3.75f});
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
  for (const float value : bench.replica.shard(ShardIndex(0)).residual()) CHECK(value == 0.0f);
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
    ShardReplica state(kValues, kOwn);
    RandomCodec codec(random);
    VersionHeader h = header(0, 1, {0, 0});
    REQUIRE(state.merge(Assign{h, Version(), true, {{0, kValues}}, SharedBytes::take(floats())}).ok());
    std::uint64_t settled = 0;
    for (int step = 0; step < 60; ++step) {
      const std::uint64_t sent = state.next_sequence().value();
      if (random.below(2) == 0) {
        (void)state.push(floats(), codec, {});
      } else if (random.below(4) == 0 && settled < sent) {
        const Sequence refused(settled + random.below(sent - settled));
        state.acknowledge(Sequence(settled), std::vector<Sequence>{refused});
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
      std::vector<float> x(kValues), scratch(state.shadow().begin(), state.shadow().end());
      state.compute_parameters(x, pending, 0.25f);
      for (const ShardReplica::InFlight& sent_push : state.in_flight()) {
        const Update& update = sent_push.update;
        for (std::size_t k = 0; k < update.values.size(); ++k)
          scratch[update.dense ? k : update.indices[k]] -= update.values[k];
      }
      for (std::size_t i = 0; i < kValues; ++i)
        scratch[i] = (scratch[i] - pending[i]) - 0.25f * state.residual()[i];
      REQUIRE(x == scratch);
    }
  }
}
