// What one frame costs a hub that holds few or many sessions: a ping, its answer and the next deadline.
// Prints a line per number of sessions; the ratio between the lines is what matters.
#include <chrono>

#include <fmt/format.h>

#include "common/protocol/session_hub.h"

using namespace nanduti;

namespace {

Frame frame_of(FrameKind kind, std::uint64_t session) {
  Frame frame;
  frame.kind = kind;
  frame.session.words = {session, 1};
  frame.hello.protocol_version = kProtocolVersion;
  frame.hello.codec_format = kCodecFormat;
  frame.hello.number = 1;
  return frame;
}

double nanoseconds_per_frame(std::uint64_t sessions) {
  constexpr std::uint64_t kFrames = 20'000;
  SessionHub hub(0, {}, RandomStream(1));
  hub.set_admission(Admission{});
  ProtocolTime now(std::chrono::hours(1));
  for (std::uint64_t i = 1; i <= sessions; ++i) {
    hub.on_frame(now, RouteId(i), frame_of(FrameKind::kHello, i));
    hub.on_frame(now, RouteId(i), frame_of(FrameKind::kPing, i));
  }
  (void)hub.take_requests();
  (void)hub.take_events();
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < kFrames; ++i) {
    const std::uint64_t session = 1 + i % sessions;
    now += std::chrono::microseconds(10);
    hub.on_frame(now, RouteId(session), frame_of(FrameKind::kPing, session));
    if (hub.next_deadline() <= now) hub.on_deadline(now);
    (void)hub.take_requests();
  }
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
  return spent.count() / kFrames;
}

}  // namespace

int main() {
  for (const std::uint64_t sessions : {1, 10, 100, 1000, 4000})
    fmt::print("{:5} sessions: {:8.0f} ns a frame\n", sessions, nanoseconds_per_frame(sessions));
}
