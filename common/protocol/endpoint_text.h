#pragma once

#include <string>
#include <string_view>

namespace nanduti {

/// "tcp://HOST:PORT" as a peer can dial it: where HOST stands for all addresses of its machine (0.0.0.0, [::]
/// or *), the host of `seen_at` takes its place, an endpoint on the same machine that is known to work.
std::string dialable(std::string_view endpoint, std::string_view seen_at);

}  // namespace nanduti
