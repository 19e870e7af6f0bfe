#include "common/protocol/session_hub.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/protocol/session_hub_impl.h"

namespace nanduti {

namespace {

constexpr Duration kFlushMax = std::chrono::seconds(5);

bool is_dialled(RouteId route) { return route.value() >> 32 != 0; }

std::size_t outstanding_entries(const Session& session) {
  std::size_t entries = 0;
  for (const SessionStream& stream : session.streams) entries += stream.link.outstanding_entries();
  return entries;
}

bool is_flushed(const Session& session) { return outstanding_entries(session) == 0; }

}  // namespace

// ---- frames ----

void SessionHub::Impl::on_frame(ProtocolTime now, RouteId route, const Frame& frame) {
  ++counters.frames_received;
  counters.bytes_received += frame.chunk.size() + frame.message_header.size();
  if (frame.kind == FrameKind::kHello) {
    if (is_dialled(route))
      ++counters.dropped_wrong_side;
    else
      on_hello(now, route, frame);
  } else if (Session* session = table.find(frame.session)) {
    on_session_frame(now, route, *session, frame);
  } else {
    ++counters.dropped_unknown_session;
    const bool answers = frame.kind == FrameKind::kData || frame.kind == FrameKind::kPing;
    if (answers && !is_dialled(route) && admission) answer(route, frame, FrameKind::kUnknownSession, {});
  }
  if (Session* session = table.find(frame.session)) pump(now, *session);
  release_held(now);
}

void SessionHub::Impl::on_session_frame(ProtocolTime now, RouteId route, Session& session,
                                        const Frame& frame) {
  const std::size_t index = frame.stream.value();
  if (index >= session.streams.size()) {
    ++counters.dropped_bad_stream;
    return;
  }
  const auto carried = table.at(route);
  const bool is_own = carried == SessionTable::Place(session.peer, index);
  const bool is_old = !carried && !session.dialled && !is_dialled(route);
  if (!is_own && !is_old) {
    ++counters.dropped_wrong_route;
    return;
  }
  const bool is_answer = frame.kind == FrameKind::kHelloAccepted || frame.kind == FrameKind::kHelloRefused ||
                         frame.kind == FrameKind::kUnknownSession;
  if (session.dialled ? frame.kind == FrameKind::kPing : is_answer) {
    ++counters.dropped_wrong_side;
    return;
  }
  SessionStream& stream = session.streams[index];
  note_heard(now, stream);
  if (session.connected && !session.dialled && !std::exchange(session.finished, true))
    table.set_unfinished(session, false);
  switch (frame.kind) {
    case FrameKind::kHello:
      break;
    case FrameKind::kHelloAccepted:
      return on_hello_accepted(now, session, index, frame);
    case FrameKind::kHelloRefused:
      ++counters.refused_by_server;
      return lose(now, session, frame.text, false);
    case FrameKind::kUnknownSession:
      return lose(now, session, "the server does not know this session any more", true);
    case FrameKind::kClose:
      return lose(now, session, frame.text, false);
    case FrameKind::kPing:
      stream.link.ack_now();
      return receive(now, session, index, frame);
    case FrameKind::kData:
    case FrameKind::kAck:
      if (stream.pinged_at != kNever && frame.kind == FrameKind::kAck) {
        stream.link.measure(now - stream.pinged_at);
        stream.pinged_at = kNever;
      }
      stream.redial_after = options.redial_after;
      stream.dials = 0;
      return receive(now, session, index, frame);
  }
}

void SessionHub::Impl::receive(ProtocolTime now, Session& session, std::size_t index, const Frame& frame) {
  if (frame.kind == FrameKind::kData && !session.connected) {
    ++counters.dropped_not_connected;
    return;
  }
  ReliableLink& link = session.streams[index].link;
  if (index > 1) link.set_unloaded(unloaded_round_trip(session));
  const std::size_t missing_bytes = link.missing_bytes();
  link.on_frame(now, frame);
  counters.bytes_acked += missing_bytes - link.missing_bytes();
  for (const std::uint64_t tag : link.take_acked())
    if (!session.closing) events.push_back(MessageAcked{session.peer, tag});
  for (const EncodedMessage& encoded : link.take_messages()) {
    if (session.closing) {
      ++counters.messages_after_close;
      continue;
    }
    Result<Message> message = decode_message(encoded);
    if (message.ok())
      events.push_back(MessageReceived{session.peer, std::move(message).value()});
    else
      ++counters.dropped_malformed;
  }
  switch (link.fault()) {
    case LinkFault::kNone:
      return;
    case LinkFault::kPayloadTooLarge:
      ++counters.sessions_payload_too_large;
      return break_off(now, session,
                       fmt::format("it announced a message of more than {} payload bytes, the most that this "
                                   "session may carry",
                                   session.payload_bytes_max),
                       false);
    case LinkFault::kPayloadNotAllowed:
      ++counters.sessions_payload_not_allowed;
      return break_off(now, session, "it announced a payload for a message that has none", false);
    case LinkFault::kBrokenCutting:
      ++counters.sessions_broken_cutting;
      return break_off(now, session, "it sent pieces that make no message", false);
  }
}

void SessionHub::Impl::transmit(RouteId route, Frame frame) {
  ++counters.frames_sent;
  counters.bytes_sent += frame.chunk.size() + frame.message_header.size();
  requests.push_back(TransmitFrame{route, std::move(frame)});
}

void SessionHub::Impl::transmit(ProtocolTime now, Session& session, std::size_t index, Frame frame) {
  SessionStream& stream = session.streams[index];
  frame.destination = session.dialled ? session.request.destination : destination;
  frame.session = session.id;
  frame.stream = StreamIndex(static_cast<std::uint32_t>(index));
  stream.last_sent = now;
  transmit(stream.route, std::move(frame));
}

LinkOptions SessionHub::Impl::link_options(const Session& session, std::size_t stream) const {
  LinkOptions link;
  link.resend_min = options.resend_min;
  link.resend_max = options.resend_max;
  link.credit_bytes = stream == 0 ? options.control_credit_bytes : options.bulk_credit_bytes;
  link.background = stream > 1;
  link.payload_bytes_max = std::min(session.payload_bytes_max, kPayloadBytesMax);
  return link;
}

/// The shortest that any stream has measured; 0: none has.
Duration SessionHub::Impl::unloaded_round_trip(const Session& session) {
  Duration shortest(0);
  for (const SessionStream& stream : session.streams)
    if (const Duration measured = stream.link.estimate().round_trip(); measured > Duration(0))
      shortest = shortest == Duration(0) ? measured : std::min(shortest, measured);
  return shortest;
}

// ---- sessions ----

void SessionHub::Impl::note_bound(Session& session) {
  if (session.connected) return;
  for (const SessionStream& stream : session.streams)
    if (!stream.bound) return;
  session.connected = true;
  session.ever_accepted = true;
  if (!session.closing) events.push_back(PeerConnected{session.peer, session.hello});
}

void SessionHub::Impl::lose(ProtocolTime now, Session& session, std::string reason, bool again) {
  const bool redial = again && session.dialled && !session.closing;
  // Who was never connected is not known to the core, unless it has asked for it.
  if (!session.closing && (session.connected || (session.dialled && !redial)))
    events.push_back(PeerClosed{session.peer, std::move(reason), redial});
  if (redial)
    restart(now, session);
  else
    erase(session);
}

void SessionHub::Impl::break_off(ProtocolTime now, Session& session, const std::string& reason, bool again) {
  send_close(now, session, reason);
  lose(now, session, reason, again);
}

void SessionHub::Impl::let_go(ProtocolTime now, Session& session, std::string reason) {
  if (session.dialled) send_close(now, session, reason);
  lose(now, session, std::move(reason), true);
}

void SessionHub::Impl::erase(Session& session) {
  hang_up(session);
  table.erase(session);
}

void SessionHub::Impl::send_close(ProtocolTime now, Session& session, const std::string& reason) {
  if (session.streams.empty() || !session.streams[0].bound) return;
  Frame frame;
  frame.kind = FrameKind::kClose;
  frame.text = reason;
  transmit(now, session, 0, std::move(frame));
}

void SessionHub::Impl::pump(ProtocolTime now, Session& session) {
  if (session.closing && (is_flushed(session) || now >= session.close_at)) {
    send_close(now, session, *session.closing);
    return erase(session);
  }
  for (std::size_t i = 0; i < session.streams.size(); ++i) {
    SessionStream& stream = session.streams[i];
    if (stream.bound)
      for (Frame& frame : stream.link.take_frames(now)) transmit(now, session, i, std::move(frame));
    const ReliableLink::Counts counts = stream.link.take_counts();
    counters.frames_resent += counts.resent;
    counters.dropped_duplicate += counts.duplicates;
    counters.dropped_gap += counts.beyond_credit;
    counters.dropped_ack_of_unsent += counts.acks_of_unsent;
    counters.dropped_ack_outdated += counts.acks_outdated;
    counters.dropped_after_fault += counts.after_fault;
  }
  update(now, session);
}

void SessionHub::Impl::release_held(ProtocolTime now) {
  while (table.held_bytes() > options.total_held_bytes_max) {
    ++counters.sessions_over_total;
    let_go(now, *table.most_holding(),
           fmt::format("more than {} received bytes make no whole messages, and it holds the most of them",
                       options.total_held_bytes_max));
  }
}

void SessionHub::Impl::send(ProtocolTime now, const SendMessage& request) {
  Session* session = table.find(request.peer);
  if (session == nullptr || !session->connected || session->closing) {
    ++counters.messages_to_nobody;
    return;
  }
  const std::size_t index = std::min<std::size_t>(request.stream.value(), session->streams.size() - 1);
  EncodedMessage encoded = encode_message(request.message);
  const std::size_t bytes = encoded.size_bytes();
  if (encoded.header.size() > kMessageHeaderBytesMax || encoded.payload.size() > kPayloadBytesMax) {
    ++counters.messages_too_large;
    return break_off(
        now, *session,
        fmt::format("a {} for it is larger than a message may be", message_name(request.message)), true);
  }
  std::string overfull;
  if (session->outstanding_bytes + bytes > options.queue_bytes_max)
    overfull = fmt::format("more than {} bytes wait for it", options.queue_bytes_max);
  else if (outstanding_entries(*session) >= options.queue_entries_max)
    overfull = fmt::format("more than {} messages wait for it", options.queue_entries_max);
  if (!overfull.empty()) {
    ++counters.sessions_overfull;
    return break_off(now, *session, overfull, true);
  }
  while (table.outstanding_bytes() + bytes > options.total_queue_bytes_max) {
    Session* victim = table.most_outstanding();
    if (victim == nullptr) victim = session;
    const bool is_own = victim == session;
    ++counters.sessions_over_total;
    let_go(now, *victim,
           fmt::format("more than {} bytes wait for all peers, and most of them for it",
                       options.total_queue_bytes_max));
    if (is_own) return;
  }
  session->streams[index].link.queue(std::move(encoded), request.tag);
  pump(now, *session);
}

// ---- time ----

void SessionHub::Impl::on_deadline(ProtocolTime now) {
  for (const PeerId peer : table.due(now)) {
    Session* session = table.find(peer);
    if (session == nullptr) continue;
    if (session->dialled)
      keep_dialled(now, *session);
    else if (!keep_accepted(now, *session))
      continue;
    pump(now, *session);
  }
}

ProtocolTime SessionHub::Impl::deadline_of(ProtocolTime now, const Session& session) const {
  ProtocolTime deadline = session.close_at;
  for (const SessionStream& stream : session.streams)
    if (stream.bound) deadline = std::min(deadline, stream.link.next_deadline());
  return std::min(deadline, session.dialled ? dialled_deadline(session) : accepted_deadline(now, session));
}

// ---- the public face ----

SessionHub::SessionHub(std::uint32_t own_destination, const SessionOptions& options, RandomStream random)
    : impl_(std::make_unique<Impl>(own_destination, options, random)) {}
SessionHub::~SessionHub() = default;
SessionHub::SessionHub(SessionHub&&) noexcept = default;
SessionHub& SessionHub::operator=(SessionHub&&) noexcept = default;

void SessionHub::set_admission(const std::optional<Admission>& admission) { impl_->admission = admission; }

void SessionHub::open(ProtocolTime now, const OpenPeer& request) {
  NANDUTI_CHECK(request.peer < kFirstAcceptedPeer && impl_->table.find(request.peer) == nullptr);
  NANDUTI_CHECK(request.hello.stream_count >= 1 && request.hello.stream_count <= kStreamsMax);
  Session session;
  session.peer = request.peer;
  session.dialled = true;
  session.request = request;
  session.hello = request.hello;
  session.payload_bytes_max = request.payload_bytes_max;
  impl_->begin(now, impl_->table.add(std::move(session)));
}

void SessionHub::close(ProtocolTime now, const ClosePeer& request) {
  Session* session = impl_->table.find(request.peer);
  if (session == nullptr) return;
  if (request.flush && session->connected && !is_flushed(*session)) {
    session->closing = request.reason;
    session->close_at = now + kFlushMax;
    return impl_->update(now, *session);
  }
  impl_->send_close(now, *session, request.reason);
  impl_->erase(*session);
}

void SessionHub::send(ProtocolTime now, const SendMessage& request) { impl_->send(now, request); }
void SessionHub::on_frame(ProtocolTime now, RouteId route, const Frame& frame) {
  impl_->on_frame(now, route, frame);
}
void SessionHub::on_deadline(ProtocolTime now) { impl_->on_deadline(now); }
ProtocolTime SessionHub::next_deadline() const { return impl_->table.next_deadline(); }
std::vector<SessionEvent> SessionHub::take_events() { return std::exchange(impl_->events, {}); }
std::vector<TransportRequest> SessionHub::take_requests() { return std::exchange(impl_->requests, {}); }
const SessionHub::Counters& SessionHub::counters() const { return impl_->counters; }

std::size_t SessionHub::outstanding_bytes(PeerId peer) const {
  const Session* session = impl_->table.find(peer);
  return session == nullptr ? 0 : session->outstanding_bytes;
}

Duration SessionHub::round_trip(PeerId peer) const {
  const Session* session = impl_->table.find(peer);
  return session == nullptr || session->streams.empty() ? Duration(0) : session->streams[0].link.round_trip();
}

Duration SessionHub::round_trip_deviation(PeerId peer) const {
  const Session* session = impl_->table.find(peer);
  return session == nullptr || session->streams.empty() ? Duration(0)
                                                        : session->streams[0].link.round_trip_deviation();
}

double SessionHub::path_bytes_per_second() const {
  double sum = 0;
  for (const auto& [peer, session] : impl_->table.sessions()) {
    if (peer == PeerId(0)) continue;
    double most = 0;
    for (const SessionStream& stream : session.streams)
      most = std::max(most, stream.link.estimate().path_bytes_per_second());
    if (most == 0) return 0;
    sum += most;
  }
  return sum;
}

ProtocolTime SessionHub::last_heard(PeerId peer) const {
  const Session* session = impl_->table.find(peer);
  if (session == nullptr || session->streams.empty()) return kNever;
  ProtocolTime last = session->streams[0].last_heard;
  for (const SessionStream& stream : session->streams) last = std::max(last, stream.last_heard);
  return last;
}

}  // namespace nanduti
