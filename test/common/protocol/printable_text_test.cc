// Goal: what a peer calls itself, or gives as a reason, cannot write over a terminal or break a JSON file.
// Method: texts by hand, alone and through a message and a hello.
#include "common/protocol/printable_text.h"

#include "common/protocol/frame.h"
#include "common/protocol/message.h"
#include "test/support/catch.h"

using namespace nanduti;

TEST_CASE("control characters and invalid UTF-8 become question marks, the rest stays") {
  CHECK(printable_text("Ñandutí, 24 Kerne, 東京 🕸") == "Ñandutí, 24 Kerne, 東京 🕸");
  CHECK(printable_text("") == "");
  CHECK(printable_text("a\n\t\x1b[2J\x7f") == "a???[2J?");
  CHECK(printable_text(std::string_view("\0x", 2)) == "?x");
  CHECK(printable_text("\xc2\x9b") == "??");            // a control character of two bytes
  CHECK(printable_text("\xc0\xaf") == "??");            // overlong
  CHECK(printable_text("\xe0\x80\xaf") == "???");       // overlong
  CHECK(printable_text("\xed\xa0\x80") == "???");       // a surrogate
  CHECK(printable_text("\xf4\x90\x80\x80") == "????");  // beyond Unicode
  CHECK(printable_text("x\xf0\x9f\x95") == "x???");     // cut off
  CHECK(printable_text("\x80\xff") == "??");
}

TEST_CASE("texts of peers are printable once they are decoded; a job's YAML is left as it is") {
  const auto pass = [](const Message& message) { return decode_message(encode_message(message)).value(); };
  IncarnationId id;
  id.words = {1, 1};
  const auto worker = std::get<RegisterWorker>(pass(RegisterWorker{"a\n", "b\r", id, "c\x1b", "d\xff"}));
  CHECK(worker.name == "a?");
  CHECK(worker.site == "b?");
  CHECK(worker.device == "c?");
  CHECK(worker.hardware == "d?");
  const auto shard = std::get<RegisterShard>(pass(RegisterShard{"a\n", "tcp://\x01", 1, "d\xff", JobId()}));
  CHECK(shard.server_name == "a?");
  CHECK(shard.endpoint == "tcp://?");
  CHECK(shard.hardware == "d?");
  CHECK(std::get<JobRefused>(pass(JobRefused{JobId(1), "no\x1b"})).reason == "no?");
  CHECK(std::get<PrepareJob>(pass(PrepareJob{JobId(1), "a:\n  b"})).spec_text == "a:\n  b");

  Frame frame;
  frame.kind = FrameKind::kHello;
  frame.hello.name = "w\n";
  frame.hello.program_version = "1\x1b";
  const Frame decoded = decode_frame(encode_frame(frame)).value();
  CHECK(decoded.hello.name == "w?");
  CHECK(decoded.hello.program_version == "1?");
  frame = Frame();
  frame.kind = FrameKind::kClose;
  frame.text = "x\x1b";
  CHECK(decode_frame(encode_frame(frame)).value().text == "x?");
}
