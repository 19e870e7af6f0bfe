#include "test/sim/coverage.h"

#include <fmt/format.h>

namespace nanduti::sim {

namespace {

/// What a run of a few hundred seeds has to reach to be worth its name.
constexpr const char* kWanted[] = {"fault: crash"};

}  // namespace

std::vector<std::string> Coverage::missing() const {
  std::vector<std::string> names;
  for (const char* wanted : kWanted)
    if (of(wanted) == 0) names.emplace_back(wanted);
  return names;
}

std::pair<std::size_t, std::uint64_t> Coverage::faults() const {
  std::pair<std::size_t, std::uint64_t> faults;
  for (const auto& [what, times] : counts_)
    if (what.starts_with("fault: ")) ++faults.first, faults.second += times;
  return faults;
}

std::string Coverage::table() const {
  std::string text;
  for (const auto& [what, times] : counts_) text += fmt::format("{:12}  {}\n", times, what);
  return text;
}

}  // namespace nanduti::sim
