// Goal: each sample of each epoch counts exactly once, whoever dies, drains or is heard twice (promise P5).
// Method: random lives of workers against the book, with a ledger of its own, one counter per sample.
#include "server/coordinator/lease_book.h"

#include <algorithm>
#include <deque>

#include "common/base/random.h"
#include "test/support/catch.h"

using namespace nanduti;

namespace {

/// A worker that trains its leases round by round; its pushes settle on every shard, each in order.
struct Worker {
  IncarnationOrder order;
  std::deque<LeaseBook::Lease> leases;
  std::vector<SettleEntry> pushed;
  std::vector<std::size_t> settled;  // per shard: how many of `pushed`
};

SettleEntry entry(std::uint64_t order, std::uint64_t sequence, const LeaseBook::Lease& lease,
                  SampleRange range) {
  return {IncarnationOrder(order), Sequence(sequence), Round(sequence), lease.id, range, false};
}

}  // namespace

TEST_CASE("each sample of each epoch counts once, whoever dies or drains") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    INFO("seed " << seed);
    RandomStream random(seed);
    const std::uint32_t shards = 1 + static_cast<std::uint32_t>(random.below(4));
    const LeaseBookOptions options{1 + random.below(700), 1 + static_cast<std::uint32_t>(random.below(3)),
                                   1 + random.below(20), shards};
    LeaseBook book(options);
    std::vector<std::vector<int>> counts(options.epochs, std::vector<int>(options.samples, 0));
    std::vector<Worker> workers;
    std::uint64_t next_order = 1, repeated = 0;
    int deaths_left = 20;
    for (int step = 0; !book.is_complete(); ++step) {
      REQUIRE(step < 200'000);
      while (workers.size() < 3)
        workers.push_back({IncarnationOrder(next_order++), {}, {}, std::vector<std::size_t>(shards)});
      Worker& worker = workers[random.below(workers.size())];
      const std::uint64_t what = random.below(40);
      if (what < 10) {
        if (auto lease = book.lend(worker.order, 3)) worker.leases.push_back(*lease);
      } else if (what < 20 && !worker.leases.empty()) {
        LeaseBook::Lease& lease = worker.leases.front();
        SampleRange range = lease.range;
        range.end = std::min(range.end, range.begin + options.round_samples);
        worker.pushed.push_back(entry(worker.order.value(), worker.pushed.size(), lease, range));
        lease.range.begin = range.end;
        if (lease.range.size() == 0) worker.leases.pop_front();
      } else if (what < 38) {
        const auto shard = static_cast<std::size_t>(random.below(shards));
        if (worker.settled[shard] == worker.pushed.size()) continue;
        const std::size_t index = worker.settled[shard]++;
        const SettleEntry& settled = worker.pushed[index];
        REQUIRE(book.settle(ShardIndex(static_cast<std::uint32_t>(shard)), settled).ok());
        if (random.chance(0.2))
          REQUIRE(book.settle(ShardIndex(static_cast<std::uint32_t>(shard)), settled).ok());
        if (*std::min_element(worker.settled.begin(), worker.settled.end()) > index)
          for (std::uint64_t i = settled.range.begin; i < settled.range.end; ++i)
            ++counts[settled.range.epoch.value()][i];
      } else if (what == 38 && deaths_left-- > 0) {
        const std::size_t through = *std::min_element(worker.settled.begin(), worker.settled.end());
        const std::size_t begun = *std::max_element(worker.settled.begin(), worker.settled.end());
        for (std::size_t i = through; i < begun; ++i) repeated += worker.pushed[i].range.size();
        book.fence(worker.order);
        CHECK_FALSE(book.holds_lease(worker.order));
        CHECK(book.held_samples(worker.order) == 0);
        worker = {IncarnationOrder(next_order++), {}, {}, std::vector<std::size_t>(shards)};
      } else if (!worker.leases.empty()) {
        const LeaseBook::Lease lease = worker.leases.back();
        worker.leases.pop_back();
        REQUIRE(book.give_back(worker.order, lease.id, lease.range).ok());
      }
    }
    for (const auto& epoch : counts)
      REQUIRE(std::all_of(epoch.begin(), epoch.end(), [](int count) { return count == 1; }));
    REQUIRE(book.repeated_samples() == repeated);
    REQUIRE_FALSE(book.has_free());
    REQUIRE(book.counted_in_all() == options.samples * options.epochs);
  }
}

