// Goal: statuses carry what the host has counted since the worker took the job, and none is lost at the end.
// Method: one ClientCore, with the coordinator's messages made by hand.
#include "test/support/catch.h"
#include "test/worker/client/client_bench.h"
#include "worker/client/client_core.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

std::vector<Message> sent_by(ClientCore& core) {
  std::vector<Message> sent;
  for (auto& action : core.take_actions())
    if (auto* send = std::get_if<SendMessage>(&action)) sent.push_back(send->message);
  return sent;
}

}  // namespace

TEST_CASE("a status carries the job's own traffic; the last one comes when the job ends") {
  ProtocolTime now{1h};
  ClientCore core({}, RandomStream(1));
  core.on_event(now, PeerConnected{kCoordinator, {}});
  core.set_traffic({1000, 5000, 0.18});
  core.on_event(now, MessageReceived{kCoordinator, PrepareJob{JobId(4), "x"}});
  core.set_traffic({1010, 5200, 0.2});
  (void)core.take_actions();
  now = core.next_deadline();
  core.on_deadline(now);
  std::vector<Message> sent = sent_by(core);
  REQUIRE(sent.size() == 1);
  const auto& status = std::get<WorkerStatus>(sent[0]);
  CHECK(status.job == JobId(4));
  CHECK(status.bytes_up == 10);
  CHECK(status.bytes_down == 200);
  CHECK(status.round_trip_seconds == 0.2);

  core.set_traffic({1100, 6000, 0.2});
  core.on_event(now, MessageReceived{kCoordinator, EndJob{JobId(4), "the job is done"}});
  sent = sent_by(core);
  REQUIRE(sent.size() == 1);
  CHECK(std::get<WorkerStatus>(sent[0]).job == JobId(4));
  CHECK(std::get<WorkerStatus>(sent[0]).bytes_up == 100);

  // Without a job it says so and counts nothing.
  core.on_deadline(core.next_deadline());
  sent = sent_by(core);
  REQUIRE(sent.size() == 1);
  CHECK(std::get<WorkerStatus>(sent[0]).job == JobId());
  CHECK(std::get<WorkerStatus>(sent[0]).bytes_up == 0);
}

TEST_CASE("a worker that drains says what it did before it leaves") {
  const ProtocolTime now{1h};
  ClientCore core({}, RandomStream(1));
  core.on_event(now, PeerConnected{kCoordinator, {}});
  core.on_event(now, MessageReceived{kCoordinator, PrepareJob{JobId(4), "x"}});
  core.set_traffic({7, 8, 0});
  (void)core.take_actions();
  core.on_event(now, ClientCore::DrainRequested{});
  const std::vector<Message> sent = sent_by(core);
  REQUIRE(sent.size() == 3);
  CHECK(std::holds_alternative<Draining>(sent[0]));
  CHECK(std::get<WorkerStatus>(sent[1]).bytes_up == 7);
  CHECK(std::holds_alternative<Leave>(sent[2]));
}

TEST_CASE("a status tells what is no part of a round from what is: shadows and cuts") {
  constexpr std::uint64_t kBytes = ClientBench::kSize * sizeof(float);
  ClientBench bench;
  bench.join();
  CHECK(bench.status().exact_bytes_down == 0);
  bench.send_shadow();
  CHECK(bench.status().exact_bytes_down == kBytes);
  bench.hear(kCoordinator, EvaluationLease{JobId(1), LeaseId(1), CutId(1), 0, 10});
  bench.hear(bench.peers[0], CutValues{JobId(1), CutId(1), SharedBytes::take(std::vector<float>(4096))});
  CHECK(bench.status().exact_bytes_down == kBytes + kBytes / 2);
  bench.lend(10);
  bench.finish_round();
  CHECK(bench.status().exact_bytes_up == 0);
}

TEST_CASE("a worker asks for samples while it has fewer before it than the coordinator says") {
  ClientBench bench;
  bench.join();
  bench.send_shadow();
  const auto asked = [&] { return bench.to<LeaseRequest>(kCoordinator).size(); };
  CHECK(asked() == 1);
  bench.lend(50, 1, 60);  // a round of 10 is computed, and one is offered
  CHECK(asked() == 2);
  bench.lend(30, 2, 60);
  CHECK(asked() == 2);
  bench.finish_round();
  CHECK(asked() == 3);
  bench.lend(5, 3, 5);  // the end is near
  for (int round = 0; round < 5; ++round) bench.finish_round();
  CHECK(asked() == 3);
  bench.finish_round();
  CHECK(asked() == 4);
}
