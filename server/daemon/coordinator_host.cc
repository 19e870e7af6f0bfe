#include "server/daemon/coordinator_host.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>

#include <boost/version.hpp>
#include <flatbuffers/base.h>
#include <zmq.h>

#include "common/base/hardware.h"
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/base/version.h"
#include "server/storage/run_record.h"

namespace nanduti {

namespace {

/// Jobs that wait or run, and that are remembered.
constexpr std::size_t kJobsMax = 10'000;

CoordinatorOptions options_of(const ServerConfig& config, ProtocolTime now) {
  CoordinatorOptions options;
  options.durable = true;
  options.wall_offset =
      std::chrono::duration_cast<Duration>(std::chrono::system_clock::now().time_since_epoch()) -
      now.time_since_epoch();
  options.shards = std::max(config.roles.shards, 1u);
  options.suspend_after = config.membership.suspend_after;
  options.dead_after = config.membership.dead_after;
  options.lease_timeout = config.membership.lease_timeout;
  options.prepare_timeout = config.membership.prepare_timeout;
  options.shard_timeout = config.membership.shard_timeout;
  return options;
}

/// Sessions outlive the membership's patience: who is suspended may come back to its session.
SessionOptions session_options(const ServerConfig& config) {
  SessionOptions options;
  options.forget_after = config.membership.dead_after + std::chrono::seconds(10);
  return options;
}

/// "2026-11-24T20:41:07Z"
std::string in_utc(std::time_t time) {
  std::tm utc{};
  gmtime_r(&time, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec);
}

StalenessPlan staleness_of(const StalenessConfig& config) {
  return {config.bound,       config.auto_bound,       config.bound_max,
          config.local_steps, config.auto_local_steps, config.local_steps_max};
}

JobPlan plan_of(JobId id, const JobConfig& config) {
  JobPlan plan;
  plan.id = id;
  plan.key = unpredictable_stream().next_u64();
  plan.name = config.name;
  plan.spec_text = config.source.text;
  plan.epochs = config.training.epochs;
  plan.batch_size = config.training.batch_size;
  plan.staleness = staleness_of(config.staleness);
  plan.evaluate_every = config.evaluate_every;
  plan.workers_to_start = config.workers_to_start;
  plan.deterministic = config.deterministic;
  if (config.target) plan.target_accuracy = config.target->at_least;
  return plan;
}

std::map<std::string, std::string> library_versions() {
  return {{"boost", BOOST_LIB_VERSION},
          {"flatbuffers", fmt::format("{}.{}.{}", FLATBUFFERS_VERSION_MAJOR, FLATBUFFERS_VERSION_MINOR,
                                      FLATBUFFERS_VERSION_REVISION)},
          {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
          {"zeromq", fmt::format("{}.{}.{}", ZMQ_VERSION_MAJOR, ZMQ_VERSION_MINOR, ZMQ_VERSION_PATCH)}};
}

/// What the cut holds of every living worker's pushes, for each shard: its version, then
/// "order:pushes:clock" of each incarnation.
SafetensorsMetadata settled_vectors(const std::vector<CutTaken>& shards) {
  SafetensorsMetadata metadata;
  for (std::size_t k = 0; k < shards.size(); ++k) {
    std::string text = fmt::format("version {}", shards[k].version);
    for (const SettledPosition& settled : shards[k].settled)
      text += fmt::format(" {}:{}:{}", settled.order, settled.next_sequence, settled.clock);
    metadata.emplace(fmt::format("shard_{}", k), std::move(text));
  }
  return metadata;
}

/// The shards' values in order, shape [parameters].
Result<std::vector<float>> joined(const std::vector<CutTaken>& shards, std::uint64_t parameters) {
  std::vector<float> values(parameters);
  std::size_t at = 0;
  for (const CutTaken& shard : shards) {
    const std::size_t count = shard.payload.size() / sizeof(float);
    if (shard.payload.size() % sizeof(float) != 0 || count > parameters - at)
      return make_error(ErrorCode::kCorrupt, "the shards' cuts are larger than the model");
    if (count > 0) std::memcpy(values.data() + at, shard.payload.data(), shard.payload.size());
    at += count;
  }
  if (at != parameters)
    return make_error(ErrorCode::kCorrupt, "the shards' cuts hold {} of {} parameters", at, parameters);
  return values;
}

}  // namespace

Result<std::unique_ptr<CoordinatorHost>> CoordinatorHost::create(const ServerConfig& config,
                                                                 ZmqTransport& transport, EventLoop& slow,
                                                                 StorageDirectory storage, LogStorage log) {
  // As the core's event loop counts it, which has not slept yet.
  const ProtocolTime now(
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()));
  const CoordinatorOptions options = options_of(config, now);
  Result<CoordinatorCore> core = CoordinatorCore(options);
  if (std::optional<StoredLog> stored = log.take_stored()) {
    for (const std::string& warning : stored->warnings) log_warning("{}", warning);
    const std::optional<SharedBytes> snapshot =
        stored->snapshot ? std::optional(stored->snapshot->head) : std::nullopt;
    core = CoordinatorCore::recover(options, now, snapshot, stored->entries, stored->complete);
    if (!core.ok()) return core.error().within("the coordinator does not recover");
  }
  std::unique_ptr<CoordinatorHost> host(
      new CoordinatorHost(config, transport, slow, std::move(storage), std::move(core).value()));
  const CoordinatorCore& known = host->runner_.core();
  for (const JobReport& report : known.job_reports(now))
    NANDUTI_RETURN_IF_ERROR(
        host->know_again(report, known.view(report.id)->plan.spec_text, known.data_of(report.id)));
  CoreRunner<CoordinatorCore>& runner = host->runner_;
  host->log_ = std::make_unique<StorageThread>(
      std::move(log),
      StorageThread::Owner{[&runner](std::uint64_t entries) { runner.on_durable(entries); }, [] {},
                           [&runner](Status status) { runner.post(SnapshotEnded{std::move(status)}); }});
  return host;
}

CoordinatorHost::CoordinatorHost(const ServerConfig& config, ZmqTransport& transport, EventLoop& slow,
                                 StorageDirectory storage, CoordinatorCore core)
    : slow_(slow),
      storage_(std::move(storage)),
      runner_("coordinator", transport, kCoordinatorDestination, session_options(config),
              unpredictable_stream(), std::move(core)) {
  runner_.set_admission(CoordinatorCore::admission());
}

/// A job that the core has recovered.
Status CoordinatorHost::know_again(const JobReport& report, const std::string& spec_text,
                                   const std::optional<DataDescription>& data) {
  Job job;
  job.state = report.state;
  job.epochs_logged = report.figures.size();
  std::error_code ignored;
  job.model_saved = std::filesystem::exists(storage_.model_path(report.id), ignored);
  job.run_saved = std::filesystem::exists(storage_.run_path(report.id), ignored);
  const std::string name = fmt::format("job {}", report.id);
  Result<JobConfig> config = parse_job_text(spec_text, name);
  if (config.ok()) {
    job.config = std::move(config).value();
  } else {
    if (!is_over(report.state)) return config.error();
    job.config.source.text = spec_text;  // of an older program
  }
  job.tuned = {job.config.staleness, job.config.compression};
  if (!report.tunings.empty() && !report.tunings.back().settings.empty()) {
    Result<TuningSpec> tuned = parse_tuning(report.tunings.back().settings, name, job.tuned);
    if (tuned.ok()) job.tuned = std::move(tuned).value();
  }
  if (data) {
    Result<ResolvedModel> model =
        resolve_model(job.config.model, {data->channels, data->height, data->width, data->classes});
    if (!model.ok()) return model.error().within(name);
    job.model = std::move(model).value();
  }
  next_job_ = std::max(next_job_, report.id.next());
  jobs_.emplace(report.id, std::move(job));
  return {};
}

void CoordinatorHost::start() {
  // Of jobs whose end the process before this one has not come to write down.
  for (const JobReport& report : runner_.core().job_reports(runner_.now())) {
    const std::lock_guard lock(mutex_);
    if (is_over(report.state) && !jobs_.at(report.id).run_saved)
      slow_.post([this, report] { write_run(report); });
  }
  runner_.start([this](const CoordinatorCore::Action& action) { carry_out(action); });
}

void CoordinatorHost::stop() {
  runner_.stop();
  log_->stop();
}

// ---- the desk: on the HTTP server's thread ----

/// What an operator has been told is done is not forgotten.
Status CoordinatorHost::do_durably(std::function<void(CoordinatorCore&, ProtocolTime)> work) {
  const std::optional<bool> durable = runner_.run_durably(std::move(work));
  if (!durable) return make_error(ErrorCode::kUnavailable, "the server is stopping");
  if (!*durable)
    return make_error(
        ErrorCode::kUnavailable,
        "the server's disk does not take it (see the server's log): it is done, and forgotten if "
        "the server ends before there is room");
  return {};
}

Result<JobId> CoordinatorHost::submit(std::string yaml, std::string name) {
  Result<JobConfig> config = parse_job_text(std::move(yaml), std::move(name));
  if (!config.ok()) return config.error();
  JobId id;
  {
    const std::lock_guard lock(storage_mutex_);
    const Result<JobId> next = storage_.next_job_id();
    if (!next.ok()) return next.error();
    // Not one that is known here, even if somebody has removed its folder.
    id = std::max(*next, next_job_);
    next_job_ = id.next();
    NANDUTI_RETURN_IF_ERROR(storage_.create_job(id, config->source.text));
  }
  const JobPlan plan = plan_of(id, *config);
  {
    const std::lock_guard lock(mutex_);
    if (jobs_.size() >= kJobsMax)
      return make_error(ErrorCode::kExhausted, "this server has taken its maximum of {} jobs", kJobsMax);
    Job job;
    job.config = std::move(config).value();
    job.tuned = {job.config.staleness, job.config.compression};
    jobs_.emplace(id, std::move(job));
  }
  NANDUTI_RETURN_IF_ERROR(do_durably([&](CoordinatorCore& core, ProtocolTime now) {
    core.on_event(now, CoordinatorCore::SubmitJob{plan});
  }));
  log_info("job {} '{}' is submitted", id, plan.name);
  return id;
}

Status CoordinatorHost::cancel(JobId job) {
  bool known = false;
  NANDUTI_RETURN_IF_ERROR(do_durably([&](CoordinatorCore& core, ProtocolTime now) {
    known = core.view(job) != nullptr;
    core.on_event(now, CoordinatorCore::CancelJob{job, "cancelled by an operator"});
  }));
  if (!known) return make_error(ErrorCode::kNotFound, "no job has the id {}", job);
  return {};
}

Status CoordinatorHost::tune(JobId id, std::string yaml, std::string name) {
  TuningSpec before;
  std::optional<ResolvedModel> model;
  {
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(id);
    if (job == jobs_.end()) return make_error(ErrorCode::kNotFound, "no job has the id {}", id);
    before = job->second.tuned;
    model = job->second.model;
  }
  Result<TuningSpec> spec = parse_tuning(std::move(yaml), std::move(name), before);
  if (!spec.ok()) return spec.error();
  if (model) {
    const Result<JobCodecs> codecs = make_codecs(spec->compression, model->space);
    if (!codecs.ok()) return codecs.error();
  }
  Status tunable;
  NANDUTI_RETURN_IF_ERROR(do_durably([&](CoordinatorCore& core, ProtocolTime now) {
    tunable = core.check_tunable(id);
    if (tunable.ok() && !model)
      tunable = make_error(ErrorCode::kRefused, "job {} has just begun: try again", id);
    if (!tunable.ok()) return;
    core.on_event(now, CoordinatorCore::TuneJob{id, staleness_of(spec->staleness), to_yaml(*spec),
                                                "tuned by an operator"});
  }));
  NANDUTI_RETURN_IF_ERROR(tunable);
  const std::lock_guard lock(mutex_);
  jobs_.at(id).tuned = std::move(spec).value();
  return {};
}

Result<std::vector<JobReport>> CoordinatorHost::jobs() {
  std::vector<JobReport> reports;
  if (!runner_.run([&](CoordinatorCore& core, ProtocolTime now) { reports = core.job_reports(now); }))
    return make_error(ErrorCode::kUnavailable, "the server is stopping");
  for (JobReport& report : reports) report = with_paths(std::move(report));
  return reports;
}

Result<JobReport> CoordinatorHost::job(JobId id) {
  std::optional<JobReport> report;
  if (!runner_.run([&](CoordinatorCore& core, ProtocolTime now) { report = core.job_report(now, id); }))
    return make_error(ErrorCode::kUnavailable, "the server is stopping");
  if (!report) return make_error(ErrorCode::kNotFound, "no job has the id {}", id);
  return with_paths(std::move(*report));
}

Result<WorkersReport> CoordinatorHost::workers() {
  WorkersReport report;
  if (!runner_.run([&](CoordinatorCore& core, ProtocolTime now) { report = core.workers_report(now); }))
    return make_error(ErrorCode::kUnavailable, "the server is stopping");
  return report;
}

Result<ProcessCounters> CoordinatorHost::counters() {
  ProcessCounters all = others_();
  all.cores.insert(all.cores.begin(), own_counters());
  return all;
}

JobReport CoordinatorHost::with_paths(JobReport report) {
  const std::lock_guard lock(mutex_);
  const auto job = jobs_.find(report.id);
  if (job == jobs_.end()) return report;
  if (job->second.model_saved) report.model = storage_.model_path(report.id).string();
  if (job->second.run_saved) report.run = storage_.run_path(report.id).string();
  return report;
}

// ---- the core's thread ----

void CoordinatorHost::carry_out(const CoordinatorCore::Action& action) {
  if (const auto* plan_model = std::get_if<CoordinatorCore::PlanModel>(&action)) {
    slow_.post([this, request = *plan_model] { plan(request); });
  } else if (const auto* checkpoint = std::get_if<CoordinatorCore::SaveCheckpoint>(&action)) {
    slow_.post([this, request = *checkpoint] { save_checkpoint(request); });
  } else if (const auto* result = std::get_if<CoordinatorCore::SaveResult>(&action)) {
    JobReport report = *runner_.core().job_report(runner_.now(), result->job);
    // Whoever hears that the job is done finds model and record there.
    report.state = JobState::kDone;
    if (report.target) report.target_met = report.accuracy.value_or(0.0) >= *report.target;
    slow_.post([this, request = *result, report] {
      Status status = save_model(request);
      if (status.ok()) write_run(report);
      runner_.post(CoordinatorCore::ResultSaved{request.job, std::move(status)});
    });
  } else if (const auto* changed = std::get_if<CoordinatorCore::JobChanged>(&action)) {
    on_job_changed(changed->job);
  } else if (const auto* append = std::get_if<AppendLog>(&action)) {
    log_->take(*append);
  } else if (const auto* snapshot = std::get_if<BeginSnapshot>(&action)) {
    log_->take(*snapshot);
  }
}

void CoordinatorHost::on_job_changed(JobId id) {
  const ProtocolTime now = runner_.now();
  const std::optional<JobReport> report = runner_.core().job_report(now, id);
  if (!report) return;
  JobState before = JobState::kQueued;
  bool has_test = false;
  std::size_t logged = 0;
  {
    const std::lock_guard lock(mutex_);
    Job& job = jobs_.at(id);
    before = std::exchange(job.state, report->state);
    has_test = job.config.data.test.has_value();
    logged = job.epochs_logged;
    while (job.epochs_logged < report->figures.size() &&
           (!has_test || report->figures[job.epochs_logged].accuracy))
      ++job.epochs_logged;
  }
  for (; logged < report->figures.size() && (!has_test || report->figures[logged].accuracy); ++logged) {
    const EpochReport& epoch = report->figures[logged];
    log_info("job {}: epoch {}/{} settled after {:.1f} s{}", id, epoch.epoch, report->epochs, epoch.seconds,
             epoch.accuracy ? fmt::format(", accuracy {:.4f}", *epoch.accuracy) : std::string());
  }
  // Also a job that is done: its workers' last statuses come after its end.
  if (is_over(report->state)) slow_.post([this, report = *report] { write_run(report); });
  if (before == report->state) return;
  log_info("job {} '{}' is {}{}{}", id, report->name, to_string(report->state),
           report->reason.empty() ? "" : ": ", report->reason);
}

// ---- the thread for slow work ----

void CoordinatorHost::plan(const CoordinatorCore::PlanModel& request) {
  const DataDescription& data = request.data;
  const auto answer = [&](Result<CoordinatorCore::PlannedModel> result) {
    runner_.post(CoordinatorCore::ModelPlanned{request.job, std::move(result)});
  };
  Result<JobConfig> config = parse_job_text(request.spec_text, fmt::format("job {}", request.job));
  if (!config.ok()) return answer(config.error());
  Result<ResolvedModel> model =
      resolve_model(config->model, {data.channels, data.height, data.width, data.classes});
  if (!model.ok()) return answer(model.error());
  const CoordinatorCore::PlannedModel planned{model->space.size(), model->space.layout_hash()};
  {
    const std::lock_guard lock(mutex_);
    jobs_.at(request.job).model = std::move(model).value();
  }
  answer(planned);
}

void CoordinatorHost::save_checkpoint(const CoordinatorCore::SaveCheckpoint& request) {
  const ResolvedModel model = model_of(request.job);
  Result<std::vector<float>> values = joined(request.shards, model.space.size());
  const std::lock_guard lock(storage_mutex_);
  const Status status = values.ok() ? storage_.save_checkpoint(request.job, request.epoch, model.space,
                                                               *values, settled_vectors(request.shards))
                                    : values.error();
  if (!status.ok())
    log_error("job {}: the checkpoint of epoch {} is not saved: {}", request.job, request.epoch,
              status.error().message);
}

Status CoordinatorHost::save_model(const CoordinatorCore::SaveResult& request) {
  const ResolvedModel model = model_of(request.job);
  Result<std::vector<float>> values = joined(request.shards, model.space.size());
  if (!values.ok()) return values.error();
  {
    const std::lock_guard lock(storage_mutex_);
    NANDUTI_RETURN_IF_ERROR(storage_.save_model(request.job, model.space, *values));
  }
  const std::lock_guard lock(mutex_);
  jobs_.at(request.job).model_saved = true;
  return {};
}

ResolvedModel CoordinatorHost::model_of(JobId id) {
  const std::lock_guard lock(mutex_);
  const std::optional<ResolvedModel>& model = jobs_.at(id).model;
  NANDUTI_CHECK(model.has_value());
  return *model;
}

void CoordinatorHost::write_run(const JobReport& report) {
  RunRecord record;
  {
    const std::lock_guard lock(mutex_);
    const Job& job = jobs_.at(report.id);
    record.job_text = job.config.source.text;
    record.seed = job.config.training.seed;
    if (job.model) record.parameter_count = job.model->space.parameter_count();
  }
  for (const ParticipantReport& worker : report.participants)
    record.workers.push_back({worker.name, worker.site, worker.device, worker.hardware});
  record.job = report.id;
  record.name = report.name;
  record.state = to_string(report.state);
  record.reason = report.reason;
  record.target = report.target;
  record.accuracy = report.accuracy;
  record.target_met = report.target_met;
  if (report.started_s) record.started = in_utc(static_cast<std::time_t>(*report.started_s));
  record.ended = in_utc(std::time(nullptr));
  record.program_version = kProgramVersion;
  record.library_versions = library_versions();
  record.server_hardware = describe_hardware();
  record.training_seconds = report.training_seconds;
  record.samples = report.samples;
  record.repeated_samples = report.repeated_samples;
  record.stall_fraction = report.stall_fraction;
  record.bytes_up = report.bytes_up;
  record.bytes_down = report.bytes_down;
  record.pipeline = report.pipeline.named();
  for (const EpochReport& epoch : report.figures)
    record.epochs.push_back({epoch.epoch, epoch.accuracy, epoch.test_loss, epoch.loss.value_or(std::nan("")),
                             epoch.seconds, epoch.samples, epoch.evaluation_seconds});
  for (const EvaluationReport& evaluation : report.evaluations)
    record.evaluations.push_back({evaluation.samples, evaluation.accuracy, evaluation.test_loss,
                                  evaluation.seconds, evaluation.evaluation_seconds});
  record.evaluations_skipped = report.evaluations_skipped;
  for (const TuningReport& tuning : report.tunings)
    record.tunings.push_back({tuning.from_round, tuning.seconds, tuning.bound, tuning.local_steps, tuning.why,
                              tuning.settings, tuning.in_force});
  const std::string json = to_json(record);
  Status status;
  {
    const std::lock_guard lock(storage_mutex_);
    status = storage_.save_run(report.id, json);
  }
  if (!status.ok())
    return log_error("job {}: its record is not saved: {}", report.id, status.error().message);
  const std::lock_guard lock(mutex_);
  jobs_.at(report.id).run_saved = true;
}

std::vector<JobId> CoordinatorHost::unfinished_jobs() {
  std::vector<JobId> unfinished;
  runner_.run([&](CoordinatorCore& core, ProtocolTime now) {
    for (const JobReport& report : core.job_reports(now))
      if (!is_over(report.state)) unfinished.push_back(report.id);
  });
  return unfinished;
}

}  // namespace nanduti
