#include "common/net/zmq_message.h"

#include <memory>
#include <span>
#include <utility>

#include <zmq.h>

namespace nanduti {

namespace {

/// A part on the wire (ZMTP 3): flags and a length of one byte, or of eight where one does not do.
std::size_t wire_bytes_of(std::size_t part_bytes) { return part_bytes + (part_bytes <= 255 ? 2 : 9); }

}  // namespace

std::optional<ZmqParts> receive_parts(zmq::socket_ref socket, bool is_router) {
  ZmqParts message;
  for (bool more = true; more;) {
    zmq::message_t part;
    if (!socket.recv(part, zmq::recv_flags::dontwait)) return std::nullopt;  // parts arrive all or none
    more = part.more();
    if (!is_router || message.count > 0) message.wire_bytes += wire_bytes_of(part.size());
    if (!more) message.fd = ::zmq_msg_get(part.handle(), ZMQ_SRCFD);
    if (message.count < message.parts.size()) message.parts[message.count] = std::move(part);
    ++message.count;
  }
  return message;
}

SharedBytes bytes_of(zmq::message_t message) {
  auto owner = std::make_shared<zmq::message_t>(std::move(message));
  const std::span<const std::byte> view(static_cast<const std::byte*>(owner->data()), owner->size());
  return {std::move(owner), view};
}

zmq::message_t message_of(const SharedBytes& bytes) {
  constexpr std::size_t kCopyBytesMax = 1024;
  if (bytes.size() <= kCopyBytesMax) return zmq::message_t(bytes.data(), bytes.size());
  auto* lent = new SharedBytes(bytes);
  return zmq::message_t(
      const_cast<std::byte*>(bytes.data()), bytes.size(),
      [](void*, void* hint) { delete static_cast<SharedBytes*>(hint); }, lent);
}

}  // namespace nanduti
