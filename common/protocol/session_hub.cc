#include "common/protocol/session_hub.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/protocol/reliable_link.h"

namespace nanduti {

namespace {

constexpr Duration kFlushMax = std::chrono::seconds(5);
constexpr std::uint32_t kStreamsMax = 16;
/// Of a session whose streams are not all bound; beyond either it is closed.
constexpr std::size_t kHeldEventsMax = 1024;
constexpr std::size_t kHeldBytesMax = std::size_t{64} << 20;

std::string_view role_name(PeerRole role) { return role == PeerRole::kWorker ? "worker" : "shard"; }

}  // namespace

struct SessionHub::Impl {
  struct Stream {
    explicit Stream(const LinkOptions& options) : link(options) {}
    ReliableLink link;
    RouteId route;
    bool bound = false;
    ProtocolTime last_heard;
    ProtocolTime last_sent;
    ProtocolTime pinged_at = kNever;  // unanswered ping
    ProtocolTime dialled_at;
    Duration redial_after{0};
  };
  struct Session {
    PeerId peer;
    SessionId id;
    bool dialled = false;
    bool connected = false;
    bool ever_accepted = false;
    std::uint64_t acceptance = 0;  // the acceptor's number of this session; 0: not heard yet
    OpenPeer request;              // where dialled
    Hello hello;
    std::vector<Stream> streams;
    std::vector<SessionEvent> held;  // what arrived before every stream was bound
    std::size_t held_bytes = 0;
    std::optional<std::string> closing;
    ProtocolTime close_at = kNever;
  };

  Impl(std::uint32_t own_destination, const SessionOptions& session_options, RandomStream random_stream)
      : destination(own_destination), options(session_options), random(random_stream) {}

  std::uint32_t destination;
  SessionOptions options;
  RandomStream random;
  std::optional<Admission> admission;
  std::map<PeerId, Session> sessions;
  std::map<SessionId, PeerId> by_id;
  std::map<RouteId, std::pair<PeerId, std::size_t>> dialled_routes;
  std::uint64_t next_accepted_peer = kFirstAcceptedPeer.value();
  std::uint64_t next_route = std::uint64_t{1} << 32;
  std::vector<SessionEvent> events;
  std::vector<TransportRequest> requests;
  Counters counters;

  [[nodiscard]] LinkOptions link_options(std::size_t stream) const {
    LinkOptions link;
    link.resend_min = options.resend_min;
    link.resend_max = options.resend_max;
    link.credit_bytes = stream == 0 ? options.control_credit_bytes : options.bulk_credit_bytes;
    return link;
  }

  void transmit(RouteId route, Frame frame) {
    ++counters.frames_sent;
    counters.bytes_sent += frame.chunk.size() + frame.message_header.size();
    requests.push_back(TransmitFrame{route, std::move(frame)});
  }

  void transmit(ProtocolTime now, Session& session, std::size_t index, Frame frame) {
    Stream& stream = session.streams[index];
    frame.destination = session.dialled ? session.request.destination : destination;
    frame.session = session.id;
    frame.stream = StreamIndex(static_cast<std::uint32_t>(index));
    stream.last_sent = now;
    transmit(stream.route, std::move(frame));
  }

  void send_hello(ProtocolTime now, Session& session, std::size_t index) {
    Frame frame;
    frame.kind = FrameKind::kHello;
    frame.hello = session.request.hello;
    frame.hello.resumes = session.ever_accepted;
    session.streams[index].link.fill_ack(frame);
    transmit(now, session, index, std::move(frame));
  }

  void hang_up(Stream& stream) {
    if (stream.route.value() >> 32 == 0) return;
    dialled_routes.erase(stream.route);
    requests.push_back(HangUpRoute{stream.route});
  }

  void dial(ProtocolTime now, Session& session, std::size_t index) {
    Stream& stream = session.streams[index];
    hang_up(stream);
    stream.route = RouteId(next_route++);
    stream.bound = false;
    stream.pinged_at = kNever;
    stream.dialled_at = now;
    dialled_routes.emplace(stream.route, std::pair(session.peer, index));
    requests.push_back(DialRoute{stream.route, session.request.endpoint, index > 0});
    send_hello(now, session, index);
  }

