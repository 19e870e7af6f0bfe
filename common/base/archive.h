#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/protocol_time.h"
#include "common/base/strong_id.h"

/// State as bytes and back, from one list of its fields: `archive(a, b, c)` writes them or reads them.
/// Numbers are little-endian and as wide as they are, lists have their length before them. A class takes part
/// with `template <class Archive> void archive(Archive& a) { a(field_, other_); }`, a plain struct also with
/// a function archive(a, value) beside it. No versions: whoever stores the bytes says what wrote them.
namespace nanduti {

/// As it is: whoever reads it in another process has to know how far apart the two clocks are.
template <class Archive>
void archive(Archive& a, ProtocolTime& time) {
  std::int64_t since = time.time_since_epoch().count();
  a(since);
  time = ProtocolTime(Duration(since));
}

namespace archive_detail {

template <class T>
inline constexpr bool kIsList = false;
template <class T>
inline constexpr bool kIsList<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsList<std::deque<T>> = true;
template <class T>
inline constexpr bool kIsKeyed = false;
template <class K>
inline constexpr bool kIsKeyed<std::set<K>> = true;
template <class K, class V>
inline constexpr bool kIsKeyed<std::map<K, V>> = true;
template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <class T>
inline constexpr bool kIsPair = false;
template <class A, class B>
inline constexpr bool kIsPair<std::pair<A, B>> = true;
template <class T>
inline constexpr bool kIsId = false;
template <class Tag, class Value>
inline constexpr bool kIsId<StrongId<Tag, Value>> = true;
/// Copied as bytes. Not bool, which has bytes that are none.
template <class T>
inline constexpr bool kIsNumber = (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);

}  // namespace archive_detail

class ArchiveWriter {
 public:
  static constexpr bool kReads = false;

  template <class... Fields>
  void operator()(const Fields&... fields) {
    (put(fields), ...);
  }
  [[nodiscard]] std::vector<std::byte> take() { return std::exchange(bytes_, {}); }

 private:
  template <class T>
  void put(const T& value) {
    using namespace archive_detail;
    if constexpr (kIsNumber<T>) {
      append(std::as_bytes(std::span(&value, 1)));
    } else if constexpr (std::is_same_v<T, bool>) {
      put(static_cast<std::uint8_t>(value ? 1 : 0));
    } else if constexpr (std::is_enum_v<T>) {
      put(static_cast<std::underlying_type_t<T>>(value));
    } else if constexpr (kIsId<T>) {
      put(value.value());
    } else if constexpr (std::is_same_v<T, std::string>) {
      put(std::uint64_t{value.size()});
      append(std::as_bytes(std::span(value)));
    } else if constexpr (std::is_same_v<T, SharedBytes>) {
      put(std::uint64_t{value.size()});
      append(value.view());
    } else if constexpr (kIsList<T> || kIsKeyed<T>) {
      put(std::uint64_t{value.size()});
      for (const auto& item : value) put(item);
    } else if constexpr (kIsOptional<T>) {
      put(value.has_value());
      if (value) put(*value);
    } else if constexpr (kIsPair<T>) {
      put(value.first);
      put(value.second);
    } else if constexpr (requires(T & t) { t.archive(*this); }) {
      const_cast<T&>(value).archive(*this);  // NOLINT: one list of fields for both ways; this one reads them
    } else {
      archive(*this, const_cast<T&>(value));  // NOLINT: the same
    }
  }
  void append(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

  std::vector<std::byte> bytes_;
};

/// Reads what an ArchiveWriter has written. Bytes that are something else make it fail, and what it then
/// gives is default or of no meaning; no list is made longer than there are bytes.
class ArchiveReader {
 public:
  static constexpr bool kReads = true;

  explicit ArchiveReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class... Fields>
  void operator()(Fields&... fields) {
    (get(fields), ...);
  }
  /// Everything has been read, and nothing was wrong.
  [[nodiscard]] bool is_complete() const { return !failed_ && rest_.empty(); }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  template <class T>
  void get(T& value) {
    using namespace archive_detail;
    if constexpr (kIsNumber<T>) {
      const std::span<const std::byte> bytes = take(sizeof(T));
      if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(T));
    } else if constexpr (std::is_same_v<T, bool>) {
      std::uint8_t byte = 0;
      get(byte);
      failed_ = failed_ || byte > 1;
      value = byte == 1;
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> number{};
      get(number);
      value = static_cast<T>(number);
    } else if constexpr (kIsId<T>) {
      auto number = T().value();
      get(number);
      value = T(number);
    } else if constexpr (std::is_same_v<T, std::string>) {
      const std::span<const std::byte> bytes = take(count());
      value.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    } else if constexpr (std::is_same_v<T, SharedBytes>) {
      const std::span<const std::byte> bytes = take(count());
      value = SharedBytes::take(std::vector<std::byte>(bytes.begin(), bytes.end()));
    } else if constexpr (kIsList<T>) {
      value.clear();
      for (std::uint64_t left = count(); left > 0 && !failed_; --left) get(value.emplace_back());
    } else if constexpr (kIsKeyed<T>) {
      value.clear();
      for (std::uint64_t left = count(); left > 0 && !failed_; --left) {
        if constexpr (requires { typename T::mapped_type; }) {
          std::pair<typename T::key_type, typename T::mapped_type> item;
          get(item);
          value.insert(std::move(item));
        } else {
          typename T::key_type key;
          get(key);
          value.insert(std::move(key));
        }
      }
    } else if constexpr (kIsOptional<T>) {
      bool has = false;
      get(has);
      value.reset();
      if (has)
        get(value.emplace(
            typename T::value_type()));  // clang 14 finds no default constructor of a nested class
    } else if constexpr (kIsPair<T>) {
      get(value.first);
      get(value.second);
    } else if constexpr (requires { value.archive(*this); }) {
      value.archive(*this);
    } else {
      archive(*this, value);
    }
  }
  /// Of items, each of a byte at least.
  std::uint64_t count() {
    std::uint64_t number = 0;
    get(number);
    if (number <= rest_.size()) return number;
    failed_ = true;
    return 0;
  }
  /// Empty, and a failure, where there are fewer.
  std::span<const std::byte> take(std::uint64_t size) {
    if (failed_ || size > rest_.size()) {
      failed_ = true;
      return {};
    }
    const std::span<const std::byte> taken = rest_.first(static_cast<std::size_t>(size));
    rest_ = rest_.subspan(static_cast<std::size_t>(size));
    return taken;
  }

  std::span<const std::byte> rest_;
  bool failed_ = false;
};

}  // namespace nanduti
