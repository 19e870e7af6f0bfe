// Writes inputs for fuzz_message to begin with: a valid encoding of every message and of a frame around it.
#include <cstdio>
#include <fstream>
#include <string>

#include "common/protocol/frame.h"
#include "common/protocol/message.h"
#include "test/common/protocol/any_message.h"
#include "test/fuzz/message_input.h"

namespace nanduti {
namespace {

bool write(const std::string& path, MessageInput kind, const SharedBytes& header, const SharedBytes& payload) {
  std::ofstream file(path, std::ios::binary);
  file.put(static_cast<char>(kind));
  file.put(static_cast<char>(payload.size() & 0xFF));
  file.put(static_cast<char>(payload.size() >> 8));
  for (const SharedBytes& part : {header, payload})
    file.write(reinterpret_cast<const char*>(part.data()), static_cast<std::streamsize>(part.size()));
  return file.flush().good();
}

bool write_all(const std::string& folder) {
  AnyMessage any(1);
  for (std::size_t type = 0; type < AnyMessage::kTypes; ++type) {
    Message message;
    do message = any.draw(type);
    while (!decode_message(encode_message(message)).ok() || encode_message(message).payload.size() > 65535);
    const EncodedMessage encoded = encode_message(message);
    Frame frame;
    frame.kind = FrameKind::kData;
    frame.session.words = {1, 2};
    frame.message_header = encoded.header;
    frame.chunk = encoded.payload;
    frame.message_payload_bytes = encoded.payload.size();
    const EncodedFrame wire = encode_frame(frame);
    const std::string name = folder + "/" + std::string(message_name(message));
    if (!write(name, MessageInput::kMessage, encoded.header, encoded.payload)) return false;
    if (!write(name + ".frame", MessageInput::kFrame, wire.header, wire.chunk)) return false;
  }
  for (std::uint8_t kind = 1; kind <= static_cast<std::uint8_t>(FrameKind::kClose); ++kind) {
    Frame frame;
    frame.kind = static_cast<FrameKind>(kind);
    frame.session.words = {1, 2};
    frame.text = "text";
    frame.hello = {kProtocolVersion, kCodecFormat, "1", PeerRole::kWorker, "w", JobId(1), 5, 2, false};
    if (frame.kind == FrameKind::kData) continue;
    const EncodedFrame wire = encode_frame(frame);
    if (!write(folder + "/frame-" + std::to_string(kind), MessageInput::kFrame, wire.header, wire.chunk))
      return false;
  }
  return true;
}

}  // namespace
}  // namespace nanduti

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: fuzz_seeds FOLDER\n", stderr);
    return 64;
  }
  if (nanduti::write_all(argv[1])) return 0;
  std::fprintf(stderr, "fuzz_seeds: cannot write in %s\n", argv[1]);
  return 1;
}
