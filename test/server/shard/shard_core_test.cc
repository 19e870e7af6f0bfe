// Goal: what a shard promises by itself: settle once and in order, versions that rebuild the shadow bit for
// bit, the right multiplier, fences that hold. Method: a shard without a network; the test plays coordinator
// and workers.
#include "test/server/shard/shard_bench.h"

using namespace nanduti;

TEST_CASE("who subscribes under a number before its worker is announced does not push as that worker") {
  Bench bench;
  const PeerId thief(7);
  bench.tell(PeerConnected{thief, {}});
  bench.tell(
      MessageReceived{thief, Subscribe{JobId(1), IncarnationOrder(1), incarnation(2), {}, {}, Sequence()}});
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  Push stolen;
  stolen.job = JobId(1);
  stolen.order = IncarnationOrder(1);
  stolen.epoch = MembershipEpoch(1);
  stolen.lease = LeaseId(1);
  stolen.coding = 1;
  stolen.payload = SharedBytes::take(std::vector<float>(kSize, 9.0f));
  bench.tell(MessageReceived{thief, stolen});
  CHECK(bench.core.ledger(IncarnationOrder(1))->next_sequence() == Sequence(0));
  bench.push(1, 0, 0.5f);
  CHECK(bench.w() == 0.5f);
  // It is told once, and once more for the push; not with every event.
  CHECK(bench.to<ShardRefusal>(thief).size() == 2);
  CHECK(bench.to<PushAck>(thief).empty());
}

TEST_CASE("a duplicated push is applied once, and acknowledged again") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.push(1, 0, 0.5f);
  CHECK(bench.w() == 0.75f);  // one of two workers: half weight
  const auto acks = bench.to<PushAck>(Bench::peer(1)).size();
  bench.push(1, 0, 0.5f);
  CHECK(bench.w() == 0.75f);
  CHECK(bench.to<PushAck>(Bench::peer(1)).size() == acks + 1);
  CHECK(bench.core.counters().duplicates == 1);
}

TEST_CASE("pushes settle in sequence however they arrive") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  bench.push(1, 2, 0.125f);
  bench.push(1, 1, 0.25f);
  CHECK(bench.w() == 1.0f);
  bench.push(1, 0, 0.5f);
  CHECK(bench.w() == 0.125f);
  std::vector<Sequence> order;
  for (const SettleReport& report : bench.to<SettleReport>(kCoordinator))
    for (const SettleEntry& entry : report.entries) order.push_back(entry.sequence);
  CHECK(order == std::vector<Sequence>{Sequence(0), Sequence(1), Sequence(2)});
}

TEST_CASE("a push stamped with a membership that is not known yet waits for it") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  bench.push(1, 0, 0.5f, 2);
  CHECK(bench.w() == 1.0f);
  bench.members(2, {Bench::active(1), Bench::active(2)});
  CHECK(bench.w() == 0.75f);
}

TEST_CASE("every subscriber rebuilds the shadow bit for bit, late ones too") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  for (std::uint64_t i = 0; i < 10; ++i) {
    if (i == 5) bench.subscribe(2);
    if (i >= 5) bench.push(2, i - 5, 0.3f);
    bench.push(1, i, 0.1f + static_cast<float>(i));
    bench.wait(1s);
  }
  Version first, second;
  const auto a = rebuild(bench, Bench::peer(1), first);
  const auto b = rebuild(bench, Bench::peer(2), second);
  CHECK(first == bench.core.values()->version());
  CHECK(second == first);
  CHECK(bits_equal(a, bench.core.values()->shadow()));
  CHECK(bits_equal(b, bench.core.values()->shadow()));

  SECTION("at rest the shadow is the parameters") {
    bench.tell(MessageReceived{kCoordinator, Rest{JobId(1)}});
    CHECK(bench.to<ShardAtRest>(kCoordinator).size() == 1);
    CHECK(bits_equal(bench.core.values()->shadow(), bench.core.values()->w()));
    CHECK(bits_equal(rebuild(bench, Bench::peer(2), second), bench.core.values()->w()));
  }
  SECTION("a subscriber that comes back is sent what has changed since its version") {
    const ChainId chain = bench.to<Assign>(Bench::peer(1))[0].header.chain;
    bench.tell(PeerClosed{Bench::peer(1), "lost", false});
    bench.push(2, 5, 0.7f);
    bench.wait(1s);
    bench.subscribe(1, chain, first);
    CHECK_FALSE(bench.to<Assign>(Bench::peer(1)).back().whole);
    CHECK(bits_equal(rebuild(bench, Bench::peer(1), first), bench.core.values()->shadow()));
  }
}

