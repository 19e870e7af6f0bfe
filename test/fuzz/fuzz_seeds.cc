// Writes inputs to begin with, made from today's schema and configs, so that they never go stale:
// FOLDER/NAME/FILE for the fuzzer NAME. Those that live in the repository lie in test/fuzz/corpus.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "common/codec/block_codec.h"
#include "common/protocol/frame.h"
#include "common/protocol/message.h"
#include "test/common/protocol/any_message.h"
#include "test/fuzz/message_input.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPayloadBytesSeed = 256;

class Seeds {
 public:
  explicit Seeds(fs::path folder) : folder_(std::move(folder)) {}

  /// Whether every file is on the disk.
  [[nodiscard]] bool write_all() {
    write_messages();
    write_frames();
    for (const char* name : {"session", "shard", "coordinator", "client"}) write_random(name);
    write_configs();
    write_idx();
    write_storage();
    write_codec();
    return good_;
  }

 private:
  void write(const std::string& fuzzer, const std::string& name, const std::string& bytes) {
    fs::create_directories(folder_ / fuzzer);
    std::ofstream file(folder_ / fuzzer / name, std::ios::binary);
    file << bytes;
    good_ = good_ && file.flush().good();
  }
  static std::string text_of(const SharedBytes& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  void write(const std::string& name, MessageInput kind, const SharedBytes& header,
             const SharedBytes& payload) {
    std::string bytes;
    bytes += static_cast<char>(kind);
    bytes += static_cast<char>(payload.size() & 0xFF);
    bytes += static_cast<char>(payload.size() >> 8);
    write("message", name, bytes + text_of(header) + text_of(payload));
  }

  /// A valid encoding of every message, and of a frame around it.
  void write_messages() {
    AnyMessage any(1);
    for (std::size_t type = 0; type < AnyMessage::kTypes; ++type) {
      Message message;
      EncodedMessage encoded;
      do {
        message = any.draw(type);
        encoded = encode_message(message);
      } while (!decode_message(encoded).ok() || encoded.payload.size() > kPayloadBytesSeed);
      Frame frame;
      frame.kind = FrameKind::kData;
      frame.session.words = {1, 2};
      frame.message_header = encoded.header;
      frame.chunk = encoded.payload;
      frame.message_payload_bytes = encoded.payload.size();
      const EncodedFrame wire = encode_frame(frame);
      const std::string name(message_name(message));
      write(name, MessageInput::kMessage, encoded.header, encoded.payload);
      write(name + ".frame", MessageInput::kFrame, wire.header, wire.chunk);
    }
  }
  void write_frames() {
    for (std::uint8_t kind = 1; kind <= static_cast<std::uint8_t>(FrameKind::kClose); ++kind) {
      Frame frame;
      frame.kind = static_cast<FrameKind>(kind);
      frame.session.words = {1, 2};
      frame.text = "text";
      frame.transmission = 2;
      frame.newest_transmission = 3;
      frame.held = {{1, 2}, {4, 6}};
      frame.hello = {kProtocolVersion, kCodecFormat, "1", PeerRole::kWorker, "w", JobId(1), 5, 2, false};
      const EncodedFrame wire = encode_frame(frame);
      write("frame-" + std::to_string(kind), MessageInput::kFrame, wire.header, wire.chunk);
    }
  }

  /// Long enough for a story: these fuzzers read choices.
  void write_random(const std::string& fuzzer) {
    RandomStream random(1);
    for (int i = 0; i < 8; ++i) {
      std::string bytes(384, '\0');
      for (char& byte : bytes) byte = static_cast<char>(random.below(256));
      write(fuzzer, "random-" + std::to_string(i), bytes);
    }
  }

  void write_configs() {
    const fs::path configs = fs::path(NANDUTI_SOURCE_DIR) / "configs";
    for (const auto& entry : fs::recursive_directory_iterator(configs)) {
      if (entry.path().extension() != ".yaml") continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      const std::string name = entry.path().stem().string();
      write("config", name, (name == "server" ? "s" : name == "worker" ? "w" : "j0") + text);
    }
    write("config", "layers",
          "j0model: {layers: [{conv2d: {channels: 4, kernel: 3, padding: 1, bias: false}}, batch_norm, relu, "
          "{residual: {body: [{conv2d: {channels: 8, kernel: 1, stride: 2}}, {batch_norm: {momentum: 0.5}}], "
          "shortcut: [{conv2d: {channels: 8, kernel: 1, stride: 2}}]}}, global_average_pool, dense]}\n"
          "data: {train: {images: a, labels: b}}\n"
          "training: {augment: {crop: 2, flip: true}, schedule: {type: step, warmup_epochs: 1}}\n");
  }

  void write_idx() {
    const std::string images("\0\0\x8\3\0\0\0\2\0\0\0\2\0\0\0\2abcdefgh", 24);
    const std::string labels("\0\0\x8\1\0\0\0\2\0\1", 10);
    const std::string giant("\0\0\x8\4\xFF\xFF\xFF\xFF\0\1\0\0\0\0\0\1\0\0\0\1", 20);
    for (const auto& [name, file] :
         {std::pair("images", images), std::pair("labels", labels), std::pair("giant", giant)}) {
      write("idx", std::string(name) + ".plain", '\0' + file);
      write("idx", std::string(name) + ".gzip", '\1' + file);
    }
    write("idx", "job", '\2' + std::string(400, '\1'));
    write("idx", "cifar", '\3' + std::string(60, '\1'));
  }

  void write_storage() {
    const std::string json =
        R"({"__metadata__":{"format":"pt"},"0.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
        R"("0.bias":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}})";
    std::string length(8, '\0');
    length[0] = static_cast<char>(json.size());
    write("storage", "file", "f" + length + json + std::string(24, '\0'));
    write("storage", "header", "h\x18" + json);
    write("storage", "directory",
          "d\1\2"
          "1\n" +
              std::string(40, '\1'));
  }

  /// Payloads of each form, with the size that they are for.
  void write_codec() {
    std::string dense(9, '\2');
    write("codec", "dense", dense.append(64, '\x3F'));
    RandomStream random(1);
    for (const double density : {0.001, 0.02, 0.4, 1.0}) {
      for (const std::uint32_t value_bits : {2u, 4u, 8u, 32u}) {
        const std::size_t size = density > 0.1 ? 500 : 12000;
        std::vector<float> values(size);
        for (float& value : values) value = static_cast<float>(random.uniform(-1, 1));
        const SharedBytes payload =
            BlockCodec({~std::uint64_t{0}, value_bits, density, {}}).encode(values, {}, {}).payload;
        std::string bytes(9, '\0');
        bytes[0] = '\1';
        bytes[1] = static_cast<char>(size & 0xFF);
        bytes[2] = static_cast<char>(size >> 8);
        write("codec", std::to_string(value_bits) + "-bits-" + std::to_string(density),
              bytes + text_of(payload));
      }
    }
  }

  fs::path folder_;
  bool good_ = true;
};

}  // namespace
}  // namespace nanduti

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: fuzz_seeds FOLDER\n", stderr);
    return 64;
  }
  if (nanduti::Seeds(argv[1]).write_all()) return 0;
  std::fprintf(stderr, "fuzz_seeds: cannot write in %s\n", argv[1]);
  return 1;
}
