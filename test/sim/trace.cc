#include "test/sim/trace.h"

#include <cstdio>

#include "test/sim/plan.h"

namespace nanduti::sim {

namespace {

constexpr std::size_t kTailMax = 40;

double seconds(ProtocolTime at) { return std::chrono::duration<double>(at - kBeginning).count(); }

std::string to_line(const Trace::Entry& entry) {
  if (entry.what[0] == 0) return fmt::format("{}\n", entry.name);
  const std::string node = entry.node == 0     ? "coordinator"
                           : entry.node < 1000 ? fmt::format("shard {}", entry.node - 1)
                                               : fmt::format("process {}", entry.node - 1000);
  return fmt::format("{:10.6f} {:12} {} {} {} {}\n", seconds(entry.at), node, entry.what, entry.name,
                     entry.first, entry.second);
}

}  // namespace

void Trace::add(const Entry& entry) {
  ++count_;
  hash_.add(static_cast<std::uint64_t>(entry.at.time_since_epoch().count()));
  hash_.add((static_cast<std::uint64_t>(entry.node) << 32) ^ (entry.first << 16) ^ entry.second);
  hash_.add(static_cast<std::uint64_t>(entry.what[0]) ^ (entry.name.size() << 8));
  if (print_) std::fputs(to_line(entry).c_str(), stdout);
  tail_.push_back(entry);
  if (tail_.size() > kTailMax) tail_.pop_front();
}

void Trace::tell(ProtocolTime at, std::string text) {
  story_.push_back(fmt::format("{:10.6f} {}", seconds(at), text));
  add({at, 0, "", story_.back(), story_.size(), 0});
}

std::string Trace::tail() const {
  std::string text;
  for (const Entry& entry : tail_) text += to_line(entry);
  return text;
}

}  // namespace nanduti::sim
