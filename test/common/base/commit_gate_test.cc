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

TEST_CASE("what follows a change waits for the record that is to hold it") {
  CommitGate<int> gate;
  gate.on_appended();
  gate.on_owed();  // the record that is being written does not hold it
  CHECK_FALSE(gate.pass(1));
  CHECK(gate.on_durable(1).empty());
  CHECK(gate.needed() == 2);
  gate.on_owed();  // nor is this another one
  CHECK_FALSE(gate.pass(2));
  gate.on_appended();
  CHECK(gate.on_durable(2) == std::vector<int>{1, 2});
  CHECK(gate.pass(3));
}

}  // namespace
}  // namespace nanduti
