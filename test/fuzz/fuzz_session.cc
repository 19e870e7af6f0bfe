// Goal: whatever frames strangers send, a hub keeps its limits and its other sessions (P2, P7, P8).
// Method: a server's hub with one honest session over a perfect network, and a hub that dials a hostile
// server. The input decides the strangers' frames, the hubs' own calls and the time. Checked after every
// step: memory and queues within what was received and the limits, counters, and that the honest side's
// messages come once and in order. The strangers do not know the honest session's id, 127 random bits.
#include <map>

#include <sanitizer/allocator_interface.h>

#include "common/base/check.h"
#include "common/protocol/session_hub.h"
#include "test/common/protocol/any_message.h"
#include "test/fuzz/fuzz_input.h"

namespace nanduti {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kPayloadValues = 16;  // of messages of any type
constexpr PeerId kServer{0};                  // as the dialling hubs call it
constexpr std::uint64_t kStrangerRoutes = 4;
constexpr std::uint64_t kHonestRoutesFrom = 1000;
constexpr Duration kAckDelay = 30ms;  // longer than a link's
constexpr std::size_t kHeldBase = std::size_t{2} << 20;
constexpr std::size_t kHeldPerFrame = 2048;  // bookkeeping of a held or queued frame

/// Largest payload that a peer may send.
constexpr std::size_t kPayloadBytes = std::size_t{64} << 20;
constexpr Admission kAdmission{JobId(1), 5, kPayloadBytes, kPayloadBytes};

SessionOptions small_options() {
  SessionOptions options;
  options.control_credit_bytes = 64 << 10;
  options.bulk_credit_bytes = 256 << 10;
  options.queue_bytes_max = 512 << 10;
  options.sessions_max = 8;
  return options;
}

Hello hello(std::uint32_t streams) {
  return {kProtocolVersion, kCodecFormat, "1", PeerRole::kWorker, "honest", JobId(1), 5, streams, false};
}

/// Longer than a chunk.
const SharedBytes& long_payload() {
  static const SharedBytes payload = SharedBytes::take(std::vector<float>(40000, 1.0f));
  return payload;
}

class Scene {
 public:
  explicit Scene(FuzzInput input)
      : input_(input),
        any_(input, kPayloadValues),
        server_(0, small_options(), RandomStream(1)),
        honest_(0, small_options(), RandomStream(2)),
        victim_(0, small_options(), RandomStream(3)) {
    server_.set_admission(kAdmission);
    honest_.open(now_, {kServer, "tcp://server:1", 0, hello(2), kPayloadBytes});
    settle();
    NANDUTI_CHECK(honest_peer_ != PeerId() && honest_connected_, "the honest session does not open");
    victim_.open(now_, {kServer, "tcp://hostile:1", 0, hello(2), kPayloadBytes});
    settle();
    allocated_before_ = __sanitizer_get_current_allocated_bytes();
  }

  void run() {
    while (!input_.empty()) {
      step();
      settle();
      check();
    }
    // Whatever was done: what was sent arrives, with nothing but time.
    for (int i = 0; i < 30; ++i) pass(1s);
    for (std::size_t k = 0; k < 2; ++k) {
      NANDUTI_CHECK(received_up_[k] == sent_up_[k], "{} of {} messages arrived on stream {}", received_up_[k],
                    sent_up_[k], k);
      NANDUTI_CHECK(received_down_[k] == sent_down_[k], "{} of {} messages came back on stream {}",
                    received_down_[k], sent_down_[k], k);
    }
  }

 private:
  void step() {
    switch (input_.below(16)) {
      default:
        return attack_server();
      case 5:
      case 6:
      case 7:
        return attack_victim();
      case 8:
        return pass(Duration(std::chrono::milliseconds(input_.below(2000))));
      case 9:
        honest_.send(now_, numbered(kServer, sent_up_));
        return pass(kAckDelay);
      case 10:
        server_.send(now_, numbered(honest_peer_, sent_down_));
        return pass(kAckDelay);
      case 11:
        return server_.send(now_, any_message(stranger()));
      case 12:
        return server_.close(now_, {stranger(), "enough", input_.flag()});
      case 13:
        return victim_.send(now_, any_message(kServer));
      case 14:
        victim_.close(now_, {kServer, "enough", input_.flag()});
        settle();
        if (!victim_open_) reopen_victim();
        return;
      case 15:
        // Who is in stays in.
        return server_.set_admission(input_.flag() ? std::optional<Admission>(kAdmission) : std::nullopt);
    }
  }

