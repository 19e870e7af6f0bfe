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
  std::size_t payload_bytes_max = 0;  ///< of a message that the server may send
};
/// Ends a session. Messages already sent are still delivered where `flush`, for a bounded time. No event
/// follows, whatever still comes.
struct ClosePeer {
  PeerId peer;
  std::string reason;
  bool flush = false;
};

/// What hellos must name to be accepted, and what those who are may send.
struct Admission {
  JobId job;
  std::uint64_t layout_hash = 0;
  std::size_t worker_payload_bytes_max = 0;  ///< of a message of a worker
  std::size_t shard_payload_bytes_max = 0;   ///< of a message of a shard
};

inline constexpr PeerId kFirstAcceptedPeer{std::uint64_t{1} << 32};

// ---- what the transport is asked for ----

/// Connect to the endpoint and call the connection `route`; reconnect by itself if it breaks.
struct DialRoute {
  RouteId route;
  std::string endpoint;
  bool bulk = false;  ///< for the log
  /// An attempt to connect that has no answer by then is made anew.
  Duration answer_within = std::chrono::seconds(2);
};
struct HangUpRoute {
  RouteId route;
};
struct TransmitFrame {
  RouteId route;
  Frame frame;
};
using TransportRequest = std::variant<DialRoute, HangUpRoute, TransmitFrame>;

/// Timing and limits of sessions. What goes beyond a limit is counted by SessionHub::Counters.
struct SessionOptions {
  Duration heartbeat = std::chrono::seconds(1);  ///< a ping after this long without sending
  /// Dialler: hang up and dial a stream again after this long a silence...
  Duration redial_after = std::chrono::seconds(5);
  /// ...doubling up to this until an answer to more than a hello has come.
  Duration redial_after_max = std::chrono::seconds(30);
  /// Acceptor: a session that is silent on all its streams is closed.
  Duration forget_after = std::chrono::seconds(120);
  /// Acceptor: a session is closed, silently, when for so long it has neither bound another of its streams
  /// nor sent anything but hellos.
  Duration unfinished_after = std::chrono::seconds(10);
  /// Acceptor: a peer that is heard, but takes nothing of what is in flight to it for so long, is closed,
  /// silently: it may come back as a new session.
  Duration stalled_after = std::chrono::seconds(120);
  /// Where nothing comes back, a frame is sent again, adapting to the measured round trip, backing off
  /// between these. What is missing is sent again when something newer has arrived (ReliableLink).
  Duration resend_min = std::chrono::milliseconds(200);
  Duration resend_max = std::chrono::seconds(5);
  std::size_t control_credit_bytes = std::size_t{4} << 20;
  /// >= 2 bandwidth-delay products of the fastest path: 45 MB at 1 Gbit/s and 180 ms. On others the link
  /// itself keeps less in flight.
  std::size_t bulk_credit_bytes = std::size_t{64} << 20;
  /// Unsent and unacknowledged bytes, and messages and frames, of one peer; beyond: it is closed.
  std::size_t queue_bytes_max = std::size_t{1} << 30;
  std::size_t queue_entries_max = std::size_t{1} << 17;
  /// The same of all peers together; beyond: the one with the most is closed, silently. Messages to several
  /// peers may share their payload and are counted for each.
  std::size_t total_queue_bytes_max = std::size_t{16} << 30;
  /// Received bytes that make no whole message yet, of all peers; beyond: the one with the most is closed.
  std::size_t total_held_bytes_max = std::size_t{16} << 30;
  /// Sessions at once. With so many that are finished, hellos of new ones are not answered.
  std::size_t sessions_max = 4096;
  /// Of those, unfinished ones; beyond: the oldest one of them goes.
  std::size_t unfinished_max = 1024;
};