TEST_CASE("a subscriber that does not keep up is skipped and caught up once") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.subscribe(2);
  const std::size_t enough = (std::size_t{32} << 20) / (kSize * sizeof(float)) + 100;
  for (std::uint64_t i = 0; i < enough; ++i) {
    bench.push(1, i, 0.001f);
    bench.push(2, i, 0.001f);
    // Worker 1 acknowledges at once, worker 2 never.
    for (const auto& [peer, tag] : std::exchange(bench.tags, {})) {
      if (peer == Bench::peer(1))
        bench.core.on_event(bench.now, MessageAcked{peer, tag});
      else
        bench.tags.emplace_back(peer, tag);
    }
    bench.collect();
  }
  Version first, second;
  CHECK(bits_equal(rebuild(bench, Bench::peer(1), first), bench.core.values()->shadow()));
  (void)rebuild(bench, Bench::peer(2), second);
  CHECK(second < first);
  for (const auto& [peer, tag] : std::exchange(bench.tags, {})) bench.tell(MessageAcked{peer, tag});
  CHECK(bits_equal(rebuild(bench, Bench::peer(2), second), bench.core.values()->shadow()));
  CHECK(second == first);
  CHECK(bench.core.counters().catch_ups == 1);
}

TEST_CASE("nothing of a fenced incarnation settles, and it may not come back") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.push(1, 1, 0.5f);
  bench.tell(MessageReceived{kCoordinator, Fence{JobId(1), IncarnationOrder(1)}});
  REQUIRE(bench.to<FenceDone>(kCoordinator).size() == 1);
  CHECK(bench.to<FenceDone>(kCoordinator)[0].next_sequence == Sequence(0));
  bench.push(1, 0, 0.5f);
  CHECK(bench.w() == 1.0f);
  bench.tell(PeerClosed{Bench::peer(1), "lost", false});
  bench.subscribe(1);
  CHECK(bench.to<ShardRefusal>(Bench::peer(1)).back().reason ==
        "worker incarnation 1 has been declared dead");
}

TEST_CASE("the sessions of a fenced incarnation are closed: no more versions pile up for it") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.subscribe(2);
  bench.tell(MessageReceived{kCoordinator, Fence{JobId(1), IncarnationOrder(1)}});
  CHECK(bench.closed == std::vector{Bench::peer(1)});
  const std::size_t before = bench.to<Publish>(Bench::peer(1)).size();
  bench.members(2, {Bench::active(2)});
  bench.push(2, 0, 0.5f);
  CHECK(bench.to<Publish>(Bench::peer(1)).size() == before);
  CHECK_FALSE(bench.to<Publish>(Bench::peer(2)).empty());
}

TEST_CASE("a deterministic job settles one push of every active worker at a time, in order of incarnation") {
  std::vector<float> results;
  for (const bool second_first : {false, true}) {
    Bench bench(true);
    bench.members(1, {Bench::active(1), Bench::active(2)});
    bench.subscribe(1);
    bench.subscribe(2);
    bench.push(second_first ? 2 : 1, 0, second_first ? 0.2f : 0.1f);
    CHECK(bench.w() == 1.0f);
    bench.push(second_first ? 1 : 2, 0, second_first ? 0.1f : 0.2f);
    CHECK(bench.core.values()->version() == Version(1));
    results.push_back(bench.w());
  }
  CHECK(std::bit_cast<std::uint32_t>(results[0]) == std::bit_cast<std::uint32_t>(results[1]));
}

TEST_CASE(
    "reports that the coordinator has not confirmed are sent again when it is back, under their numbers") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  bench.push(1, 0, 0.5f);
  bench.confirm();
  bench.push(1, 1, 0.5f);
  bench.acknowledge(kCoordinator);  // to have arrived is not enough
  const auto before = bench.to<SettleReport>(kCoordinator);
  REQUIRE(before.size() == 2);
  bench.tell(PeerClosed{kCoordinator, "lost", true});
  bench.push(1, 2, 0.5f);
  bench.tell(PeerConnected{kCoordinator, {}});
  const auto reports = bench.to<SettleReport>(kCoordinator);
  REQUIRE(reports.size() == 4);
  CHECK(reports[2].number == before[1].number);
  CHECK(reports[2].entries.at(0).sequence == Sequence(1));
  CHECK(reports[3].number > reports[2].number);
  CHECK(reports[3].entries.at(0).sequence == Sequence(2));
  // What confirms the first of them confirms no other.
  bench.tell(MessageReceived{kCoordinator, SettleConfirmed{JobId(1), reports[2].number}});
  bench.tell(MessageReceived{kCoordinator, SettleConfirmed{JobId(2), reports[3].number}});
  CHECK(bench.core.occupancy().unconfirmed_entries == 1);
  CHECK(bench.to<RegisterShard>(kCoordinator).back().job == JobId(1));
}

