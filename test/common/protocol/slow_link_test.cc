// Goal: what is sent twice without need, and what waits in a link's queue, is little. Method: two ends of a
// stream over simulated links of a rate and a delay, which lose nothing and keep the order, as TCP does.

#include "common/base/random.h"
#include "common/protocol/session_hub.h"
#include "test/common/protocol/link_world.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

constexpr double kMbit = 1e6 / 8;

LinkOptions bulk_options() {
  LinkOptions options;
  options.credit_bytes = SessionOptions().bulk_credit_bytes;
  return options;
}

}  // namespace

TEST_CASE("where bulk begins in both directions of a slow link, little is sent twice") {
  for (const double mbit : {5.0, 20.0, 100.0}) {
    const LinkPath path{mbit * kMbit, 90ms};
    LinkWorld world(path, path, bulk_options());
    // Both have measured the empty link.
    for (int i = 0; i < 20; ++i) {
      world.ends[0].link.queue(encode_message(Leave{}), 0);
      world.ends[1].link.queue(encode_message(Leave{}), 0);
      world.run(1s);
    }
    for (auto& end : world.ends) end.sends = true;
    world.run(60s);
    for (const auto& end : world.ends) {
      INFO(mbit << " Mbit/s: " << end.resent << " frames resent, " << end.sent_bytes << " bytes sent, "
                << end.queued_bytes_max << " queued");
      CHECK(end.resent * kChunkBytesMax <= std::size_t{2} << 20);
    }
  }
}
