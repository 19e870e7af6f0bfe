#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/connection_watch.h"
#include "common/net/transport_counters.h"
#include "common/protocol/frame.h"
#include "common/protocol/session_hub.h"

namespace nanduti {

/// Frames that the cores have submitted and the transport's thread has not yet taken, of all cores together.
/// Their chunks are the links' own bytes, which wait there for their acknowledgement.
inline constexpr std::size_t kOutboxFramesMax = 65536;
inline constexpr std::size_t kOutboxBytesMax = std::size_t{1} << 30;

struct TransportOptions {
  /// "tcp://127.0.0.1:7070"; port "*" or 0: any free one. Empty: dial only.
  std::optional<std::string> listen = {};
  int queue_frames_max = 4096;  ///< per connection and direction; beyond, frames are dropped and counted
  std::chrono::milliseconds handshake_within{5000};  ///< a connection that has not greeted by then is closed
  std::optional<ConnectionLimits> connections = {};  ///< empty: the defaults, as far as open files allow
  std::string congestion_control = "auto";           ///< see choose_congestion_control()
};

/// Carries the frames of this process's cores over ZeroMQ: one ROUTER that accepts for all of them, one
/// DEALER for every route that a core dials. Has a thread of its own, which alone touches the sockets. Frames
/// may be lost (full queues, broken connections); SessionHub sends them again. A connection that breaks, or
/// whose other end is silent for `kDeadPeerMs` (zmq_transport.cc), is made again by the side that dialled.
class ZmqTransport {
 public:
  /// Takes what arrives for one core, with the bytes of memory that the frame holds; runs on the transport's
  /// thread and must not block.
  using Receiver = std::function<void(RouteId, Frame, std::size_t bytes)>;

  /// Errors: kUnavailable if the endpoint is in use or cannot be bound; kInvalidArgument if it is no
  /// endpoint; kUnavailable if the kernel lacks the congestion control.
  static Result<std::unique_ptr<ZmqTransport>> start(const TransportOptions& options);
  /// Lets frames that were submitted leave, for at most a second or so, then closes everything.
  ~ZmqTransport();
  ZmqTransport(const ZmqTransport&) = delete;
  ZmqTransport& operator=(const ZmqTransport&) = delete;

  /// Frames for `destination` go to this receiver from now on. Any thread.
  void attach(std::uint32_t destination, Receiver receiver);
  /// No call of this destination's receiver runs or follows once this returns. Not from a receiver.
  void detach(std::uint32_t destination);
  /// Carries out the requests of the core `owner`, in order. Frames beyond the outbox's maximum are dropped
  /// and counted. Any thread.
  void submit(std::uint32_t owner, std::vector<TransportRequest> requests);

  /// Where the ROUTER listens, "tcp://127.0.0.1:7070"; empty without one.
  [[nodiscard]] const std::string& endpoint() const;

  using Counters = TransportCounters;
  [[nodiscard]] Counters counters() const;

 private:
  struct Impl;
  explicit ZmqTransport(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace nanduti
