#include "test/sim/wire_checker.h"

#include "test/sim/trace.h"

namespace nanduti::sim {

void WireChecker::on_sent(const Frame& frame, bool up) {
  const Session session(frame.session.words[0], frame.session.words[1]);
  if (frame.kind == FrameKind::kHelloAccepted) {
    // An acceptor that begins the session anew ends it: the other side starts over under another name.
    const auto [it, is_new] = acceptances_.try_emplace(session, frame.acceptance);
    if (!is_new && it->second != frame.acceptance) over_.insert(session);
  }
  if (over_.contains(session)) return;
  if (frame.kind != FrameKind::kData) return;
  Direction& direction = directions_[key(frame, up)];
  if (frame.sequence < direction.next) return;  // once more
  if (frame.sequence != direction.next)
    fail("data frame {} is sent where {} is next", frame.sequence, direction.next);
  ++direction.next;
  const std::size_t bytes = frame.message_header.size() + frame.chunk.size();
  direction.in_flight.emplace(frame.sequence, bytes);
  direction.bytes += bytes;
  if (direction.bytes > direction.credit && direction.in_flight.size() > 1)
    fail("P7: {} bytes are in flight on stream {}, the credit is {}", direction.bytes, frame.stream,
         direction.credit);
}

void WireChecker::on_arrived(const Frame& frame, bool up) {
  switch (frame.kind) {
    case FrameKind::kHelloRefused:
    case FrameKind::kUnknownSession:
    case FrameKind::kClose:
      return;  // they acknowledge nothing
    default:
      break;
  }
  if (over_.contains({frame.session.words[0], frame.session.words[1]})) return;
  Direction& direction = directions_[key(frame, !up)];
  direction.credit = frame.credit_bytes;
  while (!direction.in_flight.empty() && direction.in_flight.begin()->first < frame.next_expected) {
    direction.bytes -= direction.in_flight.begin()->second;
    direction.in_flight.erase(direction.in_flight.begin());
  }
}

}  // namespace nanduti::sim
