#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <map>

#include "common/base/random.h"
#include "common/protocol/reliable_link.h"

namespace nanduti {

/// What one direction of a LinkWorld carries, as TCP would: in order, all of it unless told otherwise, as
/// fast as it goes.
struct LinkPath {
  double bytes_per_second = 2.5e6;
  Duration delay{0};
  /// What is lost comes after a pause, and what follows waits for it.
  double stall_chance = 0;  ///< of a frame
  Duration stall{0};
  double loss_chance = 0;  ///< of a data frame: it comes never
};

/// Two ends of a stream, joined by two paths with a queue each, in virtual time. Both send one message after
/// the other for as long as they are told to.
class LinkWorld {
 public:
  LinkWorld(const LinkPath& there, const LinkPath& back, const LinkOptions& options)
      : ends{End(options, there), End(options, back)} {}

  struct End {
    End(const LinkOptions& options, const LinkPath& link_path) : link(options), path(link_path) {}
    ReliableLink link;
    LinkPath path;  // away from here
    bool sends = false;
    std::uint64_t resent = 0;          // frames
    std::uint64_t lost = 0;            // frames
    std::uint64_t sent_bytes = 0;      // everything
    std::uint64_t received_bytes = 0;  // of messages
    std::size_t queued_bytes = 0;      // not yet through the bottleneck
    std::size_t queued_bytes_max = 0;
    ProtocolTime busy_until;
    ProtocolTime arrived;  // the last one
  };

  void run(Duration span) {
    const ProtocolTime end = now + span;
    for (;;) {
      for (std::size_t side = 0; side < 2; ++side) pump(side);
      ProtocolTime next = events.empty() ? kNever : events.begin()->first;
      for (const End& e : ends) next = std::min(next, e.link.next_deadline());
      if (next > end) break;
      now = std::max(now, next);
      while (!events.empty() && events.begin()->first <= now) {
        const std::function<void()> event = std::move(events.begin()->second);
        events.erase(events.begin());
        event();
      }
    }
    now = end;
  }

  /// Nothing moves until then, and nothing is lost.
  void outage(Duration span) {
    for (End& e : ends) e.busy_until = std::max(e.busy_until, now) + span;
  }
  void reset_maxima() {
    for (End& e : ends) e.queued_bytes_max = e.queued_bytes;
  }

  std::array<End, 2> ends;
  ProtocolTime now{std::chrono::hours(1)};
  std::size_t message_bytes = std::size_t{1} << 20;
  RandomStream random{1, 1};

 private:
  void pump(std::size_t side) {
    End& from = ends[side];
    if (from.sends) {
      while (from.link.outstanding_bytes() < kCreditBytesMax / 2) {
        Push push;
        push.payload = payload.slice(0, message_bytes);
        from.link.queue(encode_message(push), 0);
      }
    }
    for (Frame& frame : from.link.take_frames(now)) carry(side, std::move(frame));
    from.resent += from.link.take_counts().resent;
  }

  void carry(std::size_t side, Frame frame) {
    constexpr std::size_t kOverhead = 100;
    End& from = ends[side];
    const std::size_t bytes = frame.message_header.size() + frame.chunk.size() + kOverhead;
    from.sent_bytes += bytes;
    from.queued_bytes += bytes;
    from.queued_bytes_max = std::max(from.queued_bytes_max, from.queued_bytes);
    const Duration transfer(
        static_cast<std::int64_t>(static_cast<double>(bytes) / from.path.bytes_per_second * 1e9));
    from.busy_until = std::max(from.busy_until, now) + transfer;
    events.emplace(from.busy_until, [&from, bytes] { from.queued_bytes -= bytes; });
    if (frame.kind == FrameKind::kData && random.chance(from.path.loss_chance)) {
      ++from.lost;
      return;
    }
    ProtocolTime at = from.busy_until + from.path.delay;
    if (random.chance(from.path.stall_chance)) at += from.path.stall;
    from.arrived = std::max(from.arrived, at);
    events.emplace(from.arrived, [this, side, frame = std::move(frame)] {
      End& to = ends[1 - side];
      to.link.on_frame(now, frame);
      for (const EncodedMessage& message : to.link.take_messages())
        to.received_bytes += message.payload.size();
      (void)to.link.take_acked();
    });
  }

  std::multimap<ProtocolTime, std::function<void()>> events;
  SharedBytes payload = SharedBytes::take(std::vector<std::byte>(std::size_t{1} << 20));
};

}  // namespace nanduti
