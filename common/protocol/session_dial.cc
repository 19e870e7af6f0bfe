#include <algorithm>

#include "common/protocol/session_hub_impl.h"

namespace nanduti {

namespace {

constexpr Duration kAnswerWithinMin = std::chrono::milliseconds(250);
constexpr std::uint32_t kPatientDial = 4;

/// Where the round trip is known, an attempt to connect waits for one and a half, so that the end of an
/// outage is seen soon: TCP alone would ask ever more rarely. With every further dial twice as long, and now
/// and then patiently: the way may have become longer.
Duration answer_within(const SessionStream& stream) {
  const Duration patient = DialRoute().answer_within;
  if (stream.link.round_trip() == Duration(0) || stream.dials % kPatientDial == 0) return patient;
  const Duration first = std::max(stream.link.round_trip() * 3 / 2, kAnswerWithinMin);
  return std::min(first * (1 << (stream.dials % kPatientDial - 1)), patient);
}

}  // namespace

/// A new session with the peer that the request names.
void SessionHub::Impl::begin(ProtocolTime now, Session& session) {
  session.restart_at = kNever;
  session.begun_at = now;
  session.connected = false;
  session.ever_accepted = false;
  session.acceptance = 0;
  SessionId id;
  id.words = {random.next_u64(), random.next_u64() | 1};
  table.rename(session, id);
  const std::uint32_t count = session.request.hello.stream_count;
  for (std::uint32_t i = 0; i < count; ++i) {
    session.streams.emplace_back(link_options(session, i));
    session.streams.back().last_heard = now;
    session.streams.back().redial_after = options.redial_after;
  }
  for (std::uint32_t i = 0; i < count; ++i) dial(now, session, i);
  update(now, session);
}

/// Ends what there was and begins anew: at once if the session lasted, else later and later, so that a server
/// that ends every session is not flooded.
void SessionHub::Impl::restart(ProtocolTime now, Session& session) {
  ++counters.restarts;
  const bool lasted = session.connected && now - session.begun_at >= options.redial_after;
  hang_up(session);
  table.unname(session);
  session.streams.clear();
  session.connected = false;
  if (lasted) {
    session.restart_after = Duration(0);
    return begin(now, session);
  }
  session.restart_after = std::clamp(session.restart_after * 2, options.heartbeat,
                                     std::max(options.heartbeat, options.redial_after));
  session.restart_at = now + session.restart_after;
  update(now, session);
}

void SessionHub::Impl::dial(ProtocolTime now, Session& session, std::size_t index) {
  SessionStream& stream = session.streams[index];
  if (table.at(stream.route) == SessionTable::Place(session.peer, index))
    requests.push_back(HangUpRoute{stream.route});
  table.bind(session, index, RouteId(next_route++));
  stream.bound = false;
  stream.pinged_at = kNever;
  stream.dialled_at = now;
  ++stream.dials;
  requests.push_back(DialRoute{stream.route, session.request.endpoint, index > 0, answer_within(stream)});
  send_hello(now, session, index);
}

void SessionHub::Impl::hang_up(Session& session) {
  if (!session.dialled) return;
  for (std::size_t i = 0; i < session.streams.size(); ++i) {
    requests.push_back(HangUpRoute{session.streams[i].route});
    table.unbind(session, i);
  }
}

void SessionHub::Impl::send_hello(ProtocolTime now, Session& session, std::size_t index) {
  SessionStream& stream = session.streams[index];
  Frame frame;
  frame.kind = FrameKind::kHello;
  frame.hello = session.request.hello;
  frame.hello.resumes = session.ever_accepted;
  frame.hello.number = ++stream.hello_number;
  stream.link.stamp(frame);
  transmit(now, session, index, std::move(frame));
}

/// May end the session.
void SessionHub::Impl::on_hello_accepted(ProtocolTime now, Session& session, std::size_t index,
                                         const Frame& frame) {
  if (session.acceptance == 0) session.acceptance = frame.acceptance;
  if (session.acceptance != frame.acceptance)
    return lose(now, session, "the server has lost this session", true);
  SessionStream& stream = session.streams[index];
  if (!std::exchange(stream.bound, true)) stream.link.on_new_route(now);
  receive(now, session, index, frame);
  if (session.connected) return;
  note_bound(session);
  // More than a hello, at once: until then the server counts the session as unfinished.
  if (session.connected) ping(now, session, 0);
}

void SessionHub::Impl::keep_dialled(ProtocolTime now, Session& session) {
  if (session.streams.empty()) {
    if (now >= session.restart_at) begin(now, session);
    return;
  }
  for (std::size_t i = 0; i < session.streams.size(); ++i) {
    SessionStream& stream = session.streams[i];
    if (now - std::max(stream.last_heard, stream.dialled_at) >= stream.redial_after) {
      ++counters.redials;
      dial(now, session, i);
      // Up to a tenth less, so that those whom one event has cut off do not come back in step.
      const Duration doubled = std::min(stream.redial_after * 2, options.redial_after_max);
      stream.redial_after =
          doubled -
          Duration(static_cast<std::int64_t>(static_cast<double>(doubled.count()) * 0.1 * random.uniform()));
    } else if (now - stream.last_sent >= options.heartbeat) {
      // Two heartbeats of silence: the connection may be another one beneath this route, which the server
      // knows by a hello only.
      if (!stream.bound || now - stream.last_heard >= 2 * options.heartbeat) {
        send_hello(now, session, i);
        continue;
      }
      ping(now, session, i);
    }
  }
}

void SessionHub::Impl::ping(ProtocolTime now, Session& session, std::size_t index) {
  SessionStream& stream = session.streams[index];
  Frame frame;
  frame.kind = FrameKind::kPing;
  stream.link.stamp(frame);
  stream.pinged_at = now;
  transmit(now, session, index, std::move(frame));
}

ProtocolTime SessionHub::Impl::dialled_deadline(const Session& session) const {
  ProtocolTime deadline = session.streams.empty() ? session.restart_at : kNever;
  for (const SessionStream& stream : session.streams) {
    deadline = std::min(deadline, std::max(stream.last_heard, stream.dialled_at) + stream.redial_after);
    deadline = std::min(deadline, stream.last_sent + options.heartbeat);
  }
  return deadline;
}

}  // namespace nanduti
