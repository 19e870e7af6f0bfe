// Goal: versions wait for a link that is full, and who has missed some hears them again where that is less.
// Method: a shard without a network, whose clock and acknowledgements the test makes.
#include <cmath>

#include "common/codec/block_codec.h"
#include "common/codec/coding_spec.h"
#include "test/server/shard/shard_bench.h"

using namespace nanduti;

namespace {

JobCodecs sparse_versions() {
  BlockCodecOptions options;
  options.density = 0.01;
  return {std::make_shared<DenseFloat32Codec>(), std::make_shared<BlockCodec>(options)};
}

std::vector<std::uint64_t> versions_of(const Bench& bench, PeerId peer) {
  std::vector<std::uint64_t> versions;
  for (const Publish& publish : bench.to<Publish>(peer)) versions.push_back(publish.header.version.value());
  return versions;
}

/// Worker 1 alone, whose versions take 100 ms.
struct PacedBench : Bench {
  PacedBench() {
    members(1, {active(1)});
    subscribe(1);
    acknowledge(peer(1));
    round();
    now += 100ms;
    acknowledge(peer(1));
    sent.clear();
  }
  void round() { push(1, next++, 0.5f); }
  [[nodiscard]] std::size_t published() const { return to<Publish>(peer(1)).size(); }
  std::uint64_t next = 0;
};

}  // namespace

TEST_CASE("what a version leaves unsent has the norm of w - shadow, until it goes exactly") {
  const std::vector<float> initial(kBlockSize);
  ShardValues values(initial);
  CHECK(values.residual_norm() == 0);
  std::vector<float> progress(kBlockSize);
  progress[0] = 8;
  progress[7] = 3;
  progress[9] = -4;
  DenseFloat32Codec dense;
  values.apply(dense.decode(dense.encode(progress, {}, {}).payload, kBlockSize).value(), {});
  CHECK(values.residual_norm() == Approx(std::sqrt(64.0 + 25)));
  BlockCodecOptions options;
  options.density = kDensityMin;
  options.value_bits = 32;
  (void)values.publish(BlockCodec(options), {});
  CHECK(values.residual_norm() == 5);
  values.publish_exactly();
  CHECK(values.residual_norm() == 0);
}

TEST_CASE("who has missed versions hears them one by one where they are fewer bytes than what they changed") {
  Bench bench(false, {}, sparse_versions());
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.subscribe(2);
  bench.acknowledge(Bench::peer(1));
  bench.acknowledge(Bench::peer(2));
  const auto assign = bench.to<Assign>(Bench::peer(1)).at(0);
  const Version heard = versions_of(bench, Bench::peer(1)).empty()
                            ? assign.header.version
                            : bench.to<Publish>(Bench::peer(1)).back().header.version;
  bench.tell(PeerClosed{Bench::peer(1), "lost", false});
  for (std::uint64_t i = 0; i < 3; ++i) {
    bench.push(2, i, 0.5f);
    bench.wait(1s);
    bench.acknowledge(Bench::peer(2));
  }
  bench.sent.clear();
  bench.subscribe(1, assign.header.chain, heard);
  CHECK(bench.to<Assign>(Bench::peer(1)).empty());
  CHECK(versions_of(bench, Bench::peer(1)) ==
        std::vector<std::uint64_t>{heard.value() + 1, heard.value() + 2, heard.value() + 3});

  // Of another chain it has nothing.
  bench.tell(PeerClosed{Bench::peer(1), "lost", false});
  bench.subscribe(1, ChainId(assign.header.chain.value() + 2), heard);
  CHECK(bench.to<Assign>(Bench::peer(1)).size() == 1);
}

TEST_CASE("who has missed dense versions gets an assignment") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.acknowledge(Bench::peer(1));
  const auto header = bench.to<Assign>(Bench::peer(1)).at(0).header;
  bench.tell(PeerClosed{Bench::peer(1), "lost", false});
  bench.subscribe(2);
  for (std::uint64_t i = 0; i < 2; ++i) {
    bench.push(2, i, 0.5f);
    bench.wait(1s);
  }
  bench.sent.clear();
  bench.subscribe(1, header.chain, header.version);
  CHECK(bench.to<Assign>(Bench::peer(1)).size() == 1);
  CHECK(bench.to<Publish>(Bench::peer(1)).empty());
}

TEST_CASE("versions do not queue up on a link that is full: they wait until it is empty and become one") {
  PacedBench bench;
  bench.round();
  CHECK(bench.published() == 1);
  bench.now += 240ms;
  bench.round();  // it may take twice as long, and a little
  CHECK(bench.published() == 2);
  bench.now += 20ms;
  bench.round();
  bench.round();
  CHECK(bench.published() == 2);
  bench.acknowledge(Bench::peer(1));
  CHECK(bench.published() == 3);
  CHECK(bench.core.counters().held == 1);
  CHECK(bench.to<Publish>(Bench::peer(1)).back().header.verdicts.at(0).next_sequence == Sequence(bench.next));
}

TEST_CASE("a version waits for a full link for a second at most") {
  PacedBench bench;
  bench.round();
  bench.now += 300ms;
  bench.round();
  CHECK(bench.published() == 1);
  CHECK(bench.core.next_deadline() == bench.now + 1s);
  bench.wait(999ms);
  CHECK(bench.published() == 1);
  bench.wait(1ms);
  CHECK(bench.published() == 2);
}

TEST_CASE("who is not active holds up nobody's versions") {
  PacedBench bench;
  bench.round();
  bench.members(2,
                {{IncarnationOrder(1), incarnation(1), MemberState::kSuspended, Round()}, Bench::active(2)});
  bench.subscribe(2);
  bench.acknowledge(Bench::peer(2));
  bench.sent.clear();
  bench.now += 5s;
  bench.push(2, 0, 0.5f, 2);
  CHECK(bench.to<Publish>(Bench::peer(2)).size() == 1);
}