  /// A new session with the peer that `request` names.
  void begin(ProtocolTime now, Session& session) {
    by_id.erase(session.id);
    for (Stream& stream : session.streams) hang_up(stream);
    session.streams.clear();
    session.held.clear();
    session.held_bytes = 0;
    session.connected = false;
    session.ever_accepted = false;
    session.acceptance = 0;
    session.id.words = {random.next_u64(), random.next_u64() | 1};
    by_id.emplace(session.id, session.peer);
    const std::uint32_t count = std::clamp(session.request.hello.stream_count, 1u, kStreamsMax);
    for (std::uint32_t i = 0; i < count; ++i) {
      session.streams.emplace_back(link_options(i));
      session.streams.back().last_heard = now;
      session.streams.back().redial_after = options.redial_after;
    }
    for (std::uint32_t i = 0; i < count; ++i) dial(now, session, i);
  }

  void erase(PeerId peer) {
    const auto it = sessions.find(peer);
    if (it == sessions.end()) return;
    for (Stream& stream : it->second.streams) hang_up(stream);
    by_id.erase(it->second.id);
    sessions.erase(it);
  }

  void send_close(ProtocolTime now, Session& session, const std::string& reason) {
    if (!session.streams[0].bound) return;
    Frame frame;
    frame.kind = FrameKind::kClose;
    frame.text = reason;
    transmit(now, session, 0, std::move(frame));
  }

  /// The session is lost here; a dialled one starts over.
  void lose(ProtocolTime now, Session& session, std::string reason, bool again) {
    const PeerId peer = session.peer;
    const bool redial = again && session.dialled && !session.closing;
    if (!session.closing && (session.connected || !redial))
      events.push_back(PeerClosed{peer, std::move(reason), redial});
    if (redial) {
      ++counters.redials;
      begin(now, session);
    } else {
      erase(peer);
    }
  }

  void note_bound(Session& session) {
    if (session.connected) return;
    for (const Stream& stream : session.streams)
      if (!stream.bound) return;
    session.connected = true;
    session.ever_accepted = true;
    events.push_back(PeerConnected{session.peer, session.hello});
    for (SessionEvent& event : session.held) events.push_back(std::move(event));
    session.held = {};
    session.held_bytes = 0;
  }

  [[nodiscard]] std::string mismatch(const Hello& hello) const {
    if (hello.protocol_version != kProtocolVersion)
      return fmt::format(
          "this server speaks protocol version {}, the {} '{}' (program {}) version {}: run the same release "
          "on both sides",
          kProtocolVersion, role_name(hello.role), hello.name, hello.program_version, hello.protocol_version);
    if (hello.codec_format != kCodecFormat)
      return fmt::format(
          "this server codes updates in format {}, the {} '{}' (program {}) in format {}: run the same "
          "release on both sides",
          kCodecFormat, role_name(hello.role), hello.name, hello.program_version, hello.codec_format);
    if (hello.job != admission->job)
      return fmt::format("job {} is not open here; the open one is {}", hello.job, admission->job);
    if (hello.layout_hash != admission->layout_hash)
      return fmt::format(
          "the {} '{}' lays the model of job {} out differently (hash {:016x}, here {:016x}): its data or "
          "its release differs",
          role_name(hello.role), hello.name, hello.job, hello.layout_hash, admission->layout_hash);
    return {};
  }

  void answer(RouteId route, const Frame& request, FrameKind kind, std::string text) {
    Frame frame;
    frame.destination = destination;
    frame.session = request.session;
    frame.stream = request.stream;
    frame.kind = kind;
    frame.text = std::move(text);
    transmit(route, std::move(frame));
  }

