#pragma once

#include <cstdint>

/// How an input of fuzz_message is laid out; fuzz_seeds writes such files.
///   byte 0      kind (below, modulo its number)
///   bytes 1, 2  length of the payload or chunk, little-endian; kMessage and kFrame only
///   then        the header, and at the end the payload
namespace nanduti {

enum class MessageInput : std::uint8_t {
  kMessage,  ///< a message's header and payload, as they come from a frame
  kFrame,    ///< a frame's header and chunk, as they come from the network
  kDrawn,    ///< the rest decides the fields of a message that is then encoded, damaged and decoded
};
inline constexpr std::uint8_t kMessageInputs = 3;

}  // namespace nanduti
