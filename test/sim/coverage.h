#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nanduti::sim {

/// How often each kind of fault has struck and each state was reached: what a run of the simulator was worth.
class Coverage {
 public:
  void count(std::string_view what, std::uint64_t times = 1) {
    auto it = counts_.find(what);
    if (it == counts_.end()) it = counts_.emplace(what, 0).first;
    it->second += times;
  }
  void add(const Coverage& other) {
    for (const auto& [what, times] : other.counts_) counts_[what] += times;
  }
  [[nodiscard]] std::uint64_t of(std::string_view what) const {
    const auto it = counts_.find(what);
    return it == counts_.end() ? 0 : it->second;
  }
  /// Kinds of faults that have struck, and how many in all.
  [[nodiscard]] std::pair<std::size_t, std::uint64_t> faults() const;
  /// Of kWanted, what was never reached.
  [[nodiscard]] std::vector<std::string> missing() const;
  /// A line each, by name.
  [[nodiscard]] std::string table() const;

 private:
  std::map<std::string, std::uint64_t, std::less<>> counts_;
};

}  // namespace nanduti::sim
