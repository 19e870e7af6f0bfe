#pragma once

#include <string>

#include "common/base/result.h"

/// The kernel's TCP congestion controls. Each end chooses for what it sends. One cubic stream gets 5 Mbit/s
/// at 0.1 % loss and 180 ms, one bbr stream 92 (DESIGN section 4).
namespace nanduti {

inline constexpr char kBbr[] = "bbr";

/// The name that new connections are to be given for what a config says: bbr for "auto" where the kernel has
/// it, else empty, the system's own. Errors: kUnavailable if the kernel does not have it or does not let this
/// process use it, with those that it does.
Result<std::string> choose_congestion_control(const std::string& wanted);

/// For a connection or a listener, whose connections then have it from the start. False if `fd` is none.
bool set_congestion_control(int fd, const std::string& name);

/// In force on a connection; "unknown" if `fd` is none.
std::string congestion_control_of(int fd);

}  // namespace nanduti
