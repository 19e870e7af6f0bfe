#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace nanduti {

/// Read-only bytes with shared ownership: a slice keeps the whole alive. Copying is cheap. Any thread may
/// read.
class SharedBytes {
 public:
  SharedBytes() = default;
  SharedBytes(std::shared_ptr<const void> owner, std::span<const std::byte> view)
      : owner_(std::move(owner)), view_(view) {}

  /// Takes over the values of `items`; the bytes are theirs, in this machine's (little-endian) order.
  template <class T>
  static SharedBytes take(std::vector<T> items) {
    auto owner = std::make_shared<const std::vector<T>>(std::move(items));
    const auto view = std::as_bytes(std::span<const T>(*owner));
    return SharedBytes(std::move(owner), view);
  }

  [[nodiscard]] std::span<const std::byte> view() const { return view_; }
  [[nodiscard]] const std::byte* data() const { return view_.data(); }
  [[nodiscard]] std::size_t size() const { return view_.size(); }
  [[nodiscard]] bool empty() const { return view_.empty(); }
  [[nodiscard]] const std::shared_ptr<const void>& owner() const { return owner_; }
  /// Precondition: offset + count <= size().
  [[nodiscard]] SharedBytes slice(std::size_t offset, std::size_t count) const {
    return SharedBytes(owner_, view_.subspan(offset, count));
  }

 private:
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> view_;
};

/// FNV-1a over 64-bit: for trace hashes and fingerprints, not for security.
class Fingerprint {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) hash_ = (hash_ ^ static_cast<std::uint64_t>(b)) * 0x100000001B3ull;
  }
  void add(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8)
      hash_ = (hash_ ^ ((value >> shift) & 0xFF)) * 0x100000001B3ull;
  }
  /// Eight bytes at a time: of equal length, other values than add() gives.
  void add_words(std::span<const std::byte> bytes) {
    for (; bytes.size() >= sizeof(std::uint64_t); bytes = bytes.subspan(sizeof(std::uint64_t))) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data(), sizeof word);
      hash_ = (hash_ ^ word) * 0x100000001B3ull;
      hash_ ^= hash_ >> 32;  // a product's upper bits know the lower ones, not the other way round
    }
    add(bytes);
  }
  [[nodiscard]] std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xCBF29CE484222325ull;
};

}  // namespace nanduti
