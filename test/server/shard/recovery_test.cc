// Goal: a shard that has lost the end of its log goes on without it: nobody takes its versions for others,
// pushes that are gone are counted and not waited for. (That a whole log loses nothing is the simulator's
// affair, and fuzz_shard's.) Method: a shard whose entries the test keeps.
#include <algorithm>

#include "test/server/shard/shard_bench.h"
#include "test/server/shard/some_optimizer.h"

using namespace nanduti;

namespace {

struct Durable : Bench {
  explicit Durable(ShardOptions options = {})
      : Bench(false, std::move(options), both_ways(), 0, Durability::kLog) {}

  [[nodiscard]] RecoveredShard stored(std::size_t entries_kept) const {
    RecoveredShard recovered;
    recovered.entries.assign(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(entries_kept));
    recovered.start = start();
    return recovered;
  }
  void become(ShardCore next) {
    core = std::move(next);
    sent.clear();
    collect();
    tell(PeerConnected{kCoordinator, {}});
  }
};

}  // namespace

TEST_CASE("a shard that has lost the end of its log begins a chain and counts what is gone") {
  Durable bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  for (std::uint64_t s = 0; s < 6; ++s) bench.push(1, s, 1.0f);
  const ChainId chain = bench.to<Publish>(Bench::peer(1)).back().header.chain;
  const std::size_t whole = bench.entries.size();
  Result<ShardCore> core = [&] {
    RecoveredShard recovered = bench.stored(whole - 2);
    recovered.complete = false;
    return ShardCore::recover(Bench::with_names({}), RandomStream(2), std::move(recovered));
  }();
  REQUIRE(core.ok());
  bench.entries.resize(whole - 2);
  bench.become(std::move(core).value());
  CHECK(bench.w() == 1.0f - 4);
  CHECK(bench.to<RegisterShard>(kCoordinator).back().job == JobId(1));
  CHECK(bench.to<RegisterShard>(kCoordinator).back().epoch == MembershipEpoch(1));
  // The worker has forgotten the pushes below 6, and has made one more.
  bench.tell(PeerConnected{Bench::peer(1), {}});
  Subscribe request{JobId(1), IncarnationOrder(1), incarnation(1), chain, Version(7), Sequence(6), Round(6)};
  bench.tell(MessageReceived{Bench::peer(1), request});
  REQUIRE(bench.to<Subscribed>(Bench::peer(1)).size() == 1);
  CHECK(bench.to<Subscribed>(Bench::peer(1))[0].next_sequence == Sequence(6));
  CHECK(bench.core.counters().lost == 2);
  const auto assigned = bench.to<Assign>(Bench::peer(1));
  REQUIRE(assigned.size() == 1);
  CHECK(assigned[0].whole);
  CHECK(assigned[0].header.chain != chain);
  bench.push(1, 6, 1.0f);
  CHECK(bench.w() == 1.0f - 5);
  // All of this is in its log: another restart begins no chain and loses nothing.
  core = ShardCore::recover(Bench::with_names({}), RandomStream(3), bench.stored(bench.entries.size()));
  REQUIRE(core.ok());
  bench.become(std::move(core).value());
  CHECK(bench.w() == 1.0f - 5);
  CHECK(bench.core.ledger(IncarnationOrder(1))->next_sequence() == Sequence(7));
  bench.tell(PeerConnected{Bench::peer(1), {}});
  request.chain = assigned[0].header.chain;
  request.version = bench.core.values()->version();
  request.oldest_held = Sequence(7);
  bench.tell(MessageReceived{Bench::peer(1), request});
  CHECK(bench.to<Subscribed>(Bench::peer(1)).size() == 1);
  CHECK(bench.to<Assign>(Bench::peer(1)).empty());  // it has everything
}

TEST_CASE("a shard that has lost nothing skips nothing for whoever says so") {
  Durable bench;
  bench.members(1, {Bench::active(1)});
  bench.tell(PeerConnected{Bench::peer(1), {}});
  bench.tell(MessageReceived{
      Bench::peer(1),
      Subscribe{JobId(1), IncarnationOrder(1), incarnation(1), {}, {}, Sequence(9), Round(9)}});
  CHECK(bench.core.counters().lost == 0);
  CHECK(bench.core.ledger(IncarnationOrder(1))->next_sequence() == Sequence());
}

TEST_CASE("a membership names how many were active in those that a shard has missed") {
  Durable bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  Membership later{JobId(1), MembershipEpoch(4), {Bench::active(1)}, {2, 1}};
  bench.tell(MessageReceived{kCoordinator, later});
  CHECK(bench.core.ledger(IncarnationOrder(2))->fenced());  // who is not named has died
  bench.subscribe(1);
  bench.push(1, 0, 1.0f, 2);
  CHECK(bench.w() == 0.5f);
  bench.push(1, 1, 1.0f, 3);
  CHECK(bench.w() == -0.5f);
}

TEST_CASE("a snapshot is of one instant, while everything changes") {
  ShardOptions options;
  options.snapshot_log_bytes = 0;
  options.snapshot_log_entries = 3;
  Durable bench(options);
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  for (std::uint64_t s = 0; s < 40; ++s) {
    bench.push(1, s, 1.0f);
    if (s % 3 == 0) bench.write_parts();
  }
  bench.write_parts();
  REQUIRE(bench.core.counters().snapshots > 2);
  RecoveredShard recovered = bench.stored(bench.entries.size());
  recovered.snapshot = bench.snapshot->content;
  recovered.entries.erase(recovered.entries.begin(),
                          recovered.entries.begin() + static_cast<std::ptrdiff_t>(bench.snapshot->entries));
  recovered.start.values.clear();
  const Result<ShardCore> core =
      ShardCore::recover(Bench::with_names(options), RandomStream(2), std::move(recovered));
  REQUIRE(core.ok());
  CHECK(bits_equal(core->values()->w(), bench.core.values()->w()));
  CHECK(bits_equal(core->values()->shadow(), bench.core.values()->shadow()));
}

