#pragma once

#include "common/compute/network.h"
#include "common/model/resolved_model.h"

namespace nanduti {

/// The model as backends take it: the same layers in the same order, tensors by their offsets.
NetworkDescription describe_network(const ResolvedModel& model);

}  // namespace nanduti
