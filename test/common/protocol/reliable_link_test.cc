// Goal: what one end of a stream holds for the other is bounded in bytes and in count.
// Method: one link, fed with frames by hand.
#include "common/protocol/reliable_link.h"

#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

TEST_CASE("frames beyond a gap are held up to a count, however small they are, and come again later") {
  ReliableLink link({});
  Frame frame;
  frame.kind = FrameKind::kData;
  frame.message_header = encode_message(Leave{}).header;
  for (frame.sequence = 1; frame.sequence <= 5000; ++frame.sequence) link.on_frame(ProtocolTime(1h), frame);
  CHECK(link.take_counts().beyond_credit == 5000 - 4095);
  frame.sequence = 0;
  link.on_frame(ProtocolTime(1h), frame);
  CHECK(link.take_messages().size() == 4096);
  for (frame.sequence = 4096; frame.sequence <= 5000; ++frame.sequence)
    link.on_frame(ProtocolTime(1h), frame);
  CHECK(link.take_messages().size() == 5000 - 4095);
}