  void reopen_victim() {
    victim_routes_.clear();
    victim_open_ = true;
    victim_.open(now_, {kServer, "tcp://hostile:1", 0,
                        hello(1 + static_cast<std::uint32_t>(input_.below(kStreamsMax))), kPayloadBytes});
  }

  /// What the honest sides tell each other: each stream counts.
  SendMessage numbered(PeerId peer, std::uint64_t (&sent)[2]) {
    const std::uint64_t stream = input_.below(2);
    const JobId number(++sent[stream]);
    Message message = LeaseRequest{number};
    if (stream == 1) message = CutValues{number, CutId(1), long_payload()};
    return {peer, StreamIndex(static_cast<std::uint32_t>(stream)), std::move(message), sent[stream]};
  }
  SendMessage any_message(PeerId peer) {
    Message message = any_.make();
    given_ += encode_message(message).size_bytes();
    ++frames_;
    return {peer, StreamIndex(static_cast<std::uint32_t>(input_.below(3))), std::move(message),
            input_.below(3)};
  }
  PeerId stranger() {
    const PeerId peer(kFirstAcceptedPeer.value() + input_.below(8));
    return peer == honest_peer_ ? PeerId(7) : peer;
  }

  std::uint64_t number() {
    switch (input_.below(4)) {
      case 0:
        return input_.next_u64();
      case 1:
        return std::uint64_t{1} << input_.below(40);
      default:
        return input_.below(8);
    }
  }

  Frame draw_frame() {
    Frame frame;
    frame.kind = input_.flag() ? FrameKind::kData : static_cast<FrameKind>(1 + input_.below(8));
    frame.destination = static_cast<std::uint32_t>(input_.below(2));
    frame.stream = StreamIndex(static_cast<std::uint32_t>(input_.below(8) == 0 ? number() : input_.below(3)));
    frame.next_expected = number();
    frame.credit_bytes = number();
    frame.acceptance = input_.below(3);
    frame.attempt = static_cast<std::uint32_t>(input_.below(3));
    frame.answered_attempt = static_cast<std::uint32_t>(input_.below(3));
    frame.transmission = number();
    frame.newest_transmission = number();
    std::uint64_t held_end = frame.next_expected;
    for (std::uint64_t runs = input_.below(4); runs > 1; --runs) {
      const std::uint64_t begin = held_end + input_.below(3);
      held_end = begin + input_.below(3);
      frame.held.push_back({begin, held_end});
    }
    if (input_.below(4) == 0) frame.text = input_.text(8);
    if (frame.kind == FrameKind::kHello) {
      frame.hello =
          hello(1 + static_cast<std::uint32_t>(input_.below(4) == 0 ? input_.below(18) : input_.below(2)));
      if (input_.below(4) == 0) {
        frame.hello.protocol_version += static_cast<std::uint32_t>(input_.below(2));
        frame.hello.codec_format += static_cast<std::uint32_t>(input_.below(2));
        frame.hello.job = JobId(input_.below(3));
        frame.hello.layout_hash = 4 + input_.below(2);
        frame.hello.resumes = input_.flag();
        frame.hello.name = input_.text(4);
      }
    }
    if (frame.kind == FrameKind::kData) draw_content(frame);
    return frame;
  }