  void on_hello(ProtocolTime now, RouteId route, const Frame& frame) {
    if (!admission) return;
    if (frame.session.is_zero() || frame.stream.value() >= frame.hello.stream_count) {
      ++counters.dropped_malformed;
      return;
    }
    auto known = by_id.find(frame.session);
    if (known == by_id.end()) {
      std::string refusal = mismatch(frame.hello);
      if (refusal.empty() && sessions.size() >= options.sessions_max)
        refusal = fmt::format("this server holds its maximum of {} sessions", options.sessions_max);
      if (!refusal.empty()) {
        ++counters.hellos_refused;
        return answer(route, frame, FrameKind::kHelloRefused, std::move(refusal));
      }
      if (frame.hello.resumes) {
        ++counters.dropped_unknown_session;
        return answer(route, frame, FrameKind::kUnknownSession, {});
      }
      Session session;
      session.peer = PeerId(next_accepted_peer++);
      session.id = frame.session;
      session.hello = frame.hello;
      session.acceptance = random.next_u64() | 1;
      for (std::uint32_t i = 0; i < std::min(frame.hello.stream_count, kStreamsMax); ++i) {
        session.streams.emplace_back(link_options(i));
        session.streams.back().last_heard = now;
      }
      known = by_id.emplace(frame.session, session.peer).first;
      sessions.emplace(session.peer, std::move(session));
    }
    Session& session = sessions.at(known->second);
    if (session.dialled || frame.stream.value() >= session.streams.size()) {
      ++counters.dropped_malformed;
      return;
    }
    const std::size_t index = frame.stream.value();
    Stream& stream = session.streams[index];
    const bool moved = stream.bound && stream.route != route;
    stream.route = route;
    stream.bound = true;
    stream.last_heard = now;
    Frame accepted;
    accepted.kind = FrameKind::kHelloAccepted;
    accepted.acceptance = session.acceptance;
    stream.link.fill_ack(accepted);
    transmit(now, session, index, std::move(accepted));
    stream.link.on_frame(now, frame);
    if (moved) stream.link.on_new_route(now);
    note_bound(session);
  }

  void on_frame(ProtocolTime now, RouteId route, const Frame& frame) {
    ++counters.frames_received;
    counters.bytes_received += frame.chunk.size() + frame.message_header.size();
    const auto dialled = dialled_routes.find(route);
    if (frame.kind == FrameKind::kHello) {
      if (dialled == dialled_routes.end()) on_hello(now, route, frame);
      return;
    }
    const auto known = by_id.find(frame.session);
    if (known == by_id.end()) {
      ++counters.dropped_unknown_session;
      const bool answers = frame.kind == FrameKind::kData || frame.kind == FrameKind::kPing;
      if (answers && dialled == dialled_routes.end() && admission)
        answer(route, frame, FrameKind::kUnknownSession, {});
      return;
    }
    Session& session = sessions.at(known->second);
    if (frame.stream.value() >= session.streams.size() ||
        (session.dialled && dialled == dialled_routes.end())) {
      ++counters.dropped_malformed;
      return;
    }
    const std::size_t index = frame.stream.value();
    Stream& stream = session.streams[index];
    stream.last_heard = now;
    switch (frame.kind) {
      case FrameKind::kHello:
        break;
      case FrameKind::kHelloAccepted:
        if (!session.dialled || route != stream.route) break;
        if (session.acceptance == 0) session.acceptance = frame.acceptance;
        if (session.acceptance != frame.acceptance)
          return lose(now, session, "the server has lost this session", true);
        stream.redial_after = options.redial_after;
        stream.link.on_frame(now, frame);
        if (!stream.bound) stream.link.on_new_route(now);
        stream.bound = true;
        note_bound(session);
        break;
      case FrameKind::kHelloRefused:
        if (!session.dialled) break;
        ++counters.hellos_refused;
        return lose(now, session, frame.text, false);
      case FrameKind::kUnknownSession:
        if (session.dialled)
          return lose(now, session, "the server does not know this session any more", true);
        break;
      case FrameKind::kClose:
        return lose(now, session, frame.text, false);
      case FrameKind::kPing:
        stream.link.ack_now();
        [[fallthrough]];
      case FrameKind::kData:
      case FrameKind::kAck:
        if (stream.pinged_at != kNever && frame.kind == FrameKind::kAck) {
          stream.link.measure(now - stream.pinged_at);
          stream.pinged_at = kNever;
        }
        receive(now, session, index, frame);
        break;
    }
  }

