#pragma once

#include <string>

#include <fmt/format.h>

namespace nanduti {

/// Prints the message with its place to stderr and aborts.
[[noreturn]] void check_failed(const char* condition, const char* file, int line, const std::string& message);

}  // namespace nanduti

/// What cannot happen. Stays on in release builds. A fmt message may follow the condition.
#define NANDUTI_CHECK(condition, ...)                                                         \
  do {                                                                                        \
    if (!(condition)) [[unlikely]]                                                            \
      ::nanduti::check_failed(#condition, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (false)
