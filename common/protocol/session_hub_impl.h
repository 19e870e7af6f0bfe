#pragma once

#include <string>
#include <vector>

#include "common/protocol/session_hub.h"
#include "common/protocol/session_table.h"

namespace nanduti {

/// What is between the files of SessionHub: session_hub.cc (frames and messages of sessions that are there),
/// session_accept.cc (sessions that others open), session_dial.cc (sessions that this side opens).
/// A function that takes a Session may end it where it says so; nobody touches the session after that.
struct SessionHub::Impl {
  Impl(std::uint32_t own_destination, const SessionOptions& session_options, RandomStream random_stream)
      : destination(own_destination), options(session_options), random(random_stream) {}

  // ---- session_hub.cc ----
  void on_frame(ProtocolTime now, RouteId route, const Frame& frame);
  void on_session_frame(ProtocolTime now, RouteId route, Session& session, const Frame& frame);  // may end it
  void receive(ProtocolTime now, Session& session, std::size_t index, const Frame& frame);       // may end it
  void send(ProtocolTime now, const SendMessage& request);
  void on_deadline(ProtocolTime now);
  /// Sends what the links have to send, or the last word of a session that has been flushed: may end it.
  void pump(ProtocolTime now, Session& session);
  /// Brings what the table knows of the session up to date.
  void update(ProtocolTime now, Session& session) { table.update(session, deadline_of(now, session)); }
  [[nodiscard]] ProtocolTime deadline_of(ProtocolTime now, const Session& session) const;
  /// Ends sessions until all of them together hold no more than they may.
  void release_held(ProtocolTime now);
  /// The session is lost here; a dialled one starts over if `again`. Ends it.
  void lose(ProtocolTime now, Session& session, std::string reason, bool again);
  /// As lose(), and the other side is told why. Ends it.
  void break_off(ProtocolTime now, Session& session, const std::string& reason, bool again);
  /// As lose(), and the other side finds out by itself, so that it comes back if it can. Ends it.
  void let_go(ProtocolTime now, Session& session, std::string reason);
  void erase(Session& session);  // ends it
  void send_close(ProtocolTime now, Session& session, const std::string& reason);
  void note_bound(Session& session);
  void transmit(RouteId route, Frame frame);
  void transmit(ProtocolTime now, Session& session, std::size_t index, Frame frame);
  [[nodiscard]] LinkOptions link_options(const Session& session, std::size_t stream) const;
  [[nodiscard]] static Duration unloaded_round_trip(const Session& session);

  // ---- session_accept.cc ----
  void on_hello(ProtocolTime now, RouteId route, const Frame& frame);
  Session* accept(ProtocolTime now, RouteId route, const Frame& frame);
  bool make_room(ProtocolTime now);
  [[nodiscard]] std::string mismatch(const Hello& hello) const;
  void answer(RouteId route, const Frame& request, FrameKind kind, std::string text);
  void note_heard(ProtocolTime now, SessionStream& stream) const;
  /// False if it has ended the session.
  bool keep_accepted(ProtocolTime now, Session& session);
  [[nodiscard]] ProtocolTime accepted_deadline(ProtocolTime now, const Session& session) const;
  [[nodiscard]] ProtocolTime stall_deadline(ProtocolTime now, const SessionStream& stream) const;

  // ---- session_dial.cc ----
  void begin(ProtocolTime now, Session& session);
  void restart(ProtocolTime now, Session& session);
  void dial(ProtocolTime now, Session& session, std::size_t index);
  void hang_up(Session& session);
  void send_hello(ProtocolTime now, Session& session, std::size_t index);
  void on_hello_accepted(ProtocolTime now, Session& session, std::size_t index, const Frame& frame);
  void ping(ProtocolTime now, Session& session, std::size_t index);
  void keep_dialled(ProtocolTime now, Session& session);
  [[nodiscard]] ProtocolTime dialled_deadline(const Session& session) const;

  std::uint32_t destination;
  SessionOptions options;
  RandomStream random;
  std::optional<Admission> admission;
  SessionTable table;
  std::uint64_t next_accepted_peer = kFirstAcceptedPeer.value();
  std::uint64_t next_route = std::uint64_t{1} << 32;
  std::vector<SessionEvent> events;
  std::vector<TransportRequest> requests;
  Counters counters;
};

}  // namespace nanduti