  void receive(ProtocolTime now, Session& session, std::size_t index, const Frame& frame) {
    ReliableLink& link = session.streams[index].link;
    link.on_frame(now, frame);
    std::vector<SessionEvent>& out = session.connected ? events : session.held;
    for (const std::uint64_t tag : link.take_acked()) out.push_back(MessageAcked{session.peer, tag});
    for (const EncodedMessage& encoded : link.take_messages()) {
      if (!session.connected) session.held_bytes += encoded.size_bytes();
      Result<Message> message = decode_message(encoded);
      if (message.ok())
        out.push_back(MessageReceived{session.peer, std::move(message).value()});
      else
        ++counters.dropped_malformed;
    }
    if (session.held.size() <= kHeldEventsMax && session.held_bytes <= kHeldBytesMax) return;
    ++counters.sessions_overfull;
    const std::string reason = "too much was sent before all streams of the session were there";
    send_close(now, session, reason);
    lose(now, session, reason, true);
  }

  /// Sends what the links have to send.
  void pump(ProtocolTime now, Session& session) {
    for (std::size_t i = 0; i < session.streams.size(); ++i) {
      Stream& stream = session.streams[i];
      if (!stream.bound) continue;
      const std::uint64_t resent = stream.link.resent;
      for (Frame& frame : stream.link.take_frames(now)) transmit(now, session, i, std::move(frame));
      counters.frames_resent += stream.link.resent - resent;
      counters.dropped_duplicate += std::exchange(stream.link.duplicates, 0);
      counters.dropped_gap += std::exchange(stream.link.gaps_dropped, 0);
    }
  }

  [[nodiscard]] static std::size_t outstanding(const Session& session) {
    std::size_t bytes = 0;
    for (const Stream& stream : session.streams) bytes += stream.link.outstanding_bytes();
    return bytes;
  }

  [[nodiscard]] static bool is_flushed(const Session& session) { return outstanding(session) == 0; }

  void keep_dialled_alive(ProtocolTime now, Session& session) {
    for (std::size_t i = 0; i < session.streams.size(); ++i) {
      Stream& stream = session.streams[i];
      if (now - std::max(stream.last_heard, stream.dialled_at) >= stream.redial_after) {
        ++counters.redials;
        dial(now, session, i);
        const Duration doubled = std::min(stream.redial_after * 2, options.redial_after_max);
        stream.redial_after = doubled + Duration(static_cast<std::int64_t>(
                                            static_cast<double>(doubled.count()) * 0.1 * random.uniform()));
      } else if (now - stream.last_sent >= options.heartbeat) {
        if (!stream.bound) {
          send_hello(now, session, i);
        } else {
          Frame ping;
          ping.kind = FrameKind::kPing;
          stream.link.fill_ack(ping);
          stream.pinged_at = now;
          transmit(now, session, i, std::move(ping));
        }
      }
    }
  }

  void on_deadline(ProtocolTime now) {
    std::vector<PeerId> peers;
    for (const auto& [peer, session] : sessions) peers.push_back(peer);
    for (const PeerId peer : peers) {
      Session& session = sessions.at(peer);
      if (session.closing && (is_flushed(session) || now >= session.close_at)) {
        send_close(now, session, *session.closing);
        erase(peer);
        continue;
      }
      if (session.dialled) {
        keep_dialled_alive(now, session);
      } else {
        ProtocolTime heard = session.streams[0].last_heard;
        for (const Stream& stream : session.streams) heard = std::max(heard, stream.last_heard);
        if (now - heard >= options.forget_after) {
          lose(now, session, "nothing was heard of it for too long", false);
          continue;
        }
      }
      pump(now, session);
    }
  }

