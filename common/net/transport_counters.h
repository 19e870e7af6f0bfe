#pragma once

#include <cstdint>
#include <vector>

#include "common/base/named_count.h"

namespace nanduti {

/// What a ZmqTransport has carried, and every drop with its reason.
struct TransportCounters {
  std::uint64_t frames_in = 0, frames_out = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0;  ///< headers and chunks

  std::uint64_t dropped_malformed = 0;       ///< not a frame
  std::uint64_t dropped_too_many_parts = 0;  ///< not a frame by far; its connection is shut down
  std::uint64_t dropped_named_peer = 0;      ///< from a peer that has chosen its own ZeroMQ identity
  std::uint64_t dropped_no_receiver = 0;     ///< for a core that is not here
  std::uint64_t dropped_queue_full = 0;      ///< a slow or absent peer
  std::uint64_t dropped_no_route = 0;        ///< the connection is gone
  std::uint64_t dropped_outbox_full = 0;     ///< the cores send faster than the transport's thread can take

  std::uint64_t connections_accepted = 0, connections_dialled = 0, connections_closed = 0;
  std::uint64_t dials_failed = 0;          ///< no endpoint, or no socket left
  std::uint64_t accepts_failed = 0;        ///< no descriptor left
  std::uint64_t handshakes_failed = 0;     ///< no ZeroMQ peer, or one that is too slow
  std::uint64_t shut_down_unfinished = 0;  ///< too much of a message that does not end
  std::uint64_t shut_down_too_many_parts = 0;
  std::uint64_t shut_down_silent = 0;        ///< accepted, and no frame came
  std::uint64_t shut_down_over_maximum = 0;  ///< accepted while there were too many

  std::uint64_t congestion_restarts = 0;  ///< connections that TCP starved: see PaceCheck

  /// All of them by name, for people.
  [[nodiscard]] std::vector<NamedCount> named() const;
};

}  // namespace nanduti
