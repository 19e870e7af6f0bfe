#pragma once

#include <cstddef>
#include <source_location>
#include <string>
#include <typeindex>
#include <vector>

#include "test/simt/grid.h"

namespace nanduti::simt {

/// Shared memory of the block that runs: an array for each declaration, all ones until it is written, with a
/// canary behind it. One thread.
class SharedMemory {
 public:
  SharedMemory();

  /// Of another block: nothing is declared.
  void clear();
  /// The array that a declaration stands for: the same for every thread. Null if there is no room: `wrong`
  /// says so.
  void* declare(const SharedLayout& layout, std::source_location at, std::string& wrong);
  /// Where the array was declared behind which something was written; empty: nowhere.
  [[nodiscard]] std::string overrun() const;
  [[nodiscard]] bool contains(const void* address) const;

 private:
  struct Declaration {
    std::source_location at;
    std::type_index type;
    std::size_t offset = 0;
    std::size_t bytes = 0;
  };

  std::vector<std::byte> bytes_;
  std::size_t begin_;  // aligned
  std::vector<Declaration> declarations_;
  std::size_t declared_ = 0;
  std::size_t used_ = 0;  // with the canaries
};

}  // namespace nanduti::simt
