#include "server/daemon/shard_host.h"

#include <chrono>
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
  options.registration = {server_name, endpoint, destination, describe_hardware(), JobId(), {}};
  return options;
}

Result<ShardSettings> shard_settings(const TuningSpec& spec, const ParameterSpace& space) {
  Result<JobCodecs> codecs = make_codecs(spec.compression, space);
  if (!codecs.ok()) return codecs.error();
  return ShardSettings{std::move(codecs).value(), spec.staleness.age_power};
}

/// The shard's part of the job's initial model; the values only where they are wanted.
Result<ShardStart> load_shard(const OpenShard& request, bool with_values) {
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
  if (with_values) start.values = initial_values(*model, job->training.seed, {request.begin, request.end});
  const TuningSpec own{job->staleness, job->compression};
  Result<ShardSettings> settings = shard_settings(own, model->space);
  if (!settings.ok()) return settings.error();
  static_cast<ShardSettings&>(start) = std::move(settings).value();
  start.deterministic = job->deterministic;
  start.durability = job->durability;
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

Result<ShardCore> recover_shard(ShardOptions options, StoredLog stored) {
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string& warning : stored.warnings) log_warning("{}", warning);
  RecoveredShard recovered;
  recovered.entries = std::move(stored.entries);
  recovered.complete = stored.complete;
  if (stored.snapshot) {
    RecoveredShard::Snapshot& snapshot = recovered.snapshot.emplace();
    snapshot.head = stored.snapshot->head;
    for (auto& [index, bytes] : stored.snapshot->parts) snapshot.parts.push_back({index, std::move(bytes)});
  }
  const Result<OpenShard> request = ShardCore::request_of(recovered);
  if (!request.ok()) return request.error();
  Result<ShardStart> start = load_shard(*request, !recovered.snapshot);
  if (!start.ok()) return start.error();
  recovered.start = std::move(start).value();
  options.term = Term(stored.term);
  const std::size_t entries = recovered.entries.size();
  Result<ShardCore> core = ShardCore::recover(options, unpredictable_stream(), std::move(recovered));
  if (!core.ok()) return core.error();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  log_info("shard {} goes on with job {} at version {}: {} and {} log entries, {:.1f} MB, in {:.2f} s",
           options.registration.destination, request->job, core->values()->version(),
           stored.snapshot ? "a snapshot" : "no snapshot", entries, static_cast<double>(stored.bytes) / 1e6,
           seconds);
  return core;
}

}  // namespace

Result<std::unique_ptr<ShardHost>> ShardHost::create(const std::string& server_name,
                                                     const std::string& coordinator,
                                                     std::uint32_t destination, ZmqTransport& transport,
                                                     EventLoop& slow, LogStorage storage) {
  ShardOptions options = shard_options(server_name, coordinator, destination, transport.endpoint());
  std::optional<StoredLog> stored = storage.take_stored();
  Result<ShardCore> core = ShardCore(options, unpredictable_stream());
  if (stored) {
    core = recover_shard(options, std::move(*stored));
    if (!core.ok()) return core.error().within(fmt::format("shard {} does not recover", destination));
  }
  std::unique_ptr<ShardHost> host(new ShardHost(std::move(core).value(), destination, transport, slow));
  CoreRunner<ShardCore>& runner = host->runner_;
  host->storage_ = std::make_unique<StorageThread>(
      std::move(storage),
      StorageThread::Owner{[&runner](std::uint64_t entries) { runner.on_durable(entries); },
                           [&runner] { runner.post(SnapshotPartWritten{}); },
                           [&runner](Status status) { runner.post(SnapshotEnded{std::move(status)}); }});
  return host;
}

ShardHost::ShardHost(ShardCore core, std::uint32_t destination, ZmqTransport& transport, EventLoop& slow)
    : slow_(slow),
      destination_(destination),
      runner_(fmt::format("shard-{}", destination), transport, destination, SessionOptions(),
              unpredictable_stream(), std::move(core)) {}

void ShardHost::start() {
  runner_.start([this](const ShardCore::Action& action) { carry_out(action); });
}

void ShardHost::stop() {
  runner_.stop();
  storage_->stop();
}

void ShardHost::carry_out(const ShardCore::Action& action) {
  if (const auto* admit = std::get_if<ShardCore::Admit>(&action)) {
    runner_.set_admission(admit->admission);
  } else if (const auto* load = std::get_if<ShardCore::LoadShard>(&action)) {
    slow_.post([this, request = load->request] {
      Result<ShardStart> start =
          make_error(ErrorCode::kExhausted, "this server has not enough memory for its shard of the model");
      try {
        start = load_shard(request, true);
      } catch (const std::bad_alloc&) {
      }
      runner_.post(ShardCore::ShardLoaded{request.job, std::move(start), request.key});
    });
  } else if (const auto* append = std::get_if<AppendLog>(&action)) {
    storage_->take(*append);
  } else if (const auto* drop = std::get_if<DropLog>(&action)) {
    storage_->take(*drop);
  } else if (const auto* snapshot = std::get_if<BeginSnapshot>(&action)) {
    storage_->take(*snapshot);
  } else if (const auto* part = std::get_if<ShardCore::SnapshotPart>(&action)) {
    storage_->take_part(part->part.index, part->part.bytes);
  }
}

}  // namespace nanduti
