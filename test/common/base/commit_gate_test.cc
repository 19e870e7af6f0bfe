// Goal: nothing overtakes, and nothing leaves before the records that it depends on. Method: by hand.
#include "common/base/commit_gate.h"

#include "test/support/catch.h"

namespace nanduti {
namespace {

TEST_CASE("what follows a record waits until it is durable, in order") {
  CommitGate<int> gate;
  CHECK(gate.pass(1));
  gate.on_appended();
  CHECK_FALSE(gate.pass(2));
  CHECK_FALSE(gate.pass(3));
  gate.on_appended();
  CHECK_FALSE(gate.pass(4));
  CHECK(gate.on_durable(1) == std::vector<int>{2, 3});
  CHECK_FALSE(gate.pass(5));  // it does not overtake 4
  gate.drop_if([](int action) { return action == 4; });
  CHECK(gate.on_durable(2) == std::vector<int>{5});
  CHECK(gate.pass(6));
}

}  // namespace
}  // namespace nanduti
