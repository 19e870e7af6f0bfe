#pragma once

#include <memory>
#include <utility>

#include "common/codec/codec.h"

namespace nanduti {

/// The same in both directions.
inline JobCodecs both_ways(std::shared_ptr<const Codec> codec = std::make_shared<DenseFloat32Codec>()) {
  return {codec, codec};
}

}  // namespace nanduti