/// All sessions of one core: accepts hellos, dials servers, and turns messages into frames and back exactly
/// once and in order per stream. No I/O, threads or clock: frames and time go in, transport requests and
/// events come out. An event costs what the sessions cost that it concerns, however many there are.
///
/// A route carries one stream of one session: a dialler makes a new one for every dial. A stream is on the
/// route that its newest hello came from; what still arrives from older ones counts as well.
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
    std::uint64_t bytes_acked = 0;  ///< of what was sent: what the other sides have said to have

    // Frames, or what they carried, that changed nothing.
    std::uint64_t dropped_duplicate = 0;
    std::uint64_t dropped_gap = 0;  ///< further ahead than credit and count allow; it comes again
    std::uint64_t dropped_unknown_session = 0;
    std::uint64_t dropped_malformed = 0;      ///< a message that does not decode
    std::uint64_t dropped_bad_stream = 0;     ///< a stream that the session does not have
    std::uint64_t dropped_bad_hello = 0;      ///< contradicts itself or its session
    std::uint64_t dropped_old_hello = 0;      ///< overtaken by a newer one of the same stream
    std::uint64_t dropped_not_admitting = 0;  ///< a hello while nothing is admitted
    std::uint64_t dropped_no_room = 0;        ///< a hello of a new session while all are finished ones
    std::uint64_t dropped_wrong_route = 0;    ///< from a route that carries another stream, or none any more
    std::uint64_t dropped_wrong_side = 0;     ///< a kind of frame that this side does not take
    std::uint64_t dropped_not_connected = 0;  ///< data before all streams were bound; it comes again
    std::uint64_t dropped_ack_of_unsent = 0;
    std::uint64_t dropped_ack_outdated = 0;
    std::uint64_t dropped_after_fault = 0;   ///< data on a stream that is being closed for a fault
    std::uint64_t messages_to_nobody = 0;    ///< sent to a peer that is not connected
    std::uint64_t messages_after_close = 0;  ///< received from a peer that the core has closed

    std::uint64_t hellos_refused = 0;     ///< by this side
    std::uint64_t refused_by_server = 0;  ///< of this side
    std::uint64_t redials = 0;            ///< of a stream
    std::uint64_t restarts = 0;           ///< of a dialled session that was lost
    std::uint64_t route_changes = 0;      ///< of an accepted stream

    // Sessions closed by this side, and why.
    std::uint64_t sessions_overfull = 0;    ///< queue_bytes_max, queue_entries_max
    std::uint64_t sessions_over_total = 0;  ///< total_queue_bytes_max, total_held_bytes_max
    std::uint64_t sessions_forgotten = 0;   ///< forget_after
    std::uint64_t sessions_unfinished = 0;  ///< unfinished_after
    std::uint64_t sessions_displaced = 0;   ///< unfinished_max, sessions_max
    std::uint64_t sessions_stalled = 0;     ///< stalled_after
    std::uint64_t sessions_payload_too_large = 0;
    std::uint64_t sessions_payload_not_allowed = 0;
    std::uint64_t sessions_broken_cutting = 0;
    std::uint64_t messages_too_large = 0;  ///< to be sent: the session is closed

    /// All of them by name, for people.
    [[nodiscard]] std::vector<NamedCount> named() const;
  };
  [[nodiscard]] const Counters& counters() const;
  /// Bytes queued or unacknowledged towards a peer, all streams.
  [[nodiscard]] std::size_t outstanding_bytes(PeerId peer) const;
  /// Smoothed round trip of the session; 0 if not measured.
  [[nodiscard]] Duration round_trip(PeerId peer) const;
  /// Of single round trips from the smoothed one.
  [[nodiscard]] Duration round_trip_deviation(PeerId peer) const;
  /// What the ways to all peers but the first carry together, as streams have measured it of late while they
  /// had more to send; 0: on some way none has had.
  [[nodiscard]] double path_bytes_per_second() const;
  /// When a frame of the peer came last, on any stream; kNever without a session.
  [[nodiscard]] ProtocolTime last_heard(PeerId peer) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nanduti
