#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/result.h"

/// What one transport message carries. Frames are the unit of loss; messages are rebuilt from them by
/// ReliableLink.
namespace nanduti {

/// Names one transport connection at this end only: a ROUTER's peer, or a DEALER of ours. Never reused.
using RouteId = StrongId<struct RouteIdTag>;

/// Payload bytes of one data frame. Between 64 and 256 KiB by DESIGN section 4.
inline constexpr std::size_t kChunkBytesMax = 128 * 1024;
/// The same of a stream in the background, which takes a long round trip for a queue: the first of the frames
/// that it has in flight has to say how far the other side is, not how long it takes to be sent.
inline constexpr std::size_t kBackgroundChunkBytesMax = 16 * 1024;

/// What the FlatBuffer of a data frame may hold beside the message's header.
inline constexpr std::size_t kFrameFieldsBytesMax = 1024;

/// Runs of frames that an acknowledgement names as held beyond a gap.
inline constexpr std::size_t kHeldRangesMax = 8;

/// The coordinator's destination number; shard cores of a process are 1, 2, ...
inline constexpr std::uint32_t kCoordinatorDestination = 0;

/// A session has this many streams at most: one for control, one for pushes and versions, and one in
/// the background (BandwidthEstimate), for cuts to evaluate.
inline constexpr std::uint32_t kStreamsMax = 3;

enum class PeerRole : std::uint8_t { kWorker = 1, kShard = 2 };

/// Opens or re-binds one stream of a session. The server refuses a mismatch in words.
struct Hello {
  std::uint32_t protocol_version = 0;
  std::uint32_t codec_format = 0;
  std::string program_version;
  PeerRole role = PeerRole::kWorker;
  std::string name;                ///< of the worker or server, for people
  JobId job;                       ///< 0 towards a coordinator
  std::uint64_t layout_hash = 0;   ///< of the job's parameter space; 0 towards a coordinator
  std::uint32_t stream_count = 1;  ///< streams of this session
  bool resumes = false;  ///< the sender has seen this session accepted before: an unknown one is an error
  /// Counts the hellos of this stream of this session, from 1: whatever order they arrive in, the stream is
  /// where the newest one came from.
  std::uint64_t number = 0;
};

enum class FrameKind : std::uint8_t {
  kHello = 1,
  kHelloAccepted = 2,
  kHelloRefused = 3,    ///< `text` says why
  kUnknownSession = 4,  ///< the receiver has no such session: hello again, as a new one
  kData = 5,
  kAck = 6,    ///< carries acknowledgement and credit only
  kPing = 7,   ///< asks for a kAck
  kClose = 8,  ///< the session is over; `text` says why
};

/// Sequence numbers [begin, end).
struct HeldRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool operator==(const HeldRange&) const = default;
};

struct Frame {
  std::uint32_t destination = kCoordinatorDestination;
  SessionId session;
  StreamIndex stream;
  FrameKind kind = FrameKind::kPing;

  /// Counts what is sent on the stream, whatever it carries, from 1: a frame that is sent again has a new
  /// number. 0: not counted.
  std::uint64_t transmission = 0;

  // kData: one chunk of a message. Sequence numbers count data frames of a stream, from 0.
  std::uint64_t sequence = 0;
  std::uint64_t message_payload_bytes = 0;  ///< of the whole message
  std::uint64_t chunk_offset = 0;           ///< of this chunk in the payload
  std::uint32_t attempt = 0;                ///< how often this frame has been sent before
  SharedBytes message_header;               ///< the message's FlatBuffer; on the first chunk only
  SharedBytes chunk;

  // kData, kAck: what the sender of this frame has received on the stream.
  std::uint64_t next_expected = 0;  ///< every data frame below it has arrived
  std::uint64_t credit_bytes = 0;   ///< bytes the other side may have in flight beyond next_expected
  /// Of the data frame that came last, among those below next_expected: whether this answers its first
  /// sending or a later one.
  std::uint32_t answered_attempt = 0;
  /// The largest transmission that has come: what was sent before it and is not acknowledged was lost, or is
  /// overtaken.
  std::uint64_t newest_transmission = 0;
  /// Of the data frames beyond next_expected that have arrived, the first kHeldRangesMax runs, ascending.
  std::vector<HeldRange> held;

  Hello hello;       ///< kHello
  std::string text;  ///< kHelloRefused, kClose; of no other kind
  /// kHelloAccepted: drawn by the acceptor as the session began, never 0. Another one means that the acceptor
  /// has lost the session's state: a hello from before its restart was waiting in a queue.
  std::uint64_t acceptance = 0;
};

/// A frame in its form on the wire: a FlatBuffer (with any message header inside) and the chunk beside it.
struct EncodedFrame {
  SharedBytes header;
  SharedBytes chunk;
};

EncodedFrame encode_frame(const Frame& frame);

/// Verifies and decodes. Errors: kCorrupt, with the field.
Result<Frame> decode_frame(const EncodedFrame& encoded);

}  // namespace nanduti
