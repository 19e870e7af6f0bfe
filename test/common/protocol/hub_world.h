#pragma once

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/protocol/session_hub.h"
#include "test/support/catch.h"

namespace nanduti {

inline constexpr PeerId kServer{0};

/// A client hub and a server hub with a faulty network between them, in virtual time. Dialled routes are
/// numbered by the client; the server sees other numbers, which change where the transport connects anew.
struct HubWorld {
  explicit HubWorld(std::uint64_t seed, const SessionOptions& client_options = {},
                    const SessionOptions& server_options = {})
      : random(seed, 1),
        client(0, client_options, RandomStream(seed, 2)),
        server(0, server_options, RandomStream(seed, 3)) {
    server.set_admission(anything());
  }

  static Admission anything() { return {JobId(), 0, kPayloadBytesMax, kPayloadBytesMax}; }

  void open() { client.open(now, {kServer, "tcp://server", 0, hello, kPayloadBytesMax}); }

  /// The transport has connected again by itself: the server sees another route, and what it sends to the old
  /// one is lost. What is under way on the old one still arrives.
  void reconnect(RouteId dialled) { accepted_as[dialled] = RouteId(next_accepted++); }

  void carry(SessionHub& from, bool to_server) {
    for (const TransportRequest& request : from.take_requests()) {
      if (const auto* dial = std::get_if<DialRoute>(&request)) {
        dials.emplace_back(now, dial->bulk);
        answers_within.push_back(dial->answer_within);
        reconnect(dial->route);
      }
      if (const auto* hang_up = std::get_if<HangUpRoute>(&request)) accepted_as.erase(hang_up->route);
      const auto* transmit = std::get_if<TransmitFrame>(&request);
      if (transmit == nullptr || cut || cut_streams.count(transmit->frame.stream.value()) > 0) continue;
      if (to_server ? cut_up : cut_down) continue;
      RouteId route = transmit->route;
      if (to_server) {
        REQUIRE(accepted_as.count(route) == 1);
        route = accepted_as.at(route);
        if (transmit->frame.kind == FrameKind::kHello) hellos.push_back({route, transmit->frame});
      }
      const int copies = random.chance(loss) ? 0 : random.chance(duplication) ? 2 : 1;
      for (int i = 0; i < copies; ++i) {
        Duration delay = milliseconds(1, delay_max_ms);
        if (random.chance(dribble)) delay += milliseconds(0, 20'000);
        network.push({now + delay, order++, to_server, route, transmit->frame});
      }
    }
  }

  Duration milliseconds(double low, double high) {
    return Duration(static_cast<std::int64_t>(random.uniform(1e6 * low, 1e6 * high)));
  }

  void collect() {
    for (SessionEvent& event : client.take_events()) at_client.push_back(std::move(event));
    for (SessionEvent& event : server.take_events()) at_server.push_back(std::move(event));
    carry(client, true);
    carry(server, false);
  }

  /// Runs until `span` is over.
  void run(Duration span) {
    const ProtocolTime end = now + span;
    for (;;) {
      collect();
      ProtocolTime next = std::min(client.next_deadline(), server.next_deadline());
      if (!network.empty()) next = std::min(next, network.top().at);
      if (next > end) break;
      now = std::max(now, next);
      if (client.next_deadline() <= now) client.on_deadline(now);
      if (server.next_deadline() <= now) server.on_deadline(now);
      while (!network.empty() && network.top().at <= now) {
        const Packet packet = network.top();
        network.pop();
        deliver(packet);
        collect();
      }
    }
    now = end;
  }

  template <class E>
  static std::vector<E> all(const std::vector<SessionEvent>& events) {
    std::vector<E> out;
    for (const SessionEvent& event : events)
      if (const auto* e = std::get_if<E>(&event)) out.push_back(*e);
    return out;
  }

  struct Packet {
    ProtocolTime at;
    std::uint64_t order;
    bool to_server;
    RouteId route;  // as the server knows it
    Frame frame;
    bool operator<(const Packet& other) const {
      return std::pair(at, order) > std::pair(other.at, other.order);
    }
  };

  void deliver(const Packet& packet) {
    if (packet.to_server) return server.on_frame(now, packet.route, packet.frame);
    // A connection that has ended delivers nothing.
    for (const auto& entry : accepted_as) {
      if (entry.second != packet.route) continue;
      const RouteId dialled = entry.first;
      return client.on_frame(now, dialled, packet.frame);
    }
  }

  RandomStream random;
  SessionHub client, server;
  Hello hello{kProtocolVersion, kCodecFormat, "0.1.0", PeerRole::kWorker, "w1", JobId(), 0, 2, false, 0};
  ProtocolTime now{std::chrono::hours(1)};
  double loss = 0, duplication = 0, delay_max_ms = 20;
  double dribble = 0;  // of a frame: it comes up to 20 s later
  bool cut = false, cut_up = false, cut_down = false;
  std::set<std::uint32_t> cut_streams;
  std::uint64_t order = 0;
  std::uint64_t next_accepted = 1;
  std::map<RouteId, RouteId> accepted_as;
  std::priority_queue<Packet> network;
  std::vector<std::pair<ProtocolTime, bool>> dials;  // time, bulk
  std::vector<Duration> answers_within;              ///< of the dials
  std::vector<TransmitFrame> hellos;                 // all that were sent, as the server would see them
  std::vector<SessionEvent> at_client, at_server;
};

inline Message numbered(std::uint64_t number, std::size_t bytes) {
  std::vector<std::uint8_t> payload(bytes);
  for (std::size_t i = 0; i < bytes; ++i) payload[i] = static_cast<std::uint8_t>(number * 31 + i * 7);
  Push push;
  push.sequence = Sequence(number);
  push.payload = SharedBytes::take(std::move(payload));
  return push;
}

inline void require_in_order(const std::vector<MessageReceived>& received, std::uint64_t count) {
  REQUIRE(received.size() == count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Push& push = std::get<Push>(received[i].message);
    REQUIRE(push.sequence == Sequence(i));
    for (std::size_t k = 0; k < push.payload.size(); k += 97)
      REQUIRE(push.payload.data()[k] == static_cast<std::byte>(static_cast<std::uint8_t>(i * 31 + k * 7)));
  }
}

/// A frame as a stranger, or a peer of its own making, would send it.
inline Frame hello_frame(std::uint64_t session, std::uint32_t stream, std::uint64_t number,
                         std::uint32_t stream_count = 2) {
  Frame frame;
  frame.kind = FrameKind::kHello;
  frame.session.words = {session, 1};
  frame.stream = StreamIndex(stream);
  frame.hello = {kProtocolVersion, kCodecFormat, "x",   PeerRole::kWorker, "stranger", JobId(), 0,
                 stream_count,     false,        number};
  return frame;
}
inline Frame data_frame(std::uint64_t session, std::uint32_t stream, std::uint64_t sequence) {
  Frame frame;
  frame.kind = FrameKind::kData;
  frame.session.words = {session, 1};
  frame.stream = StreamIndex(stream);
  frame.sequence = sequence;
  frame.message_header = encode_message(Leave{}).header;
  return frame;
}

/// The frames of one kind among what a hub asks of its transport.
inline std::vector<TransmitFrame> frames_of(SessionHub& hub, FrameKind kind) {
  std::vector<TransmitFrame> out;
  for (const TransportRequest& request : hub.take_requests())
    if (const auto* transmit = std::get_if<TransmitFrame>(&request); transmit && transmit->frame.kind == kind)
      out.push_back(*transmit);
  return out;
}

}  // namespace nanduti
