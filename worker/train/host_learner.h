#pragma once

#include <memory>

#include "common/base/result.h"
#include "common/compute/network.h"
#include "common/model/resolved_model.h"
#include "common/model/training_spec.h"
#include "worker/train/learner.h"

namespace nanduti {

/// On the CPU, by this backend, which is needed only here. Its errors.
Result<std::unique_ptr<Learner>> make_host_learner(Backend& backend, const ResolvedModel& model,
                                                   const OptimizerSpec& optimizer);

}  // namespace nanduti
