#pragma once

#include <memory>

#include "common/compute/network.h"

namespace nanduti {

/// The CPU through oneDNN, float32, on the calling thread alone. Networks share nothing: each may run in a
/// thread of its own.
std::unique_ptr<Backend> make_onednn_backend();

}  // namespace nanduti