TEST_CASE("a job that begins again is opened anew, and what was loaded for its first beginning is nothing") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  OpenShard again{JobId(1), "", {}, ShardIndex(1), kSize, 2 * kSize, 5};
  again.key = 1;
  bench.tell(MessageReceived{kCoordinator, again});
  CHECK(bench.core.values() == nullptr);
  bench.tell(ShardCore::ShardLoaded{JobId(1), bench.start()});
  CHECK(bench.core.values() == nullptr);
  bench.tell(ShardCore::ShardLoaded{JobId(1), bench.start(), 1});
  CHECK(bench.core.values() != nullptr);
  CHECK(bench.to<ShardOpened>(kCoordinator).size() == 2);
}

TEST_CASE("a push of the wrong size or coding is refused and changes nothing") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  Push push;
  push.job = JobId(1);
  push.order = IncarnationOrder(1);
  push.epoch = MembershipEpoch(1);
  push.coding = 1;
  push.payload = SharedBytes::take(std::vector<float>(kSize - 1, 1.0f));
  bench.tell(MessageReceived{Bench::peer(1), push});
  push.coding = 9;
  bench.tell(MessageReceived{Bench::peer(1), push});
  CHECK(bench.w() == 1.0f);
  CHECK(bench.core.counters().malformed == 2);
  CHECK(bench.to<ShardRefusal>(Bench::peer(1)).back().reason ==
        "a payload in coding 9, which does not exist");
}

TEST_CASE("an assignment speaks of its version, not of what has settled since") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.push(1, 0, 0.5f);  // worker 2's round is missing: settled, not published
  REQUIRE(bench.w() == 0.75f);
  bench.subscribe(2);
  const Assign assign = bench.to<Assign>(Bench::peer(2)).back();
  CHECK(floats(assign.payload)[0] == 1.0f);
  for (const Verdict& verdict : assign.header.verdicts) CHECK(verdict.next_sequence == Sequence(0));
  for (const MemberClock& member : assign.header.active) CHECK(member.clock == Round(0));
}

TEST_CASE("a fenced worker stays in the gate until a membership takes it out") {
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.tell(MessageReceived{kCoordinator, Fence{JobId(1), IncarnationOrder(2)}});
  bench.push(1, 0, 0.5f);
  bench.wait(1s);
  CHECK(bench.to<Publish>(Bench::peer(1)).back().header.active.size() == 2);
  bench.members(2, {Bench::active(1), {IncarnationOrder(2), {}, MemberState::kDead, {}}});
  CHECK(bench.to<Publish>(Bench::peer(1)).back().header.active.size() == 1);
}

TEST_CASE("a flush is exact, in dense float32, and moves no clock") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  Push flush;
  flush.job = JobId(1);
  flush.order = IncarnationOrder(1);
  flush.epoch = MembershipEpoch(1);
  flush.coding = 1;
  flush.payload = SharedBytes::take(std::vector<float>(kSize, 0.25f));
  bench.tell(MessageReceived{Bench::peer(1), flush});
  CHECK(bench.w() == 0.75f);
  CHECK(bench.core.ledger(IncarnationOrder(1))->clock() == Round(0));
}