TEST_CASE("a shard that restarts again and again takes its snapshots all the same") {
  Durable bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  for (std::uint64_t s = 0; s < 3; ++s) bench.push(1, s, 1.0f);
  ShardOptions options;
  options.snapshot_log_entries = bench.entries.size();
  Result<ShardCore> core =
      ShardCore::recover(Bench::with_names(options), RandomStream(2), bench.stored(bench.entries.size()));
  REQUIRE(core.ok());
  const std::vector<ShardCore::Action> actions = core->take_actions();
  CHECK(std::any_of(actions.begin(), actions.end(), [](const ShardCore::Action& action) {
    return std::holds_alternative<ShardCore::BeginSnapshot>(action);
  }));
}

TEST_CASE("a log that makes no sense is an error") {
  Durable bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  for (std::uint64_t s = 0; s < 3; ++s) bench.push(1, s, 1.0f);
  const auto error_of = [&](const auto& change) {
    RecoveredShard recovered = bench.stored(bench.entries.size());
    change(recovered);
    const Result<ShardCore> core = ShardCore::recover(Bench::with_names({}), RandomStream(2), recovered);
    REQUIRE_FALSE(core.ok());
    CHECK(core.error().code == ErrorCode::kCorrupt);
    return core.error().message;
  };
  CHECK(error_of([](RecoveredShard& r) { r.entries.clear(); }).find("it is empty") != std::string::npos);
  CHECK(error_of([](RecoveredShard& r) { r.entries.erase(r.entries.begin()); }).find("does not begin") !=
        std::string::npos);
  CHECK(error_of([](RecoveredShard& r) { r.entries.erase(r.entries.begin() + 1); }).find("of nobody") !=
        std::string::npos);
  CHECK(error_of([](RecoveredShard& r) { r.entries.erase(r.entries.begin() + 3); }).find("out of sequence") !=
        std::string::npos);
  CHECK(error_of([](RecoveredShard& r) { r.start.values.pop_back(); }).find("another size") !=
        std::string::npos);
  CHECK(error_of([](RecoveredShard& r) {
          r.entries.back() = r.entries.back().slice(0, 30);
        }).find("longer than its entry") != std::string::npos);
}

TEST_CASE("parts that change before they are copied are copied as they were") {
  const auto type =
      GENERATE(ServerOptimizerType::kAdd, ServerOptimizerType::kNesterov, ServerOptimizerType::kAdagrad);
  constexpr std::uint64_t kPart = ShardValues::kPartBlocks * kBlockSize;
  constexpr std::uint64_t kMany = 4 * kPart + kBlockSize;
  const auto make = [&] { return ShardValues(std::vector<float>(kMany, 1.0f), some_optimizer(type, kMany)); };
  RandomStream random(7, static_cast<std::uint64_t>(type));
  ShardValues values = make();
  const DenseFloat32Codec dense;
  const auto change = [&] {
    const std::uint64_t what = random.below(10);
    if (what == 0) return values.publish_exactly();
    if (what == 1) return (void)values.publish(dense, {values.version().next().value(), 0, 0});
    std::vector<std::uint32_t> indices;
    std::vector<float> numbers;
    for (std::uint64_t i = random.below(kPart); i < kMany; i += 1 + random.below(2 * kPart)) {
      indices.push_back(static_cast<std::uint32_t>(i));
      numbers.push_back(static_cast<float>(random.uniform(-1, 1)));
    }
    const Update update{kMany, false, indices, numbers, {}};
    if (what < 4)
      values.add_version(update);
    else
      values.apply(update, {0.5f, 1.0f, 0.4});
  };
  for (int times = 0; times < 6; ++times) {
    for (int i = 0; i < 3; ++i) change();
    ArchiveWriter head;
    head(values);
    const std::vector<std::byte> bytes = head.take();
    const std::vector<float> w(values.w().begin(), values.w().end());
    const std::vector<float> shadow(values.shadow().begin(), values.shadow().end());
    values.begin_copy();
    ShardValues other = make();
    ArchiveReader reader(bytes);
    reader(other);
    REQUIRE(reader.is_complete());
    REQUIRE(other.fits());
    std::vector<SharedBytes> taken(values.part_count());
    std::uint64_t parts = 0;
    for (bool more = true; more;) {
      if (random.chance(0.7)) change();
      const std::optional<ValuesPart> part = values.take_part();
      more = part.has_value();
      if (!part) continue;
      ++parts;
      REQUIRE(other.restore(part->index, part->bytes.view()));
      taken[part->index] = part->bytes;
    }
    CHECK(parts == values.part_count());
    CHECK(bits_equal(other.w(), w));
    CHECK(bits_equal(other.shadow(), shadow));
    // With the optimiser's slots: a copy of the copy is the same.
    other.begin_copy();
    while (const std::optional<ValuesPart> part = other.take_part())
      CHECK(bits_equal(floats(part->bytes), floats(taken[part->index])));
    CHECK_FALSE(other.restore(values.part_count(), taken[0].view()));
    CHECK_FALSE(other.restore(0, taken[0].view().subspan(4)));
  }
}
