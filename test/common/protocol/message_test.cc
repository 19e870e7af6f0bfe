// Goal: what is encoded is decoded again, and bytes that are not a message change nothing (P8).
// Method: round trips; every bit of small messages flipped; truncation at every length; fields beyond limits.
#include "common/protocol/message.h"

#include <cstring>

#include "common/base/random.h"
#include "common/protocol/frame.h"
#include "test/support/catch.h"

using namespace nanduti;

namespace {

SharedBytes bytes_of(std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(i * 37);
  return SharedBytes::take(std::move(bytes));
}

std::vector<Message> examples() {
  const DataDescription data{60000, 10000, 1, 28, 28, 10, 99};
  const SampleRange range{DataEpoch(2), 64, 128};
  const JobId job(5);
  IncarnationId id;
  id.words = {1, 2};
  VersionHeader header{job,
                       Term(1),
                       ChainId(8),
                       Version(9),
                       MembershipEpoch(3),
                       {{IncarnationOrder(1), Round(2), Round(3)}},
                       {{IncarnationOrder(1), Sequence(4), {{Sequence(2), 0}, {Sequence(3), 255}}}}};
  return {RegisterWorker{"w", "asuncion", id, "cpu", "a processor"},
          JobPrepared{job, data, 77},
          JobRefused{job, "no data"},
          LeaseRequest{job},
          LeaseReturn{job, LeaseId(4), range},
          EvaluationDone{job, LeaseId(4), 9, 10, 1.5},
          WorkerStatus{
              job, Round(4), 64, 2.5, 1, {.5, .25, .125, .1}, 1.5, .75, .25, 10, 20, 3, true, .18, 4, .2, .4},
          ResidualFlushed{job},
          Draining{},
          Leave{},
          Registered{IncarnationOrder(6)},
          PrepareJob{job, "model: {}"},
          JoinJob{job, 77, {{"tcp://127.0.0.1:7070", ShardIndex(0), 1, 0, 4096}}},
          LeaseGrant{job, LeaseId(4), range, MembershipEpoch(2), Round(7)},
          NoLease{job},
          EvaluationLease{job, LeaseId(4), CutId(2), 0, 100},
          FlushResidual{job},
          EndJob{job, "done"},
          Fenced{"too slow"},
          RegisterShard{"nyc", "tcp://127.0.0.1:7070", 1, "a processor", job},
          ShardOpened{job},
          ShardFailed{job, "no memory"},
          SettleReport{job, {{IncarnationOrder(1), Sequence(2), Round(3), LeaseId(4), range, 255, 7}}},
          FenceDone{job, IncarnationOrder(1), Sequence(4)},
          CutTaken{job, CutId(2), Version(3), {{IncarnationOrder(1), Sequence(2), Round(3)}}, bytes_of(16)},
          ShardAtRest{job, Version(3)},
          OpenShard{job, "model: {}", data, ShardIndex(1), 4096, 8192, 77, 99},
          Membership{job, MembershipEpoch(2), {{IncarnationOrder(1), id, MemberState::kActive, Round(3)}}},
          Fence{job, IncarnationOrder(1)},
          TakeCut{job, CutId(2)},
          ReleaseCut{job, CutId(2)},
          Rest{job},
          CloseShard{job},
          Subscribe{job, IncarnationOrder(1), id, ChainId(8), Version(9), Sequence(4), Round(3), 5},
          Push{job, IncarnationOrder(1), Sequence(4), Round(5), MembershipEpoch(3), Version(9), LeaseId(4),
               range, 1, Round(5), 1, Sequence(2), bytes_of(64)},
          FetchCut{job, CutId(2)},
          Subscribed{job, Sequence(4)},
          PushAck{job, AckLevel::kDurableHere, Sequence(4), {{Sequence(3), 128}}},
          Publish{header, 1, bytes_of(64)},
          Assign{header, Version(1), false, {{0, 4}, {8, 12}}, bytes_of(32)},
          CutValues{job, CutId(2), bytes_of(8)},
          ShardRefusal{job, "fenced", CutId(8)},
          Tune{job, 3, Round(17), 8u, 512, "staleness: {}\n"},
          Tuned{job, 3, Round(18)},
          SettleConfirmed{job, 12}};
}

SharedBytes copy(const SharedBytes& bytes) {
  std::vector<std::byte> out(bytes.view().begin(), bytes.view().end());
  return SharedBytes::take(std::move(out));
}

bool same(const SharedBytes& a, const SharedBytes& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace

TEST_CASE("every kind of message survives the wire") {
  const std::vector<Message> all = examples();
  REQUIRE(all.size() == std::variant_size_v<Message>);
  for (std::size_t i = 0; i < all.size(); ++i) {
    INFO(message_name(all[i]));
    REQUIRE(all[i].index() == i);
    const EncodedMessage encoded = encode_message(all[i]);
    const Result<Message> decoded = decode_message(encoded);
    REQUIRE(decoded.ok());
    const EncodedMessage again = encode_message(*decoded);
    CHECK(decoded->index() == i);
    CHECK(same(encoded.header, again.header));
    CHECK(same(encoded.payload, again.payload));
  }
}

TEST_CASE("messages with nothing in their lists survive the wire") {
  for (const Message& message :
       {Message(JoinJob{}), Message(SettleReport{}), Message(CutTaken{}), Message(Membership{}),
        Message(PushAck{}), Message(Publish{}), Message(Assign{})}) {
    INFO(message_name(message));
    CHECK(decode_message(encode_message(message)).ok());
  }
}

TEST_CASE("a message with any one bit flipped is an error or another valid message") {
  for (const Message& message : examples()) {
    const EncodedMessage encoded = encode_message(message);
    for (std::size_t bit = 0; bit < encoded.header.size() * 8; ++bit) {
      std::vector<std::byte> bytes(encoded.header.view().begin(), encoded.header.view().end());
      bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      const Result<Message> decoded = decode_message({SharedBytes::take(std::move(bytes)), encoded.payload});
      if (decoded.ok()) (void)encode_message(*decoded);
    }
  }
}

TEST_CASE("a message cut short is an error") {
  for (const Message& message : examples()) {
    const EncodedMessage encoded = encode_message(message);
    for (std::size_t size = 0; size + 8 < encoded.header.size(); ++size)
      (void)decode_message({copy(encoded.header.slice(0, size)), encoded.payload});
    CHECK_FALSE(decode_message({copy(encoded.header.slice(0, 4)), encoded.payload}).ok());
  }
}

TEST_CASE("fields beyond their limits are named") {
  const auto error_of = [](const Message& message) {
    const Result<Message> decoded = decode_message(encode_message(message));
    return decoded.ok() ? std::string("no error") : decoded.error().message;
  };
  CHECK(error_of(RegisterWorker{std::string(257, 'x'), "", {}, "", ""}) ==
        "RegisterWorker: name is outside its limits");
  CHECK(error_of(EvaluationDone{JobId(1), LeaseId(1), 11, 10, 0}) ==
        "EvaluationDone: correct is outside its limits");
  CHECK(error_of(LeaseReturn{JobId(1), LeaseId(1), {DataEpoch(0), 9, 3}}) ==
        "LeaseReturn: samples is outside its limits");
  CHECK(error_of(Assign{{}, Version(1), false, {{4, 8}, {6, 9}}, bytes_of(28)}) ==
        "Assign: ranges is outside its limits");
  CHECK(error_of(Assign{{}, Version(1), false, {{4, 8}}, bytes_of(12)}) ==
        "Assign: ranges is outside its limits");
  CHECK(error_of(CutValues{JobId(1), CutId(1), bytes_of(7)}) == "CutValues: payload is outside its limits");
  WorkerStatus status;
  status.stall.gate = -1;
  CHECK(error_of(status) == "WorkerStatus: stall_gate is outside its limits");
  // What is applied as a whole does not return.
  CHECK(error_of(PushAck{JobId(1), AckLevel::kDurableHere, Sequence(2), {{Sequence(1), kAppliedWhole}}}) ==
        "PushAck: applied_parts is outside its limits");
  SettleEntry entry;
  entry.applied_parts = kAppliedWhole + 1;
  CHECK(error_of(SettleReport{JobId(1), {entry}}) == "SettleReport: applied_parts is outside its limits");
  EncodedMessage with_payload = encode_message(Rest{JobId(1)});
  with_payload.payload = bytes_of(4);
  CHECK(decode_message(with_payload).error().message == "Rest: carries a payload that it may not have");
}

TEST_CASE("frames survive the wire and broken ones are errors") {
  RandomStream random(5);
  Frame frame;
  frame.destination = 2;
  frame.session.words = {3, 4};
  frame.stream = StreamIndex(1);
  frame.kind = FrameKind::kData;
  frame.sequence = 9;
  frame.message_payload_bytes = 1000;
  frame.chunk_offset = 100;
  frame.message_header = bytes_of(24);
  frame.chunk = bytes_of(500);
  frame.next_expected = 7;
  frame.credit_bytes = 1 << 20;
  frame.attempt = 3;
  frame.answered_attempt = 2;
  frame.transmission = 11;
  frame.newest_transmission = 12;
  frame.held = {{8, 9}, {20, 1000}};
  const EncodedFrame encoded = encode_frame(frame);
  const Result<Frame> decoded = decode_frame(encoded);
  REQUIRE(decoded.ok());
  CHECK(decoded->session == frame.session);
  CHECK(decoded->chunk_offset == 100);
  CHECK(decoded->attempt == 3);
  CHECK(decoded->answered_attempt == 2);
  CHECK(decoded->transmission == 11);
  CHECK(decoded->newest_transmission == 12);
  CHECK(decoded->held == frame.held);
  CHECK(same(decoded->message_header, frame.message_header));
  CHECK(same(decoded->chunk, frame.chunk));
  CHECK_FALSE(decode_frame({encoded.header, bytes_of(499)}).ok());
  for (std::size_t bit = 0; bit < encoded.header.size() * 8; ++bit) {
    std::vector<std::byte> bytes(encoded.header.view().begin(), encoded.header.view().end());
    bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    (void)decode_frame({SharedBytes::take(std::move(bytes)), encoded.chunk});
  }
}

TEST_CASE("runs of frames that are held lie beyond a gap, in order, and are few") {
  Frame frame;
  frame.kind = FrameKind::kAck;
  frame.next_expected = 7;
  const auto is_taken = [&](const std::vector<HeldRange>& held) {
    frame.held = held;
    return decode_frame(encode_frame(frame)).ok();
  };
  CHECK(is_taken({{8, 9}}));
  CHECK(is_taken({{8, 9}, {10, 12}, {~std::uint64_t{0} - 1, ~std::uint64_t{0}}}));
  CHECK_FALSE(is_taken({{7, 9}}));
  CHECK_FALSE(is_taken({{6, 7}}));
  CHECK_FALSE(is_taken({{8, 8}}));
  CHECK_FALSE(is_taken({{9, 8}}));
  CHECK_FALSE(is_taken({{10, 12}, {8, 9}}));
  CHECK_FALSE(is_taken({{8, 9}, {9, 10}}));
  std::vector<HeldRange> many;
  for (std::uint64_t i = 0; i < kHeldRangesMax; ++i) many.push_back({8 + 2 * i, 9 + 2 * i});
  CHECK(is_taken(many));
  many.push_back({100, 101});
  CHECK_FALSE(is_taken(many));
}

TEST_CASE("runs of frames that are held and not aligned are an error") {
  Frame frame;
  frame.kind = FrameKind::kAck;
  frame.next_expected = 7;
  frame.held = {{0x1111, 0x2222}, {0x3333, 0x4444}};
  const EncodedFrame encoded = encode_frame(frame);
  std::vector<std::byte> bytes(encoded.header.view().begin(), encoded.header.view().end());
  const auto read = [&]<class T>(std::size_t at, T value) {
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  };
  const auto write = [&]<class T>(std::size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  };
  // The vector of two runs becomes one of one run that begins four bytes further on.
  std::size_t runs = 0;
  while (read(runs, std::uint64_t{}) != 0x1111) runs += 8;
  std::size_t offset = 0;
  while (offset + read(offset, std::uint32_t{}) != runs - 4) offset += 4;
  write(offset, static_cast<std::uint32_t>(runs - offset));
  write(runs, std::uint32_t{1});
  write(runs + 4, std::uint64_t{0x1111});
  write(runs + 12, std::uint64_t{0x2222});
  const Result<Frame> decoded = decode_frame({SharedBytes::take(std::move(bytes)), encoded.chunk});
  REQUIRE_FALSE(decoded.ok());
  CHECK(decoded.error().message == "a frame's held is outside its limits");
}