TEST_CASE("who has made the initial values itself is sent what has changed since; who has made others, all") {
  const std::uint64_t right = initial_fingerprint(std::vector<float>(kSize, 1.0f));
  std::vector<float> others(kSize, 1.0f);
  others[kSize - 1] = 1.0000001f;
  Bench bench;
  bench.members(1, {Bench::active(1), Bench::active(2), Bench::active(3), Bench::active(4)});
  bench.subscribe(1, {}, {}, right);
  bench.subscribe(2, {}, {}, initial_fingerprint(others));
  bench.subscribe(3);
  const Assign begins = bench.to<Assign>(Bench::peer(1)).at(0);
  CHECK_FALSE(begins.whole);
  CHECK(begins.from_version == Version(0));
  CHECK(begins.payload.empty());
  CHECK(begins.header.chain != ChainId());
  for (const std::uint64_t order : {2, 3}) {
    CHECK(bench.to<Assign>(Bench::peer(order)).at(0).whole);
    CHECK(bench.to<Assign>(Bench::peer(order)).at(0).payload.size() == kSize * sizeof(float));
  }
  bench.push(1, 0, 0.5f);
  bench.wait(std::chrono::seconds(1));
  bench.subscribe(4, {}, {}, right);
  const Assign late = bench.to<Assign>(Bench::peer(4)).at(0);
  CHECK_FALSE(late.whole);
  CHECK(late.header.version == bench.core.values()->version());
  CHECK(floats(late.payload).front() == bench.core.values()->shadow().front());
  // On another chain it has something else than these.
  bench.tell(PeerClosed{Bench::peer(4), "lost", false});
  bench.subscribe(4, ChainId(77), Version(1), right);
  CHECK(bench.to<Assign>(Bench::peer(4)).back().whole);
}

TEST_CASE("every session of a worker hears that its push is settled") {
  Bench bench;
  bench.members(1, {Bench::active(1)});
  bench.subscribe(1);
  const PeerId left_behind(50);
  bench.tell(PeerConnected{left_behind, {}});
  bench.tell(
      MessageReceived{left_behind, Subscribe{JobId(1), IncarnationOrder(1), incarnation(1), {}, {}, {}}});
  bench.push(1, 0, 0.5f);
  REQUIRE(bench.to<PushAck>(Bench::peer(1)).size() == 1);
  CHECK(bench.to<PushAck>(left_behind).size() == 1);
}

TEST_CASE(
    "in lockstep a returning subscriber hears every version, and a step is rounds of all or flushes of all") {
  Bench bench(true);
  bench.members(1, {Bench::active(1), Bench::active(2)});
  bench.subscribe(1);
  bench.subscribe(2);
  for (std::uint64_t i = 0; i < 3; ++i) {
    bench.push(1, i, 0.5f);
    bench.push(2, i, 0.5f);
  }
  const ChainId chain = bench.to<Publish>(Bench::peer(1)).back().header.chain;
  bench.tell(PeerClosed{Bench::peer(1), "lost", false});
  const std::size_t heard = bench.to<Publish>(Bench::peer(1)).size();
  bench.subscribe(1, chain, Version(1));
  CHECK(bench.to<Publish>(Bench::peer(1)).size() == heard + 2);
  CHECK(bench.to<Publish>(Bench::peer(1)).back().header.version == Version(3));

  Push flush;
  flush.job = JobId(1);
  flush.order = IncarnationOrder(1);
  flush.sequence = Sequence(3);
  flush.epoch = MembershipEpoch(1);
  flush.coding = 1;
  flush.payload = SharedBytes::take(std::vector<float>(kSize, 0.5f));
  bench.tell(MessageReceived{Bench::peer(1), flush});
  bench.push(2, 3, 0.5f);
  CHECK(bench.core.values()->version() == Version(3));  // who flushes is about to leave
  bench.members(2, {Bench::active(2), {IncarnationOrder(1), incarnation(1), MemberState::kIdle, {}}});
  CHECK(bench.core.counters().settled == 8);
}

TEST_CASE("a cut and a version name the living only, however many have died before") {
  Bench bench;
  for (std::uint64_t order = 1; order <= kMembersMax + 10; ++order) {
    bench.members(order, {Bench::active(order)});
    bench.tell(MessageReceived{kCoordinator, Fence{JobId(1), IncarnationOrder(order)}});
  }
  bench.members(kMembersMax + 11, {Bench::active(2000)});
  bench.subscribe(2000);
  bench.tell(MessageReceived{kCoordinator, TakeCut{JobId(1), CutId(1)}});
  const CutTaken cut = bench.to<CutTaken>(kCoordinator).at(0);
  REQUIRE(cut.settled.size() == 1);
  CHECK(cut.settled[0].order == IncarnationOrder(2000));
  CHECK(bench.to<Assign>(Bench::peer(2000)).back().header.verdicts.size() == 1);
  for (const auto& [peer, message] : bench.sent) CHECK(decode_message(encode_message(message)).ok());
}
