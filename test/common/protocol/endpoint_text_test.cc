// Goal: an endpoint on all addresses becomes one that can be dialled. Method: a table.
#include "common/protocol/endpoint_text.h"

#include "test/support/catch.h"

using namespace nanduti;

TEST_CASE("a wildcard host is replaced by the host that is known to work, anything else stays") {
  const std::string seen = "tcp://10.1.2.3:7070";
  CHECK(dialable("tcp://0.0.0.0:7071", seen) == "tcp://10.1.2.3:7071");
  CHECK(dialable("tcp://[::]:7071", "tcp://[2001:db8::1]:7070") == "tcp://[2001:db8::1]:7071");
  CHECK(dialable("tcp://*:7071", "tcp://ny.example:7070") == "tcp://ny.example:7071");
  CHECK(dialable("tcp://10.9.9.9:7071", seen) == "tcp://10.9.9.9:7071");
  CHECK(dialable("tcp://0.0.0.0:7071", "coordinator") == "tcp://0.0.0.0:7071");
  CHECK(dialable("shard", seen) == "shard");
  CHECK(dialable("tcp:", seen) == "tcp:");
}
