#include <algorithm>

#include "common/protocol/session_hub_impl.h"

namespace nanduti {

namespace {

/// A peer that has been silent for more heartbeats than this is not said to be heard.
constexpr int kHeardHeartbeats = 5;

std::string_view role_name(PeerRole role) { return role == PeerRole::kWorker ? "worker" : "shard"; }

}  // namespace

std::string SessionHub::Impl::mismatch(const Hello& hello) const {
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
  if (hello.stream_count > kStreamsMax)
    return fmt::format("a session has {} streams at most; the {} '{}' wants {}", kStreamsMax,
                       role_name(hello.role), hello.name, hello.stream_count);
  if (hello.job != admission->job)
    return fmt::format("job {} is not open here; the open one is {}", hello.job, admission->job);
  if (hello.layout_hash != admission->layout_hash)
    return fmt::format(
        "the {} '{}' lays the model of job {} out differently (hash {:016x}, here {:016x}): its data or "
        "its release differs",
        role_name(hello.role), hello.name, hello.job, hello.layout_hash, admission->layout_hash);
  return {};
}

void SessionHub::Impl::answer(RouteId route, const Frame& request, FrameKind kind, std::string text) {
  Frame frame;
  frame.destination = destination;
  frame.session = request.session;
  frame.stream = request.stream;
  frame.kind = kind;
  frame.text = std::move(text);
  transmit(route, std::move(frame));
}

/// Whether there is room for one more session. Who has only said hello makes room for others.
bool SessionHub::Impl::make_room(ProtocolTime now) {
  const std::size_t unfinished_max = std::max<std::size_t>(options.unfinished_max, 1);
  if (table.size() < options.sessions_max && table.unfinished_count() < unfinished_max) return true;
  Session* oldest = table.oldest_unfinished();
  if (oldest == nullptr) return false;
  ++counters.sessions_displaced;
  lose(now, *oldest, "it was not finished, and others came", false);
  return true;
}

/// The new session that a hello asks for, or nullptr.
Session* SessionHub::Impl::accept(ProtocolTime now, RouteId route, const Frame& frame) {
  std::string refusal = mismatch(frame.hello);
  if (!refusal.empty()) {
    ++counters.hellos_refused;
    answer(route, frame, FrameKind::kHelloRefused, std::move(refusal));
    return nullptr;
  }
  if (frame.hello.resumes) {
    ++counters.dropped_unknown_session;
    answer(route, frame, FrameKind::kUnknownSession, {});
    return nullptr;
  }
  if (!make_room(now)) {  // no word: who is honest tries again
    ++counters.dropped_no_room;
    return nullptr;
  }
  Session session;
  session.peer = PeerId(next_accepted_peer++);
  session.id = frame.session;
  session.hello = frame.hello;
  session.payload_bytes_max = frame.hello.role == PeerRole::kWorker ? admission->worker_payload_bytes_max
                                                                    : admission->shard_payload_bytes_max;
  session.acceptance = random.next_u64() | 1;
  session.unfinished_since = now;
  for (std::uint32_t i = 0; i < frame.hello.stream_count; ++i) {
    session.streams.emplace_back(link_options(session, i));
    session.streams.back().last_heard = session.streams.back().heard_since = now;
  }
  Session& added = table.add(std::move(session));
  table.set_unfinished(added, true);
  return &added;
}

void SessionHub::Impl::on_hello(ProtocolTime now, RouteId route, const Frame& frame) {
  const std::size_t index = frame.stream.value();
  if (frame.session.is_zero() || frame.hello.number == 0 || index >= frame.hello.stream_count ||
      index >= kStreamsMax) {
    ++counters.dropped_bad_hello;
    return;
  }
  Session* session = table.find(frame.session);
  if (session != nullptr && (session->dialled || index >= session->streams.size())) {
    ++counters.dropped_bad_hello;
    return;
  }
  // Who would have many sessions needs as many connections.
  const auto carried = table.at(route);
  if (carried && (session == nullptr || *carried != SessionTable::Place(session->peer, index))) {
    ++counters.dropped_wrong_route;
    return;
  }
  if (session == nullptr && !admission) {  // who is in stays in
    ++counters.dropped_not_admitting;
    return;
  }
  if (session == nullptr) session = accept(now, route, frame);
  if (session == nullptr) return;
  SessionStream& stream = session->streams[index];
  const bool is_new = frame.hello.number > stream.hello_number;
  const bool is_repeated = frame.hello.number == stream.hello_number && route == stream.route;
  if (!is_new && !is_repeated) {
    ++counters.dropped_old_hello;
    return;
  }
  stream.hello_number = frame.hello.number;
  if (!stream.bound) session->unfinished_since = now;
  const bool moved = stream.bound && stream.route != route;
  table.bind(*session, index, route);
  stream.bound = true;
  note_heard(now, stream);
  Frame accepted;
  accepted.kind = FrameKind::kHelloAccepted;
  accepted.acceptance = session->acceptance;
  stream.link.stamp(accepted);
  transmit(now, *session, index, std::move(accepted));
  receive(now, *session, index, frame);  // its acknowledgement: ends nothing
  if (moved) {
    ++counters.route_changes;
    stream.link.on_new_route(now);
  }
  note_bound(*session);
}

void SessionHub::Impl::note_heard(ProtocolTime now, SessionStream& stream) const {
  if (now - stream.last_heard > kHeardHeartbeats * options.heartbeat) stream.heard_since = now;
  stream.last_heard = now;
}

/// When a peer that goes on being heard has taken nothing for too long.
ProtocolTime SessionHub::Impl::stall_deadline(ProtocolTime now, const SessionStream& stream) const {
  const ProtocolTime waiting_since = stream.link.waiting_since();
  if (waiting_since == kNever || now - stream.last_heard > kHeardHeartbeats * options.heartbeat)
    return kNever;
  return std::max(waiting_since, stream.heard_since) + options.stalled_after;
}

ProtocolTime SessionHub::Impl::accepted_deadline(ProtocolTime now, const Session& session) const {
  ProtocolTime deadline = kNever;
  ProtocolTime heard = session.streams[0].last_heard;
  for (const SessionStream& stream : session.streams) {
    heard = std::max(heard, stream.last_heard);
    deadline = std::min(deadline, stall_deadline(now, stream));
  }
  deadline = std::min(deadline, heard + options.forget_after);
  if (!session.finished) deadline = std::min(deadline, session.unfinished_since + options.unfinished_after);
  return deadline;
}

bool SessionHub::Impl::keep_accepted(ProtocolTime now, Session& session) {
  ProtocolTime heard = session.streams[0].last_heard;
  bool stalled = false;
  for (const SessionStream& stream : session.streams) {
    heard = std::max(heard, stream.last_heard);
    stalled = stalled || now >= stall_deadline(now, stream);
  }
  if (!session.finished && now >= session.unfinished_since + options.unfinished_after) {
    ++counters.sessions_unfinished;
    lose(now, session, "it said hello and no more", false);
  } else if (now - heard >= options.forget_after) {
    ++counters.sessions_forgotten;
    lose(now, session, "nothing was heard of it for too long", false);
  } else if (stalled) {
    ++counters.sessions_stalled;
    lose(now, session, "it has taken nothing that was sent to it for too long", false);
  } else {
    return true;
  }
  return false;
}

}  // namespace nanduti
