#include "test/sim/network.h"

#include "test/sim/trace.h"

namespace nanduti::sim {

namespace {

constexpr std::size_t kFrameOverhead = 60;

}  // namespace

void FaultCounts::add(const FaultCounts& other) {
  lost += other.lost;
  duplicated += other.duplicated;
  reordered += other.reordered;
  partitioned += other.partitioned;
  connections_broken += other.connections_broken;
  replayed += other.replayed;
  hangs += other.hangs;
  crashes += other.crashes;
  restarts += other.restarts;
  late_joins += other.late_joins;
  drains += other.drains;
  sessions_lost += other.sessions_lost;
}

void Network::handle(int node, const TransportRequest& request) {
  if (const auto* dial = std::get_if<DialRoute>(&request)) {
    auto connection = std::make_shared<Connection>();
    connection->dialler = node;
    connection->dialled = dial->route;
    connection->accepted = RouteId(next_accepted_++);
    connection->place = places_.at(node);
    by_dialled_.emplace(std::pair(node, dial->route), connection);
    by_accepted_.emplace(connection->accepted, connection);
  } else if (const auto* hang_up = std::get_if<HangUpRoute>(&request)) {
    const auto it = by_dialled_.find({node, hang_up->route});
    if (it == by_dialled_.end())
      fail("node {} hangs up route {}, which it does not have", node, hang_up->route);
    it->second->hung_up = true;
    by_dialled_.erase(it);
  } else {
    transmit(node, std::get<TransmitFrame>(request));
  }
}

void Network::transmit(int node, const TransmitFrame& request) {
  // Through the wire form, as in the daemons.
  const EncodedFrame encoded = encode_frame(request.frame);
  if (request.route.value() >> 32 != 0) {
    const auto it = by_dialled_.find({node, request.route});
    if (it == by_dialled_.end())
      fail("node {} sends on route {}, which it does not have", node, request.route);
    it->second->server = static_cast<int>(request.frame.destination);
    carry(it->second, true, encoded);
  } else if (const auto it = by_accepted_.find(request.route); it != by_accepted_.end()) {
    carry(it->second, false, encoded);
  }  // else: to a connection that is gone
}

const LinkPlan& Network::link_of(const Connection& connection) const {
  return connection.place ? plan_.links.at(*connection.place) : plan_.local;
}

std::optional<ProtocolTime> Network::partitioned_until(const Connection& connection, bool up) const {
  if (!connection.place) return std::nullopt;
  for (const Partition& partition : plan_.partitions) {
    if (partition.place && *partition.place != *connection.place) continue;
    const bool covers = events_.now() >= partition.begin && events_.now() < partition.end;
    if (covers && (up ? partition.up : partition.down)) return partition.end;
  }
  return std::nullopt;
}

void Network::carry(Shared connection, bool up, const EncodedFrame& frame) {
  if (!up && connection->hung_up) return;
  const LinkPlan& link = link_of(*connection);
  const ProtocolTime now = events_.now();
  const bool faulty = now < plan_.heal_at;
  const auto bytes = static_cast<double>(frame.header.size() + frame.chunk.size() + kFrameOverhead);
  const Duration transfer(static_cast<std::int64_t>(bytes / link.bytes_per_second * 1e9));
  ProtocolTime sent = now + transfer;
  if (connection->place) {
    ProtocolTime& busy = busy_until_[{*connection->place, up}];
    sent = busy = std::max(busy, now) + transfer;
  }
  const auto way = [&] {
    return link.delay +
           Duration(static_cast<std::int64_t>(random_.uniform() * static_cast<double>(link.jitter.count())));
  };
  const auto until = partitioned_until(*connection, up);
  if (link.fifo) {
    if (faulty && random_.chance(link.breaks)) {
      // The transport connects again by itself: another connection to the server, and nobody is told.
      ++faults.connections_broken;
      by_accepted_.erase(connection->accepted);
      connection->accepted = RouteId(next_accepted_++);
      by_accepted_.emplace(connection->accepted, connection);
      return;
    }
    ProtocolTime at = sent + way();
    if (until) {
      ++faults.partitioned;
      at = *until + way() + way();  // resent by TCP
    }
    ProtocolTime& last = up ? connection->last_up : connection->last_down;
    at = last = std::max(at, last + Duration(1));
    return arrive_at(at, connection, up, connection->accepted, frame);
  }
  if (until) {
    ++faults.partitioned;
    return;
  }
  if (faulty && random_.chance(link.loss)) {
    ++faults.lost;
    return;
  }
  Duration delay = way();
  if (faulty && random_.chance(link.reordering)) {
    ++faults.reordered;
    delay += way() * 5;
  }
  arrive_at(sent + delay, connection, up, connection->accepted, frame);
  if (faulty && random_.chance(link.duplication)) {
    ++faults.duplicated;
    arrive_at(sent + way() * (random_.chance(0.1) ? 50 : 2), connection, up, connection->accepted, frame);
  }
}

void Network::arrive_at(ProtocolTime time, const Shared& connection, bool up, RouteId accepted,
                        const EncodedFrame& frame) {
  events_.at(time, [this, connection, up, accepted, frame] {
    if (connection->accepted != accepted) return;  // it was on a connection that broke
    if (!up && connection->hung_up) return;
    const int node = up ? connection->server : connection->dialler;
    if (!places_.contains(node)) return;
    Result<Frame> decoded = decode_frame(frame);
    if (!decoded.ok()) fail("a frame does not decode: {}", decoded.error().message);
    deliver_(node, up ? accepted : connection->dialled, *decoded);
  });
}

}  // namespace nanduti::sim
