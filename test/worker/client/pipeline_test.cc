// Goal: the time in which nothing is computed is divided among its causes exactly once, and rounds' times
// from push to shadow are those of the slowest shard. Method: timelines by hand.
#include "test/support/catch.h"
#include "worker/client/stall_meter.h"
#include "worker/client/turnaround.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

ProtocolTime at(int milliseconds) { return ProtocolTime(std::chrono::milliseconds(milliseconds)); }

}  // namespace

TEST_CASE("a wait is divided among the causes that were named for it") {
  StallMeter meter;
  meter.set_cause(at(0), Wait::kGate);
  meter.on_work(at(100), at(200));  // the wait for the first round is none
  CHECK(meter.stall().sum() == 0);
  meter.set_cause(at(150), Wait::kMerge);  // while it computes
  meter.set_cause(at(210), Wait::kCodec);
  meter.set_cause(at(230), Wait::kGate);
  meter.set_cause(at(260), Wait::kNone);
  meter.set_cause(at(300), Wait::kData);
  meter.set_cause(at(350), Wait::kGate);  // the next round has begun already
  meter.on_work(at(305), at(400));
  CHECK(meter.stall().merge == Approx(0.010));
  CHECK(meter.stall().codec == Approx(0.020));
  CHECK(meter.stall().gate == Approx(0.030));
  CHECK(meter.stall().data == Approx(0.005));
  meter.on_work(at(420), at(500));  // still at the gate since 350
  CHECK(meter.stall().gate == Approx(0.050));
  meter.set_cause(at(500), Wait::kWindow);
  meter.on_work(at(507), at(600));
  CHECK(meter.stall().window == Approx(0.007));
  CHECK(meter.stall().sum() == Approx(0.092));
}

TEST_CASE("work that follows at once is no wait, and evaluations are work") {
  StallMeter meter;
  meter.set_cause(at(0), Wait::kMerge);
  meter.on_work(at(0), at(10));
  meter.on_work(at(10), at(30));
  meter.set_cause(at(31), Wait::kGate);
  meter.on_work(at(32), at(40));
  CHECK(meter.stall().merge == Approx(0.001));
  CHECK(meter.stall().gate == Approx(0.001));
}

TEST_CASE("a round is in flight until the shadow of every shard holds it") {
  Turnaround rounds(2);
  CHECK(rounds.percentile(0.5) == Duration::zero());
  rounds.on_pushed(at(0), Sequence(0));
  rounds.on_pushed(at(10), Sequence(1));
  rounds.on_settled(at(100), ShardIndex(0), Sequence(2));
  CHECK(rounds.in_flight() == 2);
  rounds.on_settled(at(180), ShardIndex(1), Sequence(1));
  CHECK(rounds.in_flight() == 1);
  rounds.on_settled(at(390), ShardIndex(1), Sequence(2));
  CHECK(rounds.in_flight() == 0);
  CHECK(rounds.percentile(0.5) == 180ms);
  CHECK(rounds.percentile(0.99) == 380ms);
  // The last ones count.
  for (std::uint64_t i = 0; i < Turnaround::kRoundsKept; ++i) {
    rounds.on_pushed(at(1000), Sequence(2 + i));
    for (std::uint32_t k = 0; k < 2; ++k) rounds.on_settled(at(1005), ShardIndex(k), Sequence(3 + i));
  }
  CHECK(rounds.percentile(0.99) == 5ms);
}