  void draw_content(Frame& frame) {
    frame.sequence = number();
    switch (input_.below(4)) {
      case 0: {  // a whole message
        const EncodedMessage encoded = encode_message(any_.make());
        frame.message_header = encoded.header;
        frame.chunk = encoded.payload;
        frame.message_payload_bytes = encoded.payload.size();
        break;
      }
      case 1:  // the start of one
        frame.message_header = encode_message(CutValues{JobId(1), CutId(1), {}}).header;
        frame.chunk = long_payload().slice(0, input_.below(kChunkBytesMax + 2));
        frame.message_payload_bytes = frame.chunk.size() + number();
        break;
      case 2:  // more of one
        frame.chunk = long_payload().slice(0, input_.below(kChunkBytesMax + 2));
        frame.chunk_offset = input_.below(2) == 0 ? number() : input_.below(4) * kChunkBytesMax;
        frame.message_payload_bytes = frame.chunk_offset + frame.chunk.size() + number();
        break;
      default:
        frame.message_header = FuzzInput::own(input_.bytes(input_.below(64)));
        frame.message_payload_bytes = number();
    }
  }

  /// Most data frames come in order; the rest of their lies is heard only then.
  void continue_stream(Frame& frame) {
    if (frame.kind != FrameKind::kData || input_.below(4) == 0) return;
    frame.sequence = next_sequence_[{frame.session, frame.stream}]++;
  }

  /// As it comes from the network: nothing that does not decode reaches a hub.
  void deliver(SessionHub& hub, std::uint64_t& count, RouteId route, const Frame& frame) {
    const Result<Frame> decoded = decode_frame(encode_frame(frame));
    if (!decoded.ok()) return;
    ++count;
    ++frames_;
    given_ += decoded->chunk.size() + decoded->message_header.size();
    hub.on_frame(now_, route, *decoded);
  }

  void attack_server() {
    Frame frame = draw_frame();
    frame.session.words = {input_.below(3), 1};
    continue_stream(frame);
    deliver(server_, server_frames_, RouteId(1 + input_.below(kStrangerRoutes)), frame);
  }

  void attack_victim() {
    if (victim_routes_.empty()) return;
    Frame frame = draw_frame();
    auto route = victim_routes_.begin();
    std::advance(route, static_cast<std::ptrdiff_t>(input_.below(victim_routes_.size())));
    frame.session = route->second.session;
    if (input_.below(4) != 0) frame.stream = route->second.stream;
    if (input_.below(8) == 0) frame.session.words[0] ^= input_.below(2);
    continue_stream(frame);
    deliver(victim_, victim_frames_, route->first, frame);
  }

  void pass(Duration duration) {
    now_ += duration;
    for (SessionHub* hub : {&server_, &honest_, &victim_})
      if (hub->next_deadline() <= now_) hub->on_deadline(now_);
    settle();
  }

  /// Carries the honest frames until nobody has any, and hears the hubs' events.
  void settle() {
    for (bool moved = true; moved;) {
      moved = false;
      for (TransportRequest& request : honest_.take_requests()) {
        moved = true;
        if (auto* dial = std::get_if<DialRoute>(&request)) {
          const RouteId route(kHonestRoutesFrom + ++honest_dials_);
          to_server_[dial->route] = route;
          to_honest_[route] = dial->route;
        } else if (auto* sent = std::get_if<TransmitFrame>(&request)) {
          ++server_frames_;
          server_.on_frame(now_, to_server_.at(sent->route), sent->frame);
        }
      }
      for (TransportRequest& request : server_.take_requests()) {
        auto* sent = std::get_if<TransmitFrame>(&request);
        NANDUTI_CHECK(sent != nullptr, "an accepting hub dials");
        const auto route = to_honest_.find(sent->route);
        if (route == to_honest_.end()) continue;
        moved = true;
        honest_.on_frame(now_, route->second, sent->frame);
      }
      for (TransportRequest& request : victim_.take_requests()) {
        if (auto* hung_up = std::get_if<HangUpRoute>(&request)) victim_routes_.erase(hung_up->route);
        if (auto* sent = std::get_if<TransmitFrame>(&request))
          victim_routes_[sent->route] = {sent->frame.session, sent->frame.stream};
      }
      hear_server();
      hear_honest();
      for (const SessionEvent& event : victim_.take_events())
        if (const auto* closed = std::get_if<PeerClosed>(&event); closed != nullptr && !closed->redialling) {
          victim_open_ = false;
          victim_routes_.clear();
        }
    }
  }

