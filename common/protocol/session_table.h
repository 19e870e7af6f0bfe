#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/protocol/reliable_link.h"
#include "common/protocol/session_hub.h"

namespace nanduti {

struct SessionStream {
  explicit SessionStream(const LinkOptions& options) : link(options) {}
  ReliableLink link;
  RouteId route;
  bool bound = false;
  std::uint64_t hello_number = 0;  // of the newest hello sent (dialled) or heard (accepted)
  ProtocolTime last_heard;
  ProtocolTime heard_since;  // no long silence since then
  ProtocolTime last_sent;
  ProtocolTime pinged_at = kNever;  // unanswered ping
  ProtocolTime dialled_at;
  std::uint32_t dials = 0;  // since an answer to more than a hello
  Duration redial_after{0};
};

struct Session {
  PeerId peer;
  SessionId id;
  bool dialled = false;
  bool connected = false;
  std::vector<SessionStream> streams;  // empty: dialled, and waiting for `restart_at`
  Hello hello;
  std::size_t payload_bytes_max = 0;
  std::optional<std::string> closing;
  ProtocolTime close_at = kNever;

  // dialled
  OpenPeer request;
  bool ever_accepted = false;
  std::uint64_t acceptance = 0;  // the acceptor's number of this session; 0: not heard yet
  ProtocolTime begun_at;
  ProtocolTime restart_at = kNever;
  Duration restart_after{0};

  // accepted
  bool finished = false;  // all streams bound, and more than hellos has come
  ProtocolTime unfinished_since;

  // What SessionTable knows of it.
  ProtocolTime deadline = kNever;
  std::size_t outstanding_bytes = 0;
  std::size_t held_bytes = 0;
};

/// The sessions of a hub, by peer, id and route, with what is known of all of them together. Owned and
/// touched by SessionHub only.
class SessionTable {
 public:
  using Place = std::pair<PeerId, std::size_t>;  // a session and the index of its stream

  [[nodiscard]] Session* find(PeerId peer);
  [[nodiscard]] const Session* find(PeerId peer) const;
  [[nodiscard]] Session* find(const SessionId& id);
  [[nodiscard]] std::size_t size() const { return sessions_.size(); }
  [[nodiscard]] const std::map<PeerId, Session>& sessions() const { return sessions_; }

  Session& add(Session session);
  void erase(Session& session);
  /// Gives the session this id instead of the one that it has.
  void rename(Session& session, const SessionId& id);
  /// Forgets the id: nothing more of that conversation is known.
  void unname(Session& session);

  /// The stream is on `route` from now on, and on no other.
  void bind(Session& session, std::size_t index, RouteId route);
  void unbind(Session& session, std::size_t index);
  /// What `route` carries.
  [[nodiscard]] std::optional<Place> at(RouteId route) const;

  void set_unfinished(const Session& session, bool unfinished);
  [[nodiscard]] std::size_t unfinished_count() const { return unfinished_.size(); }
  [[nodiscard]] Session* oldest_unfinished();

  /// To be called after whatever has changed a session: its deadline is this one now.
  void update(Session& session, ProtocolTime deadline);
  [[nodiscard]] ProtocolTime next_deadline() const;
  /// Whose deadline has come, the earliest first.
  [[nodiscard]] std::vector<PeerId> due(ProtocolTime now) const;

  [[nodiscard]] std::size_t outstanding_bytes() const { return outstanding_bytes_; }
  [[nodiscard]] std::size_t held_bytes() const { return held_bytes_; }
  /// With the most outstanding or held bytes; of equal ones the oldest. nullptr if there are none.
  [[nodiscard]] Session* most_outstanding();
  [[nodiscard]] Session* most_holding();

 private:
  std::map<PeerId, Session> sessions_;
  std::map<SessionId, PeerId> by_id_;
  std::map<RouteId, Place> routes_;
  std::set<std::pair<ProtocolTime, PeerId>> deadlines_;
  std::set<PeerId> unfinished_;  // peers are numbered as they come
  std::size_t outstanding_bytes_ = 0;
  std::size_t held_bytes_ = 0;
};

}  // namespace nanduti
