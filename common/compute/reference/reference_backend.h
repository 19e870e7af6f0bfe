#pragma once

#include <memory>

#include "common/compute/network.h"

namespace nanduti {

/// Plain loops in double precision: slow, clear, and what the other backends are compared with.
std::unique_ptr<Backend> make_reference_backend();

}  // namespace nanduti
