// Goal: what one end of a stream holds for the other is bounded in bytes and in count, whatever it says.
// Method: one link, fed with frames by hand, and with random ones.
#include "common/protocol/reliable_link.h"

#include <algorithm>

#include "common/base/random.h"
#include "test/support/catch.h"

using namespace nanduti;
using namespace std::chrono_literals;

namespace {

constexpr ProtocolTime kNow{1h};

SharedBytes zeros_of(std::size_t size) { return SharedBytes::take(std::vector<std::byte>(size)); }

Frame piece(std::uint64_t sequence, bool begins, std::uint64_t payload_bytes, std::uint64_t offset,
            std::size_t chunk_bytes) {
  Frame frame;
  frame.kind = FrameKind::kData;
  frame.sequence = sequence;
  if (begins) frame.message_header = encode_message(Push()).header;
  frame.message_payload_bytes = payload_bytes;
  frame.chunk_offset = offset;
  frame.chunk = zeros_of(chunk_bytes);
  return frame;
}

Frame ack(std::uint64_t next_expected, std::uint64_t credit) {
  Frame frame;
  frame.kind = FrameKind::kAck;
  frame.next_expected = next_expected;
  frame.credit_bytes = credit;
  return frame;
}

LinkFault fault_after(const std::vector<Frame>& frames, const LinkOptions& options = {}) {
  ReliableLink link(options);
  for (const Frame& frame : frames) link.on_frame(kNow, frame);
  return link.fault();
}

std::size_t data_frames(const std::vector<Frame>& frames) {
  return static_cast<std::size_t>(
      std::count_if(frames.begin(), frames.end(), [](const Frame& f) { return f.kind == FrameKind::kData; }));
}

}  // namespace

TEST_CASE("frames beyond a gap are held up to a count, however small they are, and come again later") {
  ReliableLink link({});
  Frame frame;
  frame.kind = FrameKind::kData;
  frame.message_header = encode_message(Leave{}).header;
  for (frame.sequence = 1; frame.sequence <= 5000; ++frame.sequence) link.on_frame(kNow, frame);
  CHECK(link.take_counts().beyond_credit == 5000 - 4095);
  frame.sequence = 0;
  link.on_frame(kNow, frame);
  CHECK(link.take_messages().size() == 4096);
  for (frame.sequence = 4096; frame.sequence <= 5000; ++frame.sequence) link.on_frame(kNow, frame);
  CHECK(link.take_messages().size() == 5000 - 4095);
}

TEST_CASE("frames beyond a gap are held up to the credit in bytes") {
  LinkOptions options;
  options.credit_bytes = 1'000'000;
  ReliableLink link(options);
  for (std::uint64_t i = 1; i <= 20; ++i) link.on_frame(kNow, piece(i, false, 1 << 30, 0, kChunkBytesMax));
  CHECK(link.held_bytes() == 7 * kChunkBytesMax);
  CHECK(link.take_counts().beyond_credit == 13);
}

TEST_CASE("pieces that are not cut as this side cuts them are a fault, and end the stream's data") {
  constexpr std::size_t kChunk = kChunkBytesMax;
  const Frame first = piece(0, true, 3 * kChunk, 0, kChunk);
  CHECK(fault_after({first, piece(1, false, 3 * kChunk, kChunk, kChunk)}) == LinkFault::kNone);
  const std::vector<std::pair<const char*, std::vector<Frame>>> broken = {
      {"a chunk of no message", {piece(0, false, 100, 0, 100)}},
      {"a tiny first chunk", {piece(0, true, 3 * kChunk, 0, 1)}},
      {"no first chunk", {piece(0, true, 3 * kChunk, 0, 0)}},
      {"a first chunk that is not the first", {piece(0, true, 3 * kChunk, kChunk, kChunk)}},
      {"a tiny chunk", {first, piece(1, false, 3 * kChunk, kChunk, 1)}},
      {"a chunk that comes twice", {first, piece(1, false, 3 * kChunk, 0, kChunk)}},
      {"a chunk left out", {first, piece(1, false, 3 * kChunk, 2 * kChunk, kChunk)}},
      {"another size", {first, piece(1, false, 4 * kChunk, kChunk, kChunk)}},
      {"another message in between", {first, piece(1, true, 10, 0, 10)}}};
  for (const auto& entry : broken) {
    INFO(entry.first);
    CHECK(fault_after(entry.second) == LinkFault::kBrokenCutting);
  }
  ReliableLink link({});
  link.on_frame(kNow, piece(0, false, 100, 0, 100));
  link.on_frame(kNow, piece(1, true, 100, 0, 100));
  CHECK(link.take_messages().empty());
  CHECK(link.take_counts().after_fault == 1);
}

