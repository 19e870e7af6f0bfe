#include "common/net/connection_watch.h"

#include <algorithm>
#include <array>

#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/log.h"

namespace nanduti {

namespace {

/// Sweeps for silent connections within first_frame_within.
constexpr int kSweeps = 8;
/// A ZeroMQ socket takes messages from its connections in turn: who has one is served within a message of
/// each other connection of that socket, and it hears of new ones within this many.
constexpr std::uint64_t kTurnsMore = 256;
/// Strangers do not write our log.
constexpr Duration kLogPeriod = std::chrono::seconds(1);

}  // namespace

ConnectionWatch::ConnectionWatch(const ConnectionLimits& limits)
    : limits_(limits), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  NANDUTI_CHECK(epoll_ >= 0);
}

ConnectionWatch::~ConnectionWatch() { ::close(epoll_); }

void ConnectionWatch::opened(ProtocolTime now, const void* socket, const TcpConnection& tcp, bool accepted) {
  now_ = now;
  closed(socket, tcp.fd());  // in case that was not heard
  ++(accepted ? counters_.accepted : counters_.dialled);
  if (accepted && accepted_ >= limits_.accepted_max) purge();
  const Id id = next_id_++;
  by_fd_[{socket, tcp.fd()}] = id;
  ++sockets_[socket].connections;
  Connection& connection = connections_.emplace(id, Connection{socket, tcp, accepted}).first->second;
  connection.silent_at = accepted ? now + limits_.first_frame_within : kNever;
  if (accepted) {
    ++silent_;
    if (++accepted_ > limits_.accepted_max) {
      if (shut_down(connection, "too many connections")) ++counters_.shut_down_over_maximum;
      return;
    }
    if (sweep_at_ == kNever) sweep_at_ = now + limits_.first_frame_within / kSweeps;
  }
  arm(id, connection, false);
}

void ConnectionWatch::closed(const void* socket, int fd) {
  if (const auto it = by_fd_.find({socket, fd}); it != by_fd_.end()) erase(it->second);
}

void ConnectionWatch::missed(bool accepted) {
  ++(accepted ? counters_.accepted : counters_.dialled);
  ++counters_.closed;
}

void ConnectionWatch::forget(const void* socket) {
  for (auto it = by_fd_.lower_bound({socket, -1}); it != by_fd_.end() && it->first.first == socket;
       it = by_fd_.lower_bound({socket, -1}))
    erase(it->second);
  sockets_.erase(socket);
}

void ConnectionWatch::erase(Id id) {
  const auto it = connections_.find(id);
  const Connection& connection = it->second;
  if (connection.accepted && !connection.shut_down) --accepted_;
  if (connection.silent_at != kNever) --silent_;
  ++counters_.closed;
  owed_ -= connection.owed;
  active_.erase(id);
  pending_.erase({connection.socket, id});
  --sockets_.at(connection.socket).connections;
  by_fd_.erase({connection.socket, connection.tcp.fd()});
  connections_.erase(it);
}

/// Connections whose end was not heard.
void ConnectionWatch::purge() {
  std::vector<Id> gone;
  for (const auto& [id, connection] : connections_) {
    const std::optional<TcpConnection> present = TcpConnection::of(connection.tcp.fd());
    if (!present || present->cookie() != connection.tcp.cookie()) gone.push_back(id);
  }
  for (const Id id : gone) erase(id);
}

std::vector<TcpConnection> ConnectionWatch::connections() const {
  std::vector<TcpConnection> all;
  all.reserve(connections_.size());
  for (const auto& [id, connection] : connections_)
    if (!connection.shut_down) all.push_back(connection.tcp);
  return all;
}

ConnectionWatch::Connection* ConnectionWatch::find(const void* socket, int fd) {
  const auto it = by_fd_.find({socket, fd});
  return it == by_fd_.end() ? nullptr : &connections_.at(it->second);
}

bool ConnectionWatch::knows(const void* socket, int fd, RouteId route) const {
  const auto it = by_fd_.find({socket, fd});
  return it != by_fd_.end() && connections_.at(it->second).route == route;
}

void ConnectionWatch::finished(const void* socket, int fd, RouteId route, std::size_t wire_bytes) {
  const std::uint64_t messages = ++sockets_[socket].messages;
  Connection* connection = find(socket, fd);
  if (connection == nullptr) return;  // it has ended; its last messages come after it
  connection->route = route;
  connection->finished += wire_bytes;
  connection->finished_since = true;
  connection->finished_at = messages;
}

void ConnectionWatch::brought_frame(const void* socket, int fd) {
  Connection* connection = find(socket, fd);
  if (connection == nullptr || connection->silent_at == kNever) return;
  connection->silent_at = kNever;
  --silent_;
}

void ConnectionWatch::condemn(const void* socket, int fd, std::string_view reason) {
  Connection* connection = find(socket, fd);
  if (connection != nullptr && shut_down(*connection, reason)) ++counters_.shut_down_condemned;
}