  void hear_server() {
    for (const SessionEvent& event : server_.take_events()) {
      if (const auto* connected = std::get_if<PeerConnected>(&event)) {
        NANDUTI_CHECK(connected->peer >= kFirstAcceptedPeer && connected->hello.job == JobId(1));
        if (honest_peer_ == PeerId()) honest_peer_ = connected->peer;
      } else if (const auto* closed = std::get_if<PeerClosed>(&event)) {
        NANDUTI_CHECK(closed->peer != honest_peer_, "the honest session is closed: {}", closed->reason);
      } else if (const auto* message = std::get_if<MessageReceived>(&event)) {
        if (message->peer == honest_peer_) count(message->message, received_up_);
      }
    }
  }
  void hear_honest() {
    for (const SessionEvent& event : honest_.take_events()) {
      if (std::holds_alternative<PeerConnected>(event)) {
        honest_connected_ = true;
      } else if (const auto* closed = std::get_if<PeerClosed>(&event)) {
        NANDUTI_CHECK(false, "the honest side loses its session: {}", closed->reason);
      } else if (const auto* message = std::get_if<MessageReceived>(&event)) {
        count(message->message, received_down_);
      }
    }
  }
  static void count(const Message& message, std::uint64_t (&received)[2]) {
    const auto* bulk = std::get_if<CutValues>(&message);
    const auto* control = std::get_if<LeaseRequest>(&message);
    NANDUTI_CHECK(bulk != nullptr || control != nullptr, "the honest session carries a {}",
                  message_name(message));
    const std::uint64_t number = bulk != nullptr ? bulk->job.value() : control->job.value();
    std::uint64_t& expected = received[bulk != nullptr ? 1 : 0];
    NANDUTI_CHECK(number == expected + 1, "message {} after {}", number, expected);
    NANDUTI_CHECK(bulk == nullptr || equal_bytes(bulk->payload, long_payload()));
    expected = number;
  }

  void check() {
    NANDUTI_CHECK(server_.counters().frames_received == server_frames_);
    NANDUTI_CHECK(victim_.counters().frames_received == victim_frames_);
    for (std::uint64_t i = 0; i < 16; ++i)
      NANDUTI_CHECK(server_.outstanding_bytes(PeerId(kFirstAcceptedPeer.value() + i)) <=
                    small_options().queue_bytes_max);
    NANDUTI_CHECK(victim_.outstanding_bytes(kServer) <= small_options().queue_bytes_max);
    const std::size_t allocated = __sanitizer_get_current_allocated_bytes();
    const std::size_t allowed = allocated_before_ + kHeldBase + kHeldPerFrame * frames_ + 4 * given_;
    NANDUTI_CHECK(allocated <= allowed, "{} bytes are held after {} frames of {} bytes",
                  allocated - allocated_before_, frames_, given_);
  }

  struct Dialled {
    SessionId session;
    StreamIndex stream;
  };

  FuzzInput input_;
  AnyMessageFrom<FuzzInput> any_;
  ProtocolTime now_{1h};
  SessionHub server_, honest_, victim_;
  PeerId honest_peer_;
  bool honest_connected_ = false;
  bool victim_open_ = true;
  std::uint64_t honest_dials_ = 0;
  std::map<RouteId, RouteId> to_server_, to_honest_;
  std::map<RouteId, Dialled> victim_routes_;
  std::map<std::pair<SessionId, StreamIndex>, std::uint64_t> next_sequence_;
  std::uint64_t sent_up_[2] = {}, received_up_[2] = {}, sent_down_[2] = {}, received_down_[2] = {};
  std::uint64_t server_frames_ = 0, victim_frames_ = 0;
  std::size_t frames_ = 0, given_ = 0, allocated_before_ = 0;
};

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nanduti::Scene(nanduti::FuzzInput(data, size)).run();
  return 0;
}
