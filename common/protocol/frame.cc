#include "common/protocol/frame.h"

#include <cstring>
#include <vector>

#include "common/protocol/aligned_vector.h"
#include "common/protocol/message.h"
#include "common/protocol/messages_generated.h"
#include "common/protocol/printable_text.h"

namespace nanduti {

EncodedFrame encode_frame(const Frame& frame) {
  flatbuffers::FlatBufferBuilder builder(128 + frame.message_header.size());
  flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> message_header = 0;
  if (!frame.message_header.empty()) {
    builder.ForceVectorAlignment(frame.message_header.size(), 1, 8);
    message_header = builder.CreateVector(reinterpret_cast<const std::uint8_t*>(frame.message_header.data()),
                                          frame.message_header.size());
  }
  flatbuffers::Offset<wire::Hello> hello = 0;
  if (frame.kind == FrameKind::kHello) {
    const Hello& h = frame.hello;
    hello = wire::CreateHello(builder, h.protocol_version, h.codec_format,
                              builder.CreateString(h.program_version), static_cast<std::uint8_t>(h.role),
                              builder.CreateString(h.name), h.job.value(), h.layout_hash, h.stream_count,
                              h.resumes, h.number);
  }
  flatbuffers::Offset<flatbuffers::String> text = 0;
  if (!frame.text.empty()) text = builder.CreateString(frame.text);
  flatbuffers::Offset<flatbuffers::Vector<const wire::Span*>> held = 0;
  if (!frame.held.empty()) {
    std::vector<wire::Span> spans;
    for (const HeldRange& range : frame.held) spans.emplace_back(range.begin, range.end);
    held = builder.CreateVectorOfStructs(spans);
  }
  const wire::Id128 session(frame.session.words[0], frame.session.words[1]);
  builder.Finish(wire::CreateFrame(
      builder, frame.destination, &session, frame.stream.value(), static_cast<std::uint8_t>(frame.kind),
      frame.sequence, frame.message_payload_bytes, frame.chunk_offset, frame.chunk.size(), message_header,
      frame.next_expected, frame.credit_bytes, hello, text, frame.acceptance, frame.attempt,
      frame.answered_attempt, frame.transmission, frame.newest_transmission, held));
  const auto detached = std::make_shared<flatbuffers::DetachedBuffer>(builder.Release());
  const auto* bytes = reinterpret_cast<const std::byte*>(detached->data());
  return {SharedBytes(detached, {bytes, detached->size()}), frame.chunk};
}

Result<Frame> decode_frame(const EncodedFrame& encoded) {
  const auto corrupt = [](const char* what) {
    return make_error(ErrorCode::kCorrupt, "a frame's {} is outside its limits", what);
  };
  SharedBytes header = encoded.header;
  if (reinterpret_cast<std::uintptr_t>(header.data()) % 8 != 0) {
    std::vector<std::uint64_t> copy((header.size() + 7) / 8);
    std::memcpy(copy.data(), header.data(), header.size());
    header = SharedBytes::take(std::move(copy)).slice(0, header.size());
  }
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(header.data());
  flatbuffers::Verifier verifier(bytes, header.size(), 8, 64);
  if (header.size() < 8 || !verifier.VerifyBuffer<wire::Frame>(nullptr))
    return make_error(ErrorCode::kCorrupt, "a frame is not a well-formed FlatBuffer");
  const wire::Frame& t = *flatbuffers::GetRoot<wire::Frame>(bytes);
  Frame frame;
  if (t.session() == nullptr) return corrupt("session");
  if (t.kind() < 1 || t.kind() > static_cast<std::uint8_t>(FrameKind::kClose)) return corrupt("kind");
  if (t.chunk_bytes() != encoded.chunk.size() || encoded.chunk.size() > kChunkBytesMax)
    return corrupt("chunk");
  if (t.message_payload_bytes() > kPayloadBytesMax || t.chunk_offset() > t.message_payload_bytes() ||
      t.chunk_bytes() > t.message_payload_bytes() - t.chunk_offset())
    return corrupt("chunk_offset");
  frame.destination = t.destination();
  frame.session.words = {t.session()->high(), t.session()->low()};
  frame.stream = StreamIndex(t.stream());
  frame.kind = static_cast<FrameKind>(t.kind());
  frame.sequence = t.sequence();
  frame.message_payload_bytes = t.message_payload_bytes();
  frame.chunk_offset = t.chunk_offset();
  frame.chunk = encoded.chunk;
  frame.next_expected = t.next_expected();
  frame.credit_bytes = t.credit_bytes();
  frame.acceptance = t.acceptance();
  frame.attempt = t.attempt();
  frame.answered_attempt = t.answered_attempt();
  frame.transmission = t.transmission();
  frame.newest_transmission = t.newest_transmission();
  if (const auto* held = t.held()) {
    if (held->size() > kHeldRangesMax || !is_aligned(*held)) return corrupt("held");
    std::uint64_t end = frame.next_expected;  // a gap is before every run
    for (const wire::Span* span : *held) {
      if (span->begin() <= end || span->end() <= span->begin()) return corrupt("held");
      end = span->end();
      frame.held.push_back({span->begin(), span->end()});
    }
  }
  if (const auto* m = t.message_header()) {
    const auto offset = static_cast<std::size_t>(m->data() - bytes);
    frame.message_header = header.slice(offset, m->size());
  }
  if ((frame.kind == FrameKind::kData) != (frame.message_header.size() + frame.chunk.size() > 0))
    return corrupt("content");
  // A data frame may be kept for a while: it is charged for its message's header, so it holds little beside.
  if (frame.message_header.size() > kMessageHeaderBytesMax) return corrupt("message_header");
  if (frame.kind == FrameKind::kData && header.size() > frame.message_header.size() + kFrameFieldsBytesMax)
    return corrupt("size");
  if (t.text() != nullptr) {
    if (frame.kind != FrameKind::kHelloRefused && frame.kind != FrameKind::kClose) return corrupt("text");
    if (t.text()->size() > kTextBytesMax) return corrupt("text");
    frame.text = printable_text(t.text()->string_view());
  }
  if (frame.kind == FrameKind::kHello) {
    const wire::Hello* h = t.hello();
    if (h == nullptr) return corrupt("hello");
    if (h->role() < 1 || h->role() > 2) return corrupt("hello.role");
    if (h->stream_count() < 1) return corrupt("hello.stream_count");
    const auto short_text = [](const flatbuffers::String* s) {
      return s == nullptr ? std::string() : printable_text(s->string_view().substr(0, kNameBytesMax));
    };
    frame.hello = {h->protocol_version(),
                   h->codec_format(),
                   short_text(h->program_version()),
                   static_cast<PeerRole>(h->role()),
                   short_text(h->name()),
                   JobId(h->job()),
                   h->layout_hash(),
                   h->stream_count(),
                   h->resumes(),
                   h->number()};
  }
  return frame;
}

}  // namespace nanduti
