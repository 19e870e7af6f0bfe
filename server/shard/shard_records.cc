#include "server/shard/shard_records.h"

#include <array>
#include <cstring>

namespace nanduti {

namespace {

constexpr std::size_t kAlignment = 8;
using Head = std::array<std::uint64_t, 3>;

std::size_t padded(std::size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

void append_padded(std::vector<SharedBytes>& entry, const SharedBytes& bytes) {
  if (bytes.empty()) return;
  entry.push_back(bytes);
  if (const std::size_t padding = padded(bytes.size()) - bytes.size(); padding > 0)
    entry.push_back(SharedBytes::take(std::vector<std::byte>(padding)));
}

}  // namespace

void append_record(std::vector<SharedBytes>& entry, std::uint64_t number, const Message& message) {
  const EncodedMessage encoded = encode_message(message);
  entry.push_back(
      SharedBytes::take(std::vector<std::uint64_t>{number, encoded.header.size(), encoded.payload.size()}));
  append_padded(entry, encoded.header);
  append_padded(entry, encoded.payload);
}

Result<std::vector<ShardRecord>> decode_entry(const SharedBytes& entry) {
  std::vector<ShardRecord> records;
  std::size_t at = 0;
  const auto take = [&](std::uint64_t size, SharedBytes& out) {
    const std::size_t left = entry.size() - at;
    if (size > left || padded(size) > left) return false;
    out = entry.slice(at, size);
    at += padded(size);
    return true;
  };
  while (at < entry.size()) {
    Head head{};
    SharedBytes bytes;
    EncodedMessage encoded;
    if (!take(sizeof head, bytes)) return make_error(ErrorCode::kCorrupt, "an entry ends within a record");
    std::memcpy(head.data(), bytes.data(), sizeof head);
    if (!take(head[1], encoded.header) || !take(head[2], encoded.payload))
      return make_error(ErrorCode::kCorrupt, "a record is longer than its entry");
    Result<Message> message = decode_message(encoded);
    if (!message.ok()) return message.error().within("a record");
    records.push_back({head[0], std::move(message).value()});
  }
  return records;
}

}  // namespace nanduti
