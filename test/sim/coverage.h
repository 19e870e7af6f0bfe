#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nanduti::sim {

/// How often each kind of fault has struck and each state was reached: what a run of the simulator was worth.
class Coverage {
 public:
  void count(const std::string& what, std::uint64_t times = 1) { counts_[what] += times; }
  void add(const Coverage& other) {
    for (const auto& [what, times] : other.counts_) counts_[what] += times;
  }
  [[nodiscard]] std::uint64_t of(const std::string& what) const {
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
  std::map<std::string, std::uint64_t> counts_;
};

}  // namespace nanduti::sim