  [[nodiscard]] ProtocolTime next_deadline() const {
    ProtocolTime deadline = kNever;
    for (const auto& [peer, session] : sessions) {
      deadline = std::min(deadline, session.close_at);
      ProtocolTime heard = session.streams[0].last_heard;
      for (const Stream& stream : session.streams) {
        heard = std::max(heard, stream.last_heard);
        if (stream.bound) deadline = std::min(deadline, stream.link.next_deadline());
        if (!session.dialled) continue;
        deadline = std::min(deadline, std::max(stream.last_heard, stream.dialled_at) + stream.redial_after);
        deadline = std::min(deadline, stream.last_sent + options.heartbeat);
      }
      if (!session.dialled) deadline = std::min(deadline, heard + options.forget_after);
    }
    return deadline;
  }
};

SessionHub::SessionHub(std::uint32_t own_destination, const SessionOptions& options, RandomStream random)
    : impl_(std::make_unique<Impl>(own_destination, options, random)) {}
SessionHub::~SessionHub() = default;
SessionHub::SessionHub(SessionHub&&) noexcept = default;
SessionHub& SessionHub::operator=(SessionHub&&) noexcept = default;

void SessionHub::set_admission(const std::optional<Admission>& admission) { impl_->admission = admission; }

void SessionHub::open(ProtocolTime now, const OpenPeer& request) {
  NANDUTI_CHECK(request.peer < kFirstAcceptedPeer && !impl_->sessions.contains(request.peer));
  Impl::Session session;
  session.peer = request.peer;
  session.dialled = true;
  session.request = request;
  session.hello = request.hello;
  const auto it = impl_->sessions.emplace(request.peer, std::move(session)).first;
  impl_->begin(now, it->second);
}

void SessionHub::close(ProtocolTime now, const ClosePeer& request) {
  const auto it = impl_->sessions.find(request.peer);
  if (it == impl_->sessions.end()) return;
  Impl::Session& session = it->second;
  if (request.flush && session.connected && !Impl::is_flushed(session)) {
    session.closing = request.reason;
    session.close_at = now + kFlushMax;
    return;
  }
  impl_->send_close(now, session, request.reason);
  impl_->erase(request.peer);
}

void SessionHub::send(ProtocolTime now, const SendMessage& request) {
  const auto it = impl_->sessions.find(request.peer);
  if (it == impl_->sessions.end() || !it->second.connected || it->second.closing) {
    ++impl_->counters.messages_to_nobody;
    return;
  }
  Impl::Session& session = it->second;
  const std::size_t index = std::min<std::size_t>(request.stream.value(), session.streams.size() - 1);
  EncodedMessage encoded = encode_message(request.message);
  if (Impl::outstanding(session) + encoded.size_bytes() > impl_->options.queue_bytes_max) {
    const std::string reason = fmt::format("more than {} bytes wait for it", impl_->options.queue_bytes_max);
    impl_->send_close(now, session, reason);
    return impl_->lose(now, session, reason, true);
  }
  session.streams[index].link.queue(std::move(encoded), request.tag);
  impl_->pump(now, session);
}

void SessionHub::on_frame(ProtocolTime now, RouteId route, const Frame& frame) {
  impl_->on_frame(now, route, frame);
  const auto known = impl_->by_id.find(frame.session);
  if (known == impl_->by_id.end()) return;
  Impl::Session& session = impl_->sessions.at(known->second);
  if (session.closing && Impl::is_flushed(session)) {
    impl_->send_close(now, session, *session.closing);
    return impl_->erase(session.peer);
  }
  impl_->pump(now, session);
}

void SessionHub::on_deadline(ProtocolTime now) { impl_->on_deadline(now); }
ProtocolTime SessionHub::next_deadline() const { return impl_->next_deadline(); }
std::vector<SessionEvent> SessionHub::take_events() { return std::exchange(impl_->events, {}); }
std::vector<TransportRequest> SessionHub::take_requests() { return std::exchange(impl_->requests, {}); }
const SessionHub::Counters& SessionHub::counters() const { return impl_->counters; }

std::vector<NamedCount> SessionHub::Counters::named() const {
  return {{"frames_sent", frames_sent},
          {"frames_received", frames_received},
          {"frames_resent", frames_resent},
          {"bytes_sent", bytes_sent},
          {"bytes_received", bytes_received},
          {"dropped_duplicate", dropped_duplicate},
          {"dropped_gap", dropped_gap},
          {"dropped_unknown_session", dropped_unknown_session},
          {"dropped_malformed", dropped_malformed},
          {"hellos_refused", hellos_refused},
          {"redials", redials},
          {"messages_to_nobody", messages_to_nobody},
          {"sessions_overfull", sessions_overfull}};
}

std::size_t SessionHub::outstanding_bytes(PeerId peer) const {
  const auto it = impl_->sessions.find(peer);
  return it == impl_->sessions.end() ? 0 : Impl::outstanding(it->second);
}

Duration SessionHub::round_trip(PeerId peer) const {
  const auto it = impl_->sessions.find(peer);
  return it == impl_->sessions.end() ? Duration(0) : it->second.streams[0].link.round_trip();
}

}  // namespace nanduti
