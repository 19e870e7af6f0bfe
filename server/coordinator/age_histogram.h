#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>

namespace nanduti {

/// Counts of pushes by their age in rounds. Pure; one thread.
class AgeHistogram {
 public:
  /// Older ones count as this old.
  static constexpr std::uint32_t kAgeMax = 1023;

  void add(std::uint32_t age) {
    ++counts_[age < kAgeMax ? age : kAgeMax];
    ++total_;
  }
  /// The smallest age that at least `part` of the pushes do not exceed; empty without pushes.
  [[nodiscard]] std::optional<std::uint32_t> percentile(double part) const {
    if (total_ == 0) return std::nullopt;
    std::uint64_t below = 0;
    for (std::uint32_t age = 0; age < kAgeMax; ++age) {
      below += counts_[age];
      if (static_cast<double>(below) >= part * static_cast<double>(total_)) return age;
    }
    return kAgeMax;
  }

  template <class Archive>
  void archive(Archive& a) {
    std::map<std::uint32_t, std::uint64_t> known;
    for (std::uint32_t age = 0; age <= kAgeMax; ++age)
      if (counts_[age] > 0) known.emplace(age, counts_[age]);
    a(known);
    if (!Archive::kReads) return;
    counts_ = {};
    total_ = 0;
    for (const auto& [age, count] : known) {
      if (age > kAgeMax) continue;
      counts_[age] = count;
      total_ += count;
    }
  }

 private:
  std::array<std::uint64_t, kAgeMax + 1> counts_{};
  std::uint64_t total_ = 0;
};

}  // namespace nanduti
