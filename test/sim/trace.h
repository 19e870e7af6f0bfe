#pragma once

#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "common/base/bytes.h"
#include "common/base/protocol_time.h"

namespace nanduti::sim {

/// A promise has been broken.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(fmt::format(format, std::forward<Args>(args)...));
}

/// Everything that happened, as a hash and a short tail; all of it on stdout where asked for.
class Trace {
 public:
  struct Entry {
    ProtocolTime at;
    int node = 0;             ///< 0 the coordinator, 1.. shards, 1000.. worker processes
    const char* what = "";    ///< static text
    std::string_view name;    ///< of a message; static text
    std::uint64_t first = 0;  ///< details that `what` gives meaning to
    std::uint64_t second = 0;
  };

  explicit Trace(bool print) : print_(print) {}
  void add(const Entry& entry);
  /// A line for people.
  void tell(ProtocolTime at, std::string text);
  [[nodiscard]] std::vector<std::string> story() const { return {story_.begin(), story_.end()}; }
  [[nodiscard]] std::uint64_t hash() const { return hash_.value(); }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::string tail() const;

 private:
  bool print_;
  std::uint64_t count_ = 0;
  Fingerprint hash_;
  std::deque<Entry> tail_;
  std::deque<std::string> story_;
};

}  // namespace nanduti::sim
