// Goal: what comes from the network is a message within its limits, or an error (P8).
// Method: frames, messages, and valid messages with damaged bytes. What decodes is within the limits and
// survives another trip: its encoding decodes to a message with the same encoding.
#include "common/base/check.h"
#include "common/protocol/frame.h"
#include "common/protocol/message.h"
#include "common/protocol/printable_text.h"
#include "test/common/protocol/any_message.h"
#include "test/fuzz/fuzz_input.h"
#include "test/fuzz/message_input.h"

namespace nanduti {
namespace {

void check_text(const std::string& text, std::size_t bytes_max) {
  // Every byte that is not printable may have become a '?', of one byte: texts do not grow.
  NANDUTI_CHECK(text.size() <= bytes_max, "a text of {} bytes", text.size());
  NANDUTI_CHECK(printable_text(text) == text, "a text that is not printable");
}
void check_header(const VersionHeader& h) {
  NANDUTI_CHECK(h.active.size() <= kMembersMax && h.verdicts.size() <= kMembersMax);
  for (const Verdict& verdict : h.verdicts) NANDUTI_CHECK(verdict.returned.size() <= kReturnedMax);
}

/// The limits of message.h, for whatever fields a message has.
template <class M>
void check_limits(const M& m) {
  if constexpr (requires { m.name; }) check_text(m.name, kNameBytesMax);
  if constexpr (requires { m.site; }) check_text(m.site, kNameBytesMax);
  if constexpr (requires { m.device; }) check_text(m.device, kNameBytesMax);
  if constexpr (requires { m.server_name; }) check_text(m.server_name, kNameBytesMax);
  if constexpr (requires { m.endpoint; }) check_text(m.endpoint, kNameBytesMax);
  if constexpr (requires { m.hardware; }) check_text(m.hardware, kTextBytesMax);
  if constexpr (requires { m.reason; }) check_text(m.reason, kTextBytesMax);
  if constexpr (requires { m.spec_text; }) NANDUTI_CHECK(m.spec_text.size() <= kTextBytesMax);
  if constexpr (requires { m.payload; }) NANDUTI_CHECK(m.payload.size() <= kPayloadBytesMax);
  if constexpr (requires { m.members; }) NANDUTI_CHECK(m.members.size() <= kMembersMax);
  if constexpr (requires { m.settled; }) NANDUTI_CHECK(m.settled.size() <= kMembersMax);
  if constexpr (requires { m.returned; }) NANDUTI_CHECK(m.returned.size() <= kReturnedMax);
  if constexpr (requires { m.header; }) check_header(m.header);
  if constexpr (requires { m.range; }) NANDUTI_CHECK(m.range.begin <= m.range.end);
  if constexpr (requires {
                  m.begin;
                  m.end;
                })
    NANDUTI_CHECK(m.begin <= m.end);
  if constexpr (requires { m.entries; }) {
    NANDUTI_CHECK(m.entries.size() <= kSettleEntriesMax);
    for (const SettleEntry& entry : m.entries) NANDUTI_CHECK(entry.range.begin <= entry.range.end);
  }
  if constexpr (requires { m.shards; }) {
    NANDUTI_CHECK(m.shards.size() <= kShardsMax);
    for (const ShardPlace& place : m.shards) {
      check_text(place.endpoint, kNameBytesMax);
      NANDUTI_CHECK(place.begin <= place.end);
    }
  }
  if constexpr (requires { m.ranges; }) {
    std::uint64_t reached = 0;
    for (const AssignedRange& range : m.ranges) {
      NANDUTI_CHECK(reached <= range.begin && range.begin < range.end);
      reached = range.end;
    }
  }
}

/// Everything is in its place, and a second trip changes nothing.
void check_decoded(const Message& message) {
  std::visit([](const auto& m) { check_limits(m); }, message);
  const EncodedMessage encoded = encode_message(message);
  const Result<Message> again = decode_message(encoded);
  NANDUTI_CHECK(again.ok(), "{} does not decode any more: {}", message_name(message), again.error().message);
  const EncodedMessage second = encode_message(*again);
  NANDUTI_CHECK(equal_bytes(encoded.header, second.header) && equal_bytes(encoded.payload, second.payload),
                "{} becomes another one", message_name(message));
}

void try_message(const EncodedMessage& encoded) {
  const Result<Message> message = decode_message(encoded);
  if (message.ok()) return check_decoded(*message);
  NANDUTI_CHECK(message.error().code == ErrorCode::kCorrupt && !message.error().message.empty());
}

void try_frame(const EncodedFrame& encoded) {
  const Result<Frame> decoded = decode_frame(encoded);
  if (!decoded.ok()) {
    NANDUTI_CHECK(decoded.error().code == ErrorCode::kCorrupt && !decoded.error().message.empty());
    return;
  }
  const Frame& frame = *decoded;
  NANDUTI_CHECK(frame.chunk.size() <= kChunkBytesMax);
  NANDUTI_CHECK(frame.chunk_offset <= frame.message_payload_bytes);
  NANDUTI_CHECK(frame.message_payload_bytes <= kPayloadBytesMax);
  NANDUTI_CHECK(frame.held.size() <= kHeldRangesMax);
  check_text(frame.text, kTextBytesMax);
  check_text(frame.hello.name, kNameBytesMax);
  check_text(frame.hello.program_version, kNameBytesMax);
  const EncodedFrame once = encode_frame(frame);
  const Result<Frame> again = decode_frame(once);
  NANDUTI_CHECK(again.ok(), "a frame does not decode any more: {}", again.error().message);
  NANDUTI_CHECK(equal_bytes(once.header, encode_frame(*again).header), "a frame becomes another one");
  if (!frame.message_header.empty()) try_message({frame.message_header, frame.chunk});
}

/// A valid message, then the same with up to 4 bytes changed, or cut off.
void try_drawn(FuzzInput input) {
  AnyMessageFrom any(input, 16);
  const std::size_t type = input.below(AnyMessageFrom<FuzzInput>::kTypes);
  const EncodedMessage encoded = encode_message(any.draw(type));
  try_message(encoded);
  const auto view = encoded.header.view();
  std::vector<std::byte> damaged(view.begin(), view.end());
  for (std::uint64_t changes = input.below(5); changes > 0; --changes)
    damaged[input.below(damaged.size())] = static_cast<std::byte>(input.byte());
  if (input.flag()) damaged.resize(input.below(damaged.size()));
  try_message({SharedBytes::take(std::move(damaged)), encoded.payload});
}

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nanduti;
  FuzzInput input(data, size);
  const auto kind = static_cast<MessageInput>(input.byte() % kMessageInputs);
  if (kind == MessageInput::kDrawn) {
    try_drawn(input);
    return 0;
  }
  const std::size_t payload = std::min<std::size_t>(input.below(65536), input.remaining());
  const SharedBytes header = FuzzInput::own(input.bytes(input.remaining() - payload));
  const SharedBytes rest = FuzzInput::own(input.rest());
  if (kind == MessageInput::kMessage)
    try_message({header, rest});
  else
    try_frame({header, rest});
  return 0;
}
