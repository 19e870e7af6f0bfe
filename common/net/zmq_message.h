#pragma once

#include <array>
#include <cstddef>
#include <optional>

#include <zmq.hpp>

#include "common/base/bytes.h"

namespace nanduti {

/// A finished ZeroMQ message.
struct ZmqParts {
  std::array<zmq::message_t, 3> parts;  ///< the first ones
  std::size_t count = 0;                ///< of all that it had
  std::size_t wire_bytes = 0;  ///< of its parts and ZeroMQ's framing, without a ROUTER's name for the peer
  int fd = -1;                 ///< of the connection it came from; -1: not known
};

/// The next finished message; nothing if there is none.
std::optional<ZmqParts> receive_parts(zmq::socket_ref socket, bool is_router);

/// Takes the message over, without a copy.
SharedBytes bytes_of(zmq::message_t message);
/// Small parts are copied into the message, large ones are lent to ZeroMQ until it has sent them.
zmq::message_t message_of(const SharedBytes& bytes);

}  // namespace nanduti
