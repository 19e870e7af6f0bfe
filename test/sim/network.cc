#include "test/sim/network.h"

#include <algorithm>

#include "test/sim/trace.h"

namespace nanduti::sim {

namespace {

constexpr std::size_t kFrameOverhead = 60;

}  // namespace

void Network::remove_node(int node) {
  places_.erase(node);
  for (auto it = by_dialled_.begin(); it != by_dialled_.end();) {
    const Shared connection = it->second;
    const bool own = it->first.first == node;
    if (own || connection->server == node) {
      by_accepted_.erase(connection->accepted);
      connection->accepted = RouteId(next_accepted_++);
      if (!own) by_accepted_.emplace(connection->accepted, connection);
    }
    connection->hung_up = connection->hung_up || own;
    it = own ? by_dialled_.erase(it) : std::next(it);
  }
}

void Network::handle(int node, const TransportRequest& request) {
  if (const auto* dial = std::get_if<DialRoute>(&request)) {
    auto connection = std::make_shared<Connection>();
    connection->dialler = node;
    connection->dialled = dial->route;
    connection->accepted = RouteId(next_accepted_++);
    connection->place = places_.at(node);
    connection->skew = Duration(static_cast<std::int64_t>(
        random_.uniform() * static_cast<double>(link_of(*connection).skew.count())));
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
  wire_.on_sent(request.frame, request.route.value() >> 32 != 0);
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
  return connection.place ? plan_.places.at(*connection.place).link : plan_.local;
}

bool Network::covers(const Partition& partition, const Connection& connection) const {
  if (partition.only_coordinator && connection.server != 0) return false;
  switch (partition.target.kind) {
    case Target::Kind::kAll:
      return connection.place.has_value();
    case Target::Kind::kWorker:
      return connection.place == partition.target.index;
    case Target::Kind::kShard: {
      const int shard = static_cast<int>(partition.target.index) + 1;
      return connection.dialler == shard || connection.server == shard;
    }
    case Target::Kind::kCoordinator:
      return connection.server == 0;
    case Target::Kind::kServers:
      break;
  }
  return true;
}

std::optional<ProtocolTime> Network::partitioned_until(const Connection& connection, bool up) const {
  const ProtocolTime now = events_.now();
  for (const Partition& partition : plan_.partitions)
    if (now >= partition.begin && now < partition.end && (up ? partition.up : partition.down) &&
        covers(partition, connection))
      return partition.end;
  return std::nullopt;
}

Duration Network::shared(const Connection& connection, bool up, Duration alone) const {
  Duration time = alone;
  for (auto it = by_dialled_.lower_bound({connection.dialler, RouteId()});
       it != by_dialled_.end() && it->first.first == connection.dialler; ++it) {
    const Connection& other = *it->second;
    const Duration busy_for = (up ? other.busy_up : other.busy_down) - events_.now();
    if (&other != &connection) time += std::clamp(busy_for, Duration(0), alone);
  }
  return time;
}

void Network::carry(Shared connection, bool up, const EncodedFrame& frame) {
  if (!up && connection->hung_up) return;
  const LinkPlan& link = link_of(*connection);
  const ProtocolTime now = events_.now();
  const bool faulty = now < plan_.heal_at;
  const std::uint32_t under_way = up ? connection->under_way_up : connection->under_way_down;
  if (under_way >= plan_.queue_frames_max || (faulty && random_.chance(link.refusals)))
    return coverage_.count("fault: send refused");
  const auto bytes = static_cast<double>(frame.header.size() + frame.chunk.size() + kFrameOverhead);
  ProtocolTime& busy = up ? connection->busy_up : connection->busy_down;
  const Duration alone(static_cast<std::int64_t>(bytes / link.bytes_per_second * 1e9));
  const ProtocolTime sent = busy = std::max(busy, now) + shared(*connection, up, alone);
  const auto way = [&] {
    return link.delay + connection->skew +
           Duration(static_cast<std::int64_t>(random_.uniform() * static_cast<double>(link.jitter.count())));
  };
  const auto until = partitioned_until(*connection, up);
  if (link.fifo) {
    if (faulty && random_.chance(link.breaks)) {
      // The transport connects again by itself: another connection to the server, and nobody is told.
      coverage_.count("fault: connection broken");
      by_accepted_.erase(connection->accepted);
      connection->accepted = RouteId(next_accepted_++);
      by_accepted_.emplace(connection->accepted, connection);
      return;
    }
    ProtocolTime at = sent + way();
    if (until) {
      coverage_.count("fault: frame held by a partition");
      at = *until + way() + way();  // resent by TCP
    }
    ProtocolTime& last = up ? connection->last_up : connection->last_down;
    at = last = std::max(at, last + Duration(1));
    return arrive_at(at, connection, up, frame);
  }
  if (until) return coverage_.count("fault: frame lost in a partition");
  if (faulty && random_.chance(link.loss)) return coverage_.count("fault: frame lost");
  Duration delay = way();
  if (faulty && random_.chance(link.reordering)) {
    coverage_.count("fault: frame reordered");
    delay += way() * 5;
  }
  arrive_at(sent + delay, connection, up, frame);
  if (faulty && random_.chance(link.duplication)) {
    coverage_.count("fault: frame duplicated");
    arrive_at(sent + way() * (random_.chance(0.1) ? 50 : 2), connection, up, frame);
  }
}

void Network::arrive_at(ProtocolTime time, const Shared& connection, bool up, const EncodedFrame& frame) {
  ++(up ? connection->under_way_up : connection->under_way_down);
  events_.at(time, [this, connection, up, accepted = connection->accepted, frame] {
    --(up ? connection->under_way_up : connection->under_way_down);
    if (connection->accepted != accepted) return;  // it was on a connection that broke
    if (!up && connection->hung_up) return;
    const int node = up ? connection->server : connection->dialler;
    if (!places_.contains(node)) return;
    Result<Frame> decoded = decode_frame(frame);
    if (!decoded.ok()) fail("a frame does not decode: {}", decoded.error().message);
    deliver_(node, up ? accepted : connection->dialled, *decoded, up);
  });
}

}  // namespace nanduti::sim
