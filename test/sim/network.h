#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "common/base/random.h"
#include "common/protocol/session_hub.h"
#include "test/sim/coverage.h"
#include "test/sim/event_queue.h"
#include "test/sim/plan.h"
#include "test/sim/wire_checker.h"

namespace nanduti::sim {

/// Carries encoded frames between the hubs of nodes: 0 is the coordinator, 1.. are shards, larger ones worker
/// processes. A dialler's routes are its own; the server's side of a connection has a number of its own.
class Network {
 public:
  /// `up`: from the dialling side.
  using Deliver = std::function<void(int node, RouteId route, const Frame& frame, bool up)>;

  /// Faults that have struck are counted in `coverage`.
  Network(const Plan& plan, EventQueue& events, Coverage& coverage, Deliver deliver)
      : plan_(plan),
        events_(events),
        coverage_(coverage),
        deliver_(std::move(deliver)),
        random_(plan.network_seed, 2) {}

  /// `place` of the worker; empty for shards.
  void add_node(int node, std::optional<std::size_t> place) { places_[node] = place; }
  /// What it sent before still arrives; what is on its way to it does not. Its connections are no more:
  /// others dial a process that comes after it anew.
  void remove_node(int node);
  void handle(int node, const TransportRequest& request);
  /// A frame that was delivered is about to be taken in: a stopped process does that later.
  void on_taken(const Frame& frame, bool up) { wire_.on_arrived(frame, up); }

 private:
  struct Connection {
    int dialler = 0;
    RouteId dialled;   ///< the dialler's number
    RouteId accepted;  ///< the server's number
    int server = 0;
    std::optional<std::size_t> place;
    bool hung_up = false;
    Duration skew{0};
    ProtocolTime busy_up, busy_down;                     ///< sending what it was given so far
    ProtocolTime last_up, last_down;                     ///< latest arrival so far, where ordered
    std::uint32_t under_way_up = 0, under_way_down = 0;  ///< frames
  };
  using Shared = std::shared_ptr<Connection>;

  void transmit(int node, const TransmitFrame& request);
  void carry(Shared connection, bool up, const EncodedFrame& frame);
  void arrive_at(ProtocolTime time, const Shared& connection, bool up, const EncodedFrame& frame);
  [[nodiscard]] bool covers(const Partition& partition, const Connection& connection) const;
  /// How long a frame takes that would take `alone`: connections of the same process that send share the
  /// link's rate, each with no more than it has to send.
  [[nodiscard]] Duration shared(const Connection& connection, bool up, Duration alone) const;
  [[nodiscard]] const LinkPlan& link_of(const Connection& connection) const;
  /// When the partition that holds up a frame sent now ends.
  [[nodiscard]] std::optional<ProtocolTime> partitioned_until(const Connection& connection, bool up) const;

  const Plan& plan_;
  EventQueue& events_;
  Coverage& coverage_;
  WireChecker wire_;
  Deliver deliver_;
  RandomStream random_;
  std::map<int, std::optional<std::size_t>> places_;
  std::map<std::pair<int, RouteId>, Shared> by_dialled_;
  std::map<RouteId, Shared> by_accepted_;
  std::uint64_t next_accepted_ = 1;
};

}  // namespace nanduti::sim