bool ConnectionWatch::shut_down(Connection& connection, std::string_view reason) {
  if (connection.shut_down) return false;
  connection.shut_down = true;
  owed_ -= std::exchange(connection.owed, 0);
  if (connection.accepted) --accepted_;
  const std::string peer = connection.tcp.peer();
  if (!connection.tcp.shut_down()) return false;
  if (now_ < log_from_) {
    ++unlogged_;
    return true;
  }
  log_warning("the connection with {} is shut down: {}{}", peer, reason,
              unlogged_ > 0 ? fmt::format(" (and {} others since the last such line)", unlogged_) : "");
  unlogged_ = 0;
  log_from_ = now_ + kLogPeriod;
  return true;
}

// ---- unfinished messages ----

void ConnectionWatch::arm(Id id, const Connection& connection, bool again) const {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 = id;
  const int fd = connection.tcp.fd();
  // Fails where the connection has ended. Where its number stands for another one by now, that one's
  // activity is told under a wrong name, until it is opened itself.
  if (!again && ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) return;
  (void)::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void ConnectionWatch::on_activity(ProtocolTime now) {
  std::array<epoll_event, 64> events{};
  for (;;) {
    const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < count; ++i)
      if (connections_.count(events[static_cast<std::size_t>(i)].data.u64) > 0)
        active_.insert(events[static_cast<std::size_t>(i)].data.u64);
    if (count < static_cast<int>(events.size())) break;
  }
  if (!active_.empty() && check_at_ == kNever) check_at_ = now + limits_.check_period;
}

void ConnectionWatch::on_deadline(ProtocolTime now) {
  now_ = now;
  if (now >= sweep_at_) sweep(now);
  if (now < check_at_) return;
  // Other connections' messages may never end: in their turn these had theirs. (Whose socket has no others
  // is judged once that is empty.)
  for (auto it = pending_.begin(); it != pending_.end();) {
    Connection& connection = connections_.at(it->second);
    const Socket& socket = sockets_.at(it->first);
    const std::uint64_t since = std::max(connection.finished_at, connection.looked_at);
    if (socket.messages - since > socket.connections + kTurnsMore) {
      judge(connection);
      it = pending_.erase(it);
    } else {
      ++it;
    }
  }
  judge_total();
  const std::set<Id> looked(active_);
  for (const Id id : looked)
    if (!pending_.contains({connections_.at(id).socket, id})) look(id, connections_.at(id));
  check_at_ = active_.empty() ? kNever : now + limits_.check_period;
}

void ConnectionWatch::look(Id id, Connection& connection) {
  const std::uint64_t consumed = connection.tcp.consumed_bytes();
  if (consumed <= connection.consumed || connection.shut_down) {
    active_.erase(id);
    if (!connection.shut_down) arm(id, connection, true);
    return;
  }
  // What came out since the last verdict was not finished at the look before it: all bytes that had been
  // consumed by that look belong to finished messages. (So nothing adds up that is not part of messages.)
  if (connection.finished_since) connection.finished = std::max(connection.finished, connection.consumed);
  connection.finished = std::min(connection.finished, consumed);
  connection.consumed = consumed;
  connection.looked_at = sockets_.at(connection.socket).messages;
  pending_.emplace(connection.socket, id);
}

void ConnectionWatch::judge(Connection& connection) {
  if (connection.shut_down) return;
  connection.finished_since = false;
  // `finished` may by now be more than had been consumed at that look.
  owed_ -= connection.owed;
  connection.owed = connection.consumed - std::min(connection.consumed, connection.finished);
  owed_ += connection.owed;
  if (connection.owed <= limits_.unfinished_bytes_max) return;
  if (shut_down(connection, "a message without an end")) ++counters_.shut_down_unfinished;
}

void ConnectionWatch::judge_total() {
  while (owed_ > limits_.unfinished_bytes_total_max) {
    const auto most =
        std::max_element(connections_.begin(), connections_.end(),
                         [](const auto& a, const auto& b) { return a.second.owed < b.second.owed; });
    if (shut_down(most->second, "too much of unfinished messages, with those of others"))
      ++counters_.shut_down_unfinished;
  }
}

void ConnectionWatch::drained(const void* socket) {
  const auto begin = pending_.lower_bound({socket, 0});
  auto end = begin;
  for (; end != pending_.end() && end->first == socket; ++end) judge(connections_.at(end->second));
  pending_.erase(begin, end);
  judge_total();
}

// ---- silent connections ----

void ConnectionWatch::sweep(ProtocolTime now) {
  for (auto& [id, connection] : connections_) {
    if (connection.shut_down || now < connection.silent_at) continue;
    // Only the second time: this process may have been stopped, with the first frame waiting outside.
    if (!std::exchange(connection.silence_seen, true)) continue;
    if (shut_down(connection, "no frame came")) ++counters_.shut_down_silent;
  }
  sweep_at_ = silent_ > 0 ? now + limits_.first_frame_within / kSweeps : kNever;
}

ProtocolTime ConnectionWatch::next_deadline() const { return std::min(check_at_, sweep_at_); }

std::size_t accepted_connections_max() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY)
    return kAcceptedConnectionsMax;
  const auto most = static_cast<std::size_t>(files.rlim_cur);
  return std::min(kAcceptedConnectionsMax, most - std::min(most / 2, kDescriptorsKept));
}

}  // namespace nanduti
