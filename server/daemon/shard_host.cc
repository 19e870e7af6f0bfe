#include "server/daemon/shard_host.h"

#include <new>

#include "common/base/hardware.h"
#include "common/base/random.h"
#include "common/config/job_config.h"
#include "common/config/tuning.h"
#include "common/model/resolved_model.h"

namespace nanduti {

namespace {

ShardOptions shard_options(const std::string& server_name, const std::string& coordinator,
                           std::uint32_t destination, const std::string& endpoint) {
  ShardOptions options;
  options.coordinator_endpoint = coordinator;
  options.registration = {server_name, endpoint, destination, describe_hardware(), JobId()};
  return options;
}

Result<ShardSettings> shard_settings(const TuningSpec& spec, const ParameterSpace& space) {
  Result<JobCodecs> codecs = make_codecs(spec.compression, space);
  if (!codecs.ok()) return codecs.error();
  return ShardSettings{std::move(codecs).value(), spec.staleness.age_power};
}

/// The shard's part of the job's initial model.
Result<ShardStart> load_shard(const OpenShard& request) {
  Result<JobConfig> job = parse_job_text(request.spec_text, fmt::format("job {}", request.job));
  if (!job.ok()) return job.error();
  const DataDescription& data = request.data;
  Result<ResolvedModel> model =
      resolve_model(job->model, {data.channels, data.height, data.width, data.classes});
  if (!model.ok()) return model.error();
  if (model->space.layout_hash() != request.layout_hash || request.end > model->space.size())
    return make_error(ErrorCode::kInvalidArgument,
                      "this server lays the model of job {} out differently than the coordinator",
                      request.job);
  ShardStart start;
  start.values = initial_values(*model, job->training.seed, {request.begin, request.end});
  const TuningSpec own{job->staleness, job->compression};
  Result<ShardSettings> settings = shard_settings(own, model->space);
  if (!settings.ok()) return settings.error();
  static_cast<ShardSettings&>(start) = std::move(settings).value();
  start.deterministic = job->deterministic;
  const ServerOptimizerSpec& optimizer = job->training.server_optimizer;
  const ParameterRange range{request.begin, request.end};
  const bool by_rows = optimizer.type == ServerOptimizerType::kAdagrad;
  start.optimizer = ServerOptimizer(optimizer, range.size(), shard_buffers_begin(model->space, range),
                                    by_rows ? shard_rows(model->space, range) : std::vector<std::uint64_t>());
  start.read_settings = [space = model->space,
                         before = own](const std::string& text) -> Result<ShardSettings> {
    Result<TuningSpec> spec = parse_tuning(text, "a tuning", before);
    if (!spec.ok()) return spec.error();
    return shard_settings(*spec, space);
  };
  return start;
}

}  // namespace

ShardHost::ShardHost(const std::string& server_name, const std::string& coordinator,
                     std::uint32_t destination, ZmqTransport& transport, EventLoop& slow)
    : slow_(slow),
      destination_(destination),
      runner_(fmt::format("shard-{}", destination), transport, destination, SessionOptions(),
              unpredictable_stream(),
              ShardCore(shard_options(server_name, coordinator, destination, transport.endpoint()),
                        unpredictable_stream())) {}

void ShardHost::start() {
  runner_.start([this](const ShardCore::Action& action) { carry_out(action); });
}

void ShardHost::carry_out(const ShardCore::Action& action) {
  if (const auto* admit = std::get_if<ShardCore::Admit>(&action)) {
    runner_.set_admission(admit->admission);
  } else if (const auto* load = std::get_if<ShardCore::LoadShard>(&action)) {
    slow_.post([this, request = load->request] {
      Result<ShardStart> start =
          make_error(ErrorCode::kExhausted, "this server has not enough memory for its shard of the model");
      try {
        start = load_shard(request);
      } catch (const std::bad_alloc&) {
      }
      runner_.post(ShardCore::ShardLoaded{request.job, std::move(start)});
    });
  }
}

}  // namespace nanduti