TEST_CASE("leases are whole rounds and shrink as the job ends") {
  LeaseBook book({10'000, 1, 64, 1});
  std::uint64_t last = ~std::uint64_t{0}, covered = 0;
  while (auto lease = book.lend(IncarnationOrder(1), 2)) {
    CHECK(lease->range.begin == covered);
    covered = lease->range.end;
    CHECK((lease->range.size() % 64 == 0 || covered == 10'000));
    CHECK(lease->range.size() <= last);
    last = lease->range.size();
  }
  CHECK(covered == 10'000);
  CHECK(last <= 64);
}

TEST_CASE("where an epoch ends before the last one, only the lease that ends with it is shorter") {
  constexpr std::uint64_t kEpoch = 500 * 64 + 10, kFull = kLeaseRoundsMax * 64,
                          kAhead = kLeaseRoundsAheadMax * 64;
  LeaseBook book({kEpoch, 4, 64, 1});
  std::uint64_t left = 4 * kEpoch;
  while (left > 4 * kAhead) {
    const LeaseBook::Lease lease = *book.lend(IncarnationOrder(1), 2);
    CHECK(lease.ahead == kAhead);
    CHECK((lease.range.size() == kFull || lease.range.end == kEpoch));
    left -= lease.range.size();
  }
  while (left > 0) {
    const LeaseBook::Lease lease = *book.lend(IncarnationOrder(1), 2);
    CHECK(lease.ahead == std::max<std::uint64_t>(left / 4 / 64, 1) * 64);
    CHECK(lease.range.size() <= std::min(lease.ahead, kFull));
    left -= lease.range.size();
  }
}

TEST_CASE("of a fair share a worker is lent at least what it asks for") {
  LeaseBook book({100, 1, 1, 1});
  CHECK(book.lend(IncarnationOrder(1), 2, 9)->ahead == 25);
  CHECK(book.lend(IncarnationOrder(1), 4, 9)->ahead == 9);    // half of 18
  CHECK(book.lend(IncarnationOrder(1), 4, 12)->ahead == 12);  // of 16
  CHECK(book.lend(IncarnationOrder(1), 4, 70)->ahead == 13);  // a fair share of 54
  CHECK(book.lend(IncarnationOrder(1), 41, 9)->ahead == 1);
  std::uint64_t left = 40;
  while (const auto lease = book.lend(IncarnationOrder(1), 2, 5)) {
    CHECK(lease->ahead == std::max<std::uint64_t>({left / 4, std::min<std::uint64_t>(left / 2, 5), 1}));
    left -= lease->range.size();
  }
  CHECK(left == 0);
}

TEST_CASE("workers of one speed are in the same epoch: it is complete after half of the next one at most") {
  for (const std::uint64_t rounds : {3, 64, 235, 1000})
    for (const auto& [workers, rounds_min] : std::vector<std::pair<std::uint32_t, std::uint64_t>>{
             {1, 1}, {1, 65}, {2, 1}, {2, 8}, {8, 1}, {8, 8}, {16, 1}}) {
      INFO(rounds << " rounds, " << workers << " workers, " << rounds_min << " rounds in a round trip");
      constexpr std::uint32_t kEpochs = 5;
      LeaseBook book({rounds, kEpochs, 1, 1});
      struct Queue {
        std::deque<LeaseBook::Lease> leases;
        std::uint64_t samples = 0, ahead = 1, pushed = 0;
      };
      std::vector<Queue> queues(workers);
      std::uint64_t trained = 0;
      std::uint32_t complete = 0;
      while (!book.is_complete()) {
        for (std::uint32_t w = 0; w < workers; ++w) {
          Queue& queue = queues[w];
          const IncarnationOrder order(w + 1);
          while (queue.samples < queue.ahead) {
            const auto lease = book.lend(order, workers, rounds_min);
            if (!lease) break;
            queue.samples += lease->range.size();
            queue.ahead = lease->ahead;
            queue.leases.push_back(*lease);
          }
          if (queue.leases.empty()) continue;
          LeaseBook::Lease& lease = queue.leases.front();
          const SampleRange round{lease.range.epoch, lease.range.begin, lease.range.begin + 1};
          REQUIRE(book.settle(ShardIndex(0), entry(order.value(), queue.pushed++, lease, round)).ok());
          if (++lease.range.begin == lease.range.end) queue.leases.pop_front();
          --queue.samples;
          ++trained;
        }
        for (; complete < kEpochs && book.is_complete(DataEpoch(complete)); ++complete)
          CHECK(trained <= rounds * (2 * complete + 3) / 2 + 2 * workers);
      }
    }
}

TEST_CASE("what a worker may not claim is an error as soon as the first shard has settled it") {
  LeaseBook book({100, 1, 10, 2});
  const LeaseBook::Lease lease = *book.lend(IncarnationOrder(1), 1);
  const auto claim = [&](std::uint64_t order, std::uint64_t sequence, SampleRange range) {
    return book.settle(ShardIndex(0), entry(order, sequence, lease, range)).error().message;
  };
  const DataEpoch epoch(0);
  CHECK(claim(2, 0, {epoch, 0, 10}) == "incarnation 2 trained on lease 1, which it does not hold");
  CHECK(claim(1, 0, {epoch, 10, 20}) ==
        "incarnation 1 trained on samples 10 to 20 where 0 to 50 of its lease were next");
  CHECK(claim(1, 1, {epoch, 0, 51}) ==
        "incarnation 1 trained on samples 0 to 51 where 0 to 50 of its lease were next");
  CHECK(claim(1, 2, {epoch, 0, 0}) ==
        "incarnation 1 trained on samples 0 to 0 where 0 to 50 of its lease were next");
  CHECK(claim(1, 3, {DataEpoch(1), 0, 10}) ==
        "incarnation 1 trained on samples 0 to 10 where 0 to 50 of its lease were next");
  CHECK(claim(1, 7, {epoch, 0, 10}) == "shard 0 settled push 7 of incarnation 1 before push 4");
  CHECK(book.settle(ShardIndex(0), entry(1, 4, lease, {epoch, 0, 10})).ok());
  CHECK(claim(1, 5, {epoch, 0, 10}) ==
        "incarnation 1 trained on samples 0 to 10 where 10 to 50 of its lease were next");
  CHECK(book.give_back(IncarnationOrder(1), lease.id, {epoch, 0, 50}).error().message ==
        "lease 1 has samples 10 to 50 left; 0 to 50 came back");
  CHECK(book.give_back(IncarnationOrder(1), lease.id, {epoch, 20, 30}).error().message ==
        "lease 1 has samples 10 to 50 left; 20 to 30 came back");
  CHECK(book.give_back(IncarnationOrder(3), lease.id, lease.range).error().message ==
        "lease 1 is not held by incarnation 3");
  CHECK(book.counted(epoch) == 0);
  // Only what it held and had settled in part is trained again.
  book.fence(IncarnationOrder(1));
  CHECK(book.repeated_samples() == 10);
}

TEST_CASE(
    "samples count once where a push names others on another shard, and what follows it does not count") {
  LeaseBook book({100, 1, 10, 2});
  const LeaseBook::Lease lease = *book.lend(IncarnationOrder(1), 1);
  const DataEpoch epoch(0);
  // What follows a push that was an error is reported until every shard has fenced its incarnation.
  CHECK_FALSE(book.settle(ShardIndex(0), entry(1, 0, lease, {epoch, 30, 40})).ok());
  CHECK(book.settle(ShardIndex(1), entry(1, 0, lease, {epoch, 0, 10})).ok());
  CHECK(book.settle(ShardIndex(0), entry(1, 1, lease, {epoch, 10, 20})).ok());
  CHECK_FALSE(book.settle(ShardIndex(1), entry(1, 1, lease, {epoch, 10, 20})).ok());
  CHECK(book.counted(epoch) == 0);
  book.fence(IncarnationOrder(1));
  CHECK(book.lend(IncarnationOrder(2), 1)->range == lease.range);
}

TEST_CASE("rounds that only some shards have settled are held up to a maximum") {
  LeaseBook book({kPartialRoundsMax * 4, 1, 1, 2});
  const DataEpoch epoch(0);
  std::uint64_t round = 0;
  for (bool ok = true; ok;) {
    const LeaseBook::Lease lease = *book.lend(IncarnationOrder(1), 1);
    for (std::uint64_t at = lease.range.begin; ok && at < lease.range.end; ++at)
      ok = book.settle(ShardIndex(0), entry(1, round++, lease, {epoch, at, at + 1})).ok();
  }
  CHECK(round == kPartialRoundsMax + 1);
}

TEST_CASE("ranks are lent their sections in equally many rounds, whoever asks first") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    RandomStream random(seed);
    const LeaseBookOptions options{1 + random.below(300), 1 + static_cast<std::uint32_t>(random.below(3)),
                                   1 + random.below(9), 1};
    const auto ranks = static_cast<std::uint32_t>(1 + random.below(5));
    std::vector<std::vector<int>> counts(options.epochs, std::vector<int>(options.samples, 0));
    std::vector<std::vector<SampleRange>> lent[2];
    for (auto& by_rank : lent) {
      LeaseBook book(options);
      by_rank.resize(ranks);
      std::vector<bool> done(ranks);
      while (std::find(done.begin(), done.end(), false) != done.end()) {
        const auto rank = static_cast<std::uint32_t>(random.below(ranks));
        const auto lease = book.lend_section(IncarnationOrder(rank + 1), rank, ranks);
        if (lease)
          by_rank[rank].push_back(lease->range);
        else
          done[rank] = true;
      }
      CHECK_FALSE(book.has_free());
    }
    CHECK(lent[0] == lent[1]);
    std::vector<std::uint64_t> rounds(ranks);
    for (std::uint32_t rank = 0; rank < ranks; ++rank)
      for (const SampleRange& range : lent[0][rank]) {
        rounds[rank] +=
            std::max<std::uint64_t>((range.size() + options.round_samples - 1) / options.round_samples, 1);
        for (std::uint64_t i = range.begin; i < range.end; ++i) ++counts[range.epoch.value()][i];
      }
    CHECK(std::all_of(rounds.begin(), rounds.end(), [&](std::uint64_t r) { return r == rounds[0]; }));
    for (const auto& epoch : counts)
      CHECK(std::all_of(epoch.begin(), epoch.end(), [](int count) { return count == 1; }));
  }
}
