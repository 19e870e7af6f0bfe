#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/protocol/frame.h"
#include "common/protocol/session_hub.h"

namespace nanduti {

/// Largest ZeroMQ part that is accepted: a chunk, or a frame header with a job's text inside.
inline constexpr std::size_t kTransportPartBytesMax = std::size_t{4} << 20;

struct TransportOptions {
  std::optional<std::string>
      listen;                   ///< "tcp://127.0.0.1:7070"; port "*" or 0: any free one. Empty: dial only
  int queue_frames_max = 4096;  ///< per connection and direction; beyond, frames are dropped and counted
};

/// Carries the frames of this process's cores over ZeroMQ: one ROUTER that accepts for all of them, one
/// DEALER for every route that a core dials. Has a thread of its own, which alone touches the sockets. Frames
/// may be lost (full queues, broken connections); SessionHub sends them again.
class ZmqTransport {
 public:
  /// Takes what arrives for one core; runs on the transport's thread and must not block.
  using Receiver = std::function<void(RouteId, Frame)>;

  /// Errors: kUnavailable if the endpoint is in use or cannot be bound; kInvalidArgument if it is no
  /// endpoint.
  static Result<std::unique_ptr<ZmqTransport>> start(const TransportOptions& options);
  /// Lets frames that were submitted leave, for at most a second or so, then closes everything.
  ~ZmqTransport();
  ZmqTransport(const ZmqTransport&) = delete;
  ZmqTransport& operator=(const ZmqTransport&) = delete;

  /// Frames for `destination` go to this receiver from now on. Any thread.
  void attach(std::uint32_t destination, Receiver receiver);
  /// No call of this destination's receiver runs or follows once this returns. Not from a receiver.
  void detach(std::uint32_t destination);
  /// Carries out the requests of the core `owner`, in order. Any thread.
  void submit(std::uint32_t owner, std::vector<TransportRequest> requests);

  /// Where the ROUTER listens, "tcp://127.0.0.1:7070"; empty without one.
  [[nodiscard]] const std::string& endpoint() const;

  struct Counters {
    std::uint64_t frames_in = 0, frames_out = 0;
    std::uint64_t bytes_in = 0, bytes_out = 0;  ///< headers and chunks
    std::uint64_t dropped_malformed = 0;        ///< not a frame, or not from a DEALER
    std::uint64_t dropped_no_receiver = 0;      ///< for a core that is not here
    std::uint64_t dropped_queue_full = 0;       ///< a slow or absent peer
    std::uint64_t dropped_no_route = 0;         ///< the connection is gone
  };
  [[nodiscard]] Counters counters() const;
  /// The counters in a line for the log.
  [[nodiscard]] std::string summary() const;

 private:
  struct Impl;
  explicit ZmqTransport(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace nanduti