TEST_CASE("a message larger than the stream may carry is a fault at its first frame") {
  LinkOptions options;
  options.payload_bytes_max = 300'000;
  CHECK(fault_after({piece(0, true, 300'000, 0, kChunkBytesMax)}, options) == LinkFault::kNone);
  CHECK(fault_after({piece(0, true, 300'001, 0, kChunkBytesMax)}, options) == LinkFault::kPayloadTooLarge);
  Frame without = piece(0, true, 300'000, 0, kChunkBytesMax);
  without.message_header = encode_message(WorkerStatus()).header;
  CHECK(fault_after({without}, options) == LinkFault::kPayloadNotAllowed);
  without.message_header = zeros_of(24);
  CHECK(fault_after({without}, options) == LinkFault::kPayloadNotAllowed);
}

TEST_CASE("a message that was only announced has no room: it is made for what comes, at most twice of it") {
  constexpr std::size_t kPayload = 100 * kChunkBytesMax;
  ReliableLink link({});
  for (std::uint64_t i = 0; i < 100; ++i) {
    REQUIRE(link.held_bytes() <= std::min(kPayload, 2 * i * kChunkBytesMax) + 4096);
    link.on_frame(kNow, piece(i, i == 0, kPayload, i * kChunkBytesMax, kChunkBytesMax));
  }
  CHECK(link.take_messages().size() == 1);
  CHECK(link.held_bytes() == 0);
}

TEST_CASE("random frames are held within credit and payload maximum, and acknowledge nothing unsent") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    RandomStream random(seed);
    LinkOptions options;
    options.credit_bytes = 400'000;
    options.payload_bytes_max = 500'000;
    ReliableLink link(options);
    for (std::uint64_t i = 0; i < 20; ++i) link.queue(encode_message(Leave{}), i + 1);
    std::uint64_t sequence = 0, offset = 0, total = 0, acked = 0;
    for (int i = 0; i < 400; ++i) {
      // Mostly what an honest sender would send next, with lies strewn in.
      const bool begins = offset == total;
      if (begins) total = random.below(500'000), offset = 0;
      const std::uint64_t chunk = std::min<std::uint64_t>(kChunkBytesMax, total - offset);
      Frame frame = piece(sequence, begins, total, offset, static_cast<std::size_t>(chunk));
      if (random.chance(0.2)) {
        frame.sequence += random.below(3) == 0 ? random.next_u64() : random.below(8);
        if (random.chance(0.02)) frame.chunk_offset = random.next_u64();
        if (random.chance(0.02)) frame.message_payload_bytes = random.next_u64();
      } else {
        ++sequence;
        offset += chunk;
      }
      frame.next_expected = random.below(3) == 0 ? random.next_u64() : random.below(25);
      frame.credit_bytes = random.below(3) == 0 ? random.next_u64() : random.below(1000);
      link.on_frame(kNow, frame);
      REQUIRE(link.held_bytes() <= options.credit_bytes + options.payload_bytes_max + 4096);
      acked += link.take_acked().size();
      (void)link.take_messages();
      (void)link.take_frames(kNow + std::chrono::milliseconds(i));
      REQUIRE(acked <= 20);
    }
    const ReliableLink::Counts counts = link.take_counts();
    REQUIRE(counts.acks_of_unsent > 0);
    REQUIRE(counts.acks_outdated > 0);
  }
}

TEST_CASE("without credit one frame at a time goes, and a giant credit counts for no more than the maximum") {
  ReliableLink link({});
  for (int i = 0; i < 20; ++i) link.queue(encode_message(Leave{}), 0);
  link.on_frame(kNow, ack(0, 0));
  CHECK(data_frames(link.take_frames(kNow)) == 1);
  link.on_frame(kNow, ack(1, 0));
  CHECK(data_frames(link.take_frames(kNow)) == 1);
  link.on_frame(kNow, ack(1, ~std::uint64_t{0}));
  CHECK(data_frames(link.take_frames(kNow)) == 18);

  ReliableLink bulk({});
  Push push;
  push.payload = zeros_of(std::size_t{200} << 20);
  for (int i = 0; i < 2; ++i) bulk.queue(encode_message(push), 0);
  // A path as fast as no other.
  bulk.on_frame(kNow, ack(0, ~std::uint64_t{0}));
  std::uint64_t taken = 0;
  for (int i = 0; i < 2; ++i) {
    taken += data_frames(bulk.take_frames(kNow + std::chrono::milliseconds(i)));
    bulk.on_frame(kNow + std::chrono::milliseconds(i + 1), ack(taken, ~std::uint64_t{0}));
  }
  std::size_t sent = 0;
  for (const Frame& frame : bulk.take_frames(kNow + 2ms)) sent += frame.chunk.size();
  CHECK(sent <= kCreditBytesMax);
  CHECK(sent > kCreditBytesMax - 2 * kChunkBytesMax);

  ReliableLink small({});
  for (int i = 0; i < 10'000; ++i) small.queue(encode_message(Leave{}), 0);
  small.on_frame(kNow, ack(0, ~std::uint64_t{0}));
  CHECK(data_frames(small.take_frames(kNow)) == kFramesInFlightMax);
}

TEST_CASE("an acknowledgement that a newer one has overtaken changes nothing") {
  ReliableLink link({});
  for (int i = 0; i < 10; ++i) link.queue(encode_message(Leave{}), 0);
  link.on_frame(kNow, ack(0, 0));
  CHECK(data_frames(link.take_frames(kNow)) == 1);
  link.on_frame(kNow, ack(1, 1'000'000));
  link.on_frame(kNow, ack(0, 0));  // late
  CHECK(data_frames(link.take_frames(kNow)) == 9);
  CHECK(link.take_counts().acks_outdated == 1);
}
