#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/named_count.h"
#include "common/base/protocol_time.h"
#include "common/base/random.h"
#include "common/protocol/frame.h"
#include "common/protocol/message.h"

namespace nanduti {

// ---- what a core hears ----

/// A session is open: a peer said hello to us, or the peer we dialled accepted ours. After a PeerClosed that
/// is redialling it comes again.
struct PeerConnected {
  PeerId peer;
  Hello hello;  ///< the other side's where it dialled, our own where we did
};
/// The session is gone with everything queued in it (refused, closed by the other side, silent for too long,
/// unknown to the server). A dialled peer that was not refused or closed is being dialled again, and
/// PeerConnected will follow.
struct PeerClosed {
  PeerId peer;
  std::string reason;
  bool redialling = false;
};
struct MessageReceived {
  PeerId peer;
  Message message;
};
/// The other side has the message that was sent with this tag.
struct MessageAcked {
  PeerId peer;
  std::uint64_t tag = 0;
};
using SessionEvent = std::variant<PeerConnected, PeerClosed, MessageReceived, MessageAcked>;

// ---- what a core asks for; every core's Action variant contains these ----

/// Messages of one peer and stream arrive in order and once while the session lives.
struct SendMessage {
  PeerId peer;
  StreamIndex stream;
  Message message;
  std::uint64_t tag = 0;  ///< not 0: MessageAcked follows
};
/// Opens a session to a server. The core picks `peer`, below kFirstAcceptedPeer and not in use.
struct OpenPeer {
  PeerId peer;
  std::string endpoint;
  std::uint32_t destination = kCoordinatorDestination;
  Hello hello;
};
/// Ends a session. Messages already sent are still delivered where `flush`, for a bounded time. No event
/// follows.
struct ClosePeer {
  PeerId peer;
  std::string reason;
  bool flush = false;
};

/// What hellos must name to be accepted.
struct Admission {
  JobId job;
  std::uint64_t layout_hash = 0;
};

inline constexpr PeerId kFirstAcceptedPeer{std::uint64_t{1} << 32};

// ---- what the transport is asked for ----

/// Connect to the endpoint and call the connection `route`; reconnect by itself if it breaks.
struct DialRoute {
  RouteId route;
  std::string endpoint;
  bool bulk = false;  ///< for the log
};
struct HangUpRoute {
  RouteId route;
};
struct TransmitFrame {
  RouteId route;
  Frame frame;
};
using TransportRequest = std::variant<DialRoute, HangUpRoute, TransmitFrame>;

/// Timing and limits of sessions.
struct SessionOptions {
  Duration heartbeat = std::chrono::seconds(1);  ///< a ping after this long without sending
  Duration redial_after =
      std::chrono::seconds(5);  ///< dialler: hang up and dial again after this long a silence...
  Duration redial_after_max = std::chrono::seconds(30);  ///< ...doubling up to this while it does not help
  Duration forget_after = std::chrono::seconds(120);     ///< acceptor: a silent session is closed
  Duration resend_min =
      std::chrono::milliseconds(200);             ///< unacknowledged frames are sent again, adapting to the
  Duration resend_max = std::chrono::seconds(5);  ///< measured round trip, backing off between these
  std::size_t control_credit_bytes = std::size_t{4} << 20;
  std::size_t bulk_credit_bytes = std::size_t{32}
                                  << 20;  ///< >= 2 bandwidth-delay products: 2.25 MB per 100 Mbit/s at 180 ms
  std::size_t queue_bytes_max = std::size_t{1}
                                << 30;  ///< unsent and unacknowledged bytes of one peer; beyond: closed
  std::size_t sessions_max = 4096;      ///< accepted at once
};

/// All sessions of one core: accepts hellos, dials servers, and turns messages into frames and back exactly
/// once and in order per stream. No I/O, threads or clock: frames and time go in, transport requests and
/// events come out.
class SessionHub {
 public:
  /// Routes that the hub dials are numbered from 2^32; the transport numbers accepted ones below.
  SessionHub(std::uint32_t own_destination, const SessionOptions& options, RandomStream random);
  ~SessionHub();
  SessionHub(SessionHub&&) noexcept;
  SessionHub& operator=(SessionHub&&) noexcept;

  /// From now on hellos are accepted if they name this. Without one every hello is answered by silence (not
  /// ready). Sessions of another job stay until closed.
  void set_admission(const std::optional<Admission>& admission);

  void open(ProtocolTime now, const OpenPeer& request);
  void close(ProtocolTime now, const ClosePeer& request);
  /// To a peer that is not connected: dropped (its PeerClosed has been or will be delivered), and counted.
  void send(ProtocolTime now, const SendMessage& request);

  void on_frame(ProtocolTime now, RouteId route, const Frame& frame);
  void on_deadline(ProtocolTime now);
  [[nodiscard]] ProtocolTime next_deadline() const;

  std::vector<SessionEvent> take_events();
  std::vector<TransportRequest> take_requests();

  struct Counters {
    std::uint64_t frames_sent = 0, frames_received = 0, frames_resent = 0;
    std::uint64_t bytes_sent = 0, bytes_received = 0;  ///< payload and message headers, resends included
    std::uint64_t dropped_duplicate = 0, dropped_gap = 0, dropped_unknown_session = 0, dropped_malformed = 0;
    std::uint64_t hellos_refused = 0, redials = 0, messages_to_nobody = 0;
    std::uint64_t sessions_overfull = 0;  ///< closed: too much came before all their streams were bound

    /// All of them by name, for people.
    [[nodiscard]] std::vector<NamedCount> named() const;
  };
  [[nodiscard]] const Counters& counters() const;
  /// Bytes queued or unacknowledged towards a peer, all streams.
  [[nodiscard]] std::size_t outstanding_bytes(PeerId peer) const;
  /// Smoothed round trip of the session; 0 if not measured.
  [[nodiscard]] Duration round_trip(PeerId peer) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nanduti
