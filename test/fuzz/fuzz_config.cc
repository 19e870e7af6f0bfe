// Goal: no text crashes a reader of configs and jobs, or makes it build a model beyond the limits (P8).
// Method: the first byte says which file the rest is; a job's model is resolved for data that the second byte
// chooses. Checked: errors are one line that names the file, what is read stays within configs/README.md's
// ranges, reading is repeatable, and models are as large as their tensors say and no larger than allowed.
#include <cmath>

#include "common/base/check.h"
#include "common/config/job_config.h"
#include "common/config/server_config.h"
#include "common/config/worker_config.h"
#include "common/model/resolved_model.h"
#include "test/fuzz/fuzz_input.h"

namespace nanduti {
namespace {

constexpr std::uint64_t kInitialValuesMax = 2 * kBlockSize;
constexpr DataShape kShapes[] = {
    {1, 28, 28, 10},     {3, 32, 32, 100}, {1, 1, 1, 2},       {1, 65535, 1, 256},
    {65535, 256, 4, 10}, {0, 28, 28, 10},  {4096, 4096, 4, 2}, {1, 4294967295u, 4294967295u, 10}};

template <class T>
void check_error(const Result<T>& result) {
  const Error& error = result.error();
  NANDUTI_CHECK(error.message.starts_with("f:") && error.message.find('\n') == std::string::npos, "{}",
                error.message);
}

void check_model(const ResolvedModel& model) {
  // Gaps: less than a block each.
  NANDUTI_CHECK(model.space.size() <= kModelParametersMax + kBlockSize * (model.space.tensors().size() + 1));
  std::uint64_t parameters = 0;
  for (const TensorPlace& place : model.space.tensors()) {
    NANDUTI_CHECK(place.offset + place.size() <= model.space.size(), "{} lies outside", place.name);
    parameters += place.size();
  }
  NANDUTI_CHECK(parameters <= kModelParametersMax && model.space.parameter_count() <= parameters);
  std::vector<FeatureShape> features{{model.data.channels, model.data.height, model.data.width, false}};
  for (const ResolvedLayer& layer : model.layers) {
    NANDUTI_CHECK(layer.source < features.size() && layer.shortcut < features.size());
    NANDUTI_CHECK(layer.input == features[layer.source]);
    if (std::holds_alternative<ResidualSpec>(layer.spec))
      NANDUTI_CHECK(features[layer.shortcut] == layer.input && layer.output == layer.input);
    NANDUTI_CHECK(layer.output.size() <= kLayerOutputsMax && layer.output.size() > 0);
    features.push_back(layer.output);
  }
  NANDUTI_CHECK(features.back().flat && features.back().size() == model.data.classes);
  const std::uint64_t begin = model.space.size() - std::min(model.space.size(), kInitialValuesMax);
  for (const float value : initial_values(model, 1, {begin, model.space.size()}))
    NANDUTI_CHECK(std::isfinite(value));
}

void try_job(const std::string& text, const DataShape& shape) {
  const Result<JobConfig> job = parse_job_text(text, "f");
  if (!job.ok()) return check_error(job);
  NANDUTI_CHECK(!job->model.layers.empty());
  NANDUTI_CHECK(job->model.layers.size() <= kModelLayersMax);
  NANDUTI_CHECK(job->data.classes <= kClassesMax);
  NANDUTI_CHECK(job->training.batch_size >= 1 && job->training.batch_size <= 65536);
  NANDUTI_CHECK(job->training.epochs >= 1 && job->training.epochs <= 100000);
  NANDUTI_CHECK(job->workers_to_start >= 1 && job->workers_to_start <= 1024);
  NANDUTI_CHECK(!job->staleness.bound || *job->staleness.bound <= kStalenessBoundMax);
  NANDUTI_CHECK(job->staleness.local_steps >= 1 && job->staleness.local_steps <= kLocalStepsMax);
  NANDUTI_CHECK(job->training.optimizer.learning_rate > 0 && job->training.optimizer.learning_rate <= 1000);
  NANDUTI_CHECK(!job->target || (job->target->at_least > 0 && job->target->at_least <= 1 && job->data.test));
  const Result<ResolvedModel> model = resolve_model(job->model, shape);
  if (!model.ok()) {
    NANDUTI_CHECK(!model.error().message.empty());
    return;
  }
  check_model(*model);
  const Result<JobConfig> again = parse_job_text(text, "f");
  NANDUTI_CHECK(again.ok() &&
                resolve_model(again->model, shape)->space.layout_hash() == model->space.layout_hash());
}

void try_server(const std::string& text) {
  const Result<ServerConfig> server = parse_server_config(text, "f");
  if (!server.ok()) return check_error(server);
  NANDUTI_CHECK(server->roles.shards <= 64 && (server->roles.shards > 0 || server->roles.coordinator));
  NANDUTI_CHECK(server->roles.coordinator != server->coordinator.has_value());
  NANDUTI_CHECK(server->membership.dead_after > server->membership.suspend_after);
  NANDUTI_CHECK(server->membership.lease_timeout <= std::chrono::hours(24));
}

void try_worker(const std::string& text) {
  const Result<WorkerConfig> worker = parse_worker_config(text, "f");
  if (!worker.ok()) return check_error(worker);
  NANDUTI_CHECK(!worker->data_roots.empty() && worker->data_roots.size() <= 64);
  NANDUTI_CHECK(worker->device.index <= 63);
}

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nanduti;
  FuzzInput input(data, size);
  // Letters, so that seeds are text files.
  switch (input.byte()) {
    case 's':
      try_server(input.rest_as_text());
      break;
    case 'w':
      try_worker(input.rest_as_text());
      break;
    default: {
      const DataShape& shape = kShapes[input.byte() % std::size(kShapes)];
      try_job(input.rest_as_text(), shape);
    }
  }
  return 0;
}
