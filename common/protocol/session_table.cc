#include "common/protocol/session_table.h"

namespace nanduti {

namespace {

Session* with_most(std::map<PeerId, Session>& sessions, std::size_t Session::*bytes) {
  Session* most = nullptr;
  for (auto& [peer, session] : sessions)
    if (session.*bytes > (most == nullptr ? 0 : most->*bytes)) most = &session;
  return most;
}

}  // namespace

Session* SessionTable::find(PeerId peer) {
  const auto it = sessions_.find(peer);
  return it == sessions_.end() ? nullptr : &it->second;
}

const Session* SessionTable::find(PeerId peer) const {
  const auto it = sessions_.find(peer);
  return it == sessions_.end() ? nullptr : &it->second;
}

Session* SessionTable::find(const SessionId& id) {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &sessions_.at(it->second);
}

Session& SessionTable::add(Session session) {
  const PeerId peer = session.peer;
  if (!session.id.is_zero()) by_id_.emplace(session.id, peer);
  return sessions_.emplace(peer, std::move(session)).first->second;
}

void SessionTable::erase(Session& session) {
  for (std::size_t i = 0; i < session.streams.size(); ++i) unbind(session, i);
  session.streams.clear();
  update(session, kNever);
  unname(session);
  unfinished_.erase(session.peer);
  sessions_.erase(session.peer);
}

void SessionTable::rename(Session& session, const SessionId& id) {
  unname(session);
  session.id = id;
  by_id_.emplace(id, session.peer);
}

void SessionTable::unname(Session& session) {
  by_id_.erase(session.id);
  session.id = {};
}

void SessionTable::bind(Session& session, std::size_t index, RouteId route) {
  unbind(session, index);
  session.streams[index].route = route;
  routes_.insert_or_assign(route, Place(session.peer, index));
}

void SessionTable::unbind(Session& session, std::size_t index) {
  const auto it = routes_.find(session.streams[index].route);
  if (it != routes_.end() && it->second == Place(session.peer, index)) routes_.erase(it);
}

std::optional<SessionTable::Place> SessionTable::at(RouteId route) const {
  const auto it = routes_.find(route);
  if (it == routes_.end()) return std::nullopt;
  return it->second;
}

void SessionTable::set_unfinished(const Session& session, bool unfinished) {
  if (unfinished)
    unfinished_.insert(session.peer);
  else
    unfinished_.erase(session.peer);
}

Session* SessionTable::oldest_unfinished() {
  return unfinished_.empty() ? nullptr : &sessions_.at(*unfinished_.begin());
}

void SessionTable::update(Session& session, ProtocolTime deadline) {
  std::size_t outstanding = 0, held = 0;
  for (const SessionStream& stream : session.streams) {
    outstanding += stream.link.outstanding_bytes();
    held += stream.link.held_bytes();
  }
  outstanding_bytes_ += outstanding - session.outstanding_bytes;
  held_bytes_ += held - session.held_bytes;
  session.outstanding_bytes = outstanding;
  session.held_bytes = held;
  if (session.deadline == deadline) return;
  if (session.deadline != kNever) deadlines_.erase({session.deadline, session.peer});
  if (deadline != kNever) deadlines_.insert({deadline, session.peer});
  session.deadline = deadline;
}

ProtocolTime SessionTable::next_deadline() const {
  return deadlines_.empty() ? kNever : deadlines_.begin()->first;
}

std::vector<PeerId> SessionTable::due(ProtocolTime now) const {
  std::vector<PeerId> peers;
  for (auto it = deadlines_.begin(); it != deadlines_.end() && it->first <= now; ++it)
    peers.push_back(it->second);
  return peers;
}

Session* SessionTable::most_outstanding() { return with_most(sessions_, &Session::outstanding_bytes); }
Session* SessionTable::most_holding() { return with_most(sessions_, &Session::held_bytes); }

}  // namespace nanduti
