#include "worker/daemon/worker_host.h"

#include <chrono>
#include <new>

#include <time.h>
#include <unistd.h>

#include "common/base/hardware.h"
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/base/version.h"
#include "common/config/data_files.h"
#include "common/config/job_config.h"
#include "common/config/tuning.h"
#include "common/model/resolved_model.h"
#include "worker/client/stall_meter.h"
#include "worker/train/job_data.h"
#include "worker/train/trainer.h"

namespace nanduti {

namespace {

ClientOptions client_options(const WorkerConfig& config, const ComputeDevice& device) {
  ClientOptions options;
  options.coordinator_endpoint = config.coordinator.tcp();
  options.program_version = kProgramVersion;
  options.registration.name =
      config.name.empty() ? fmt::format("{}-{}", host_name(), ::getpid()) : config.name;
  options.registration.site = config.site;
  options.registration.device = device.description();
  options.registration.hardware = describe_hardware();
  return options;
}

/// A pass over the parameters each time.
constexpr Duration kNormEvery = std::chrono::seconds(5);

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// One clock for both threads of the pipeline.
ProtocolTime steady_now() { return ProtocolTime(std::chrono::steady_clock::now().time_since_epoch()); }

double seconds_between(ProtocolTime begin, ProtocolTime end) {
  return std::chrono::duration<double>(end - begin).count();
}

/// CPU time of the calling thread.
double thread_cpu_seconds() {
  timespec used{};
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) != 0) return 0;
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

/// Where the job's files lie on this machine; nothing outside the data roots.
Result<JobDataFiles> find_files(std::span<const std::filesystem::path> roots, const DataConfig& data) {
  JobDataFiles files;
  files.format = data.format;
  files.classes = data.classes;
  const auto find = [&](const std::string& file, std::filesystem::path& to) -> Status {
    Result<std::filesystem::path> found = resolve_data_file(roots, file);
    if (!found.ok()) return found.error();
    to = *found;
    return {};
  };
  const auto find_set = [&](const DataFiles& set, JobDataFiles::Set& to) -> Status {
    if (data.format == DataFormat::kIdx) {
      NANDUTI_RETURN_IF_ERROR(find(set.images, to.images));
      return find(set.labels, to.labels);
    }
    for (const std::string& file : set.files) NANDUTI_RETURN_IF_ERROR(find(file, to.files.emplace_back()));
    return {};
  };
  NANDUTI_RETURN_IF_ERROR(find_set(data.train, files.train));
  if (data.test) NANDUTI_RETURN_IF_ERROR(find_set(*data.test, files.test.emplace()));
  return files;
}

Result<RoundSettings> round_settings(const TuningSpec& spec, std::uint32_t batch_size,
                                     const ParameterSpace& space) {
  RoundSettings settings;
  settings.bound = spec.staleness.bound;
  settings.round_samples = std::uint64_t{spec.staleness.local_steps} * batch_size;
  if (spec.staleness.at_bound == AtBound::kAccumulate) settings.accumulate_rounds_max = kAccumulateRoundsMax;
  settings.weights = {static_cast<float>(spec.staleness.own_work), static_cast<float>(spec.staleness.rho)};
  Result<JobCodecs> codecs = make_codecs(spec.compression, space);
  if (!codecs.ok()) return codecs.error();
  settings.codecs = std::move(codecs).value();
  return settings;
}

}  // namespace

struct WorkerHost::Work {
  JobId job;
  std::unique_ptr<Trainer> trainer;
};

struct WorkerHost::Pipeline {
  JobId job;
  std::shared_ptr<WorkingMemory> memory;
  Replica replica;
  StallMeter meter;
  bool work_expected = false;
  PipelineFigures figures;
  double cpu_seconds_before = 0;
  ProtocolTime norm_due{};  // the residual's

  /// What the computing thread would wait for, were it idle now.
  [[nodiscard]] Wait resting_cause() const {
    if (replica.is_computing()) return Wait::kMerge;  // for what hands over to it
    if (replica.offered()) return replica.waits_at() == Replica::Gate::kWindow ? Wait::kWindow : Wait::kGate;
    return work_expected ? Wait::kData : Wait::kNone;
  }
};

WorkerHost::WorkerHost(const WorkerConfig& config, ZmqTransport& transport,
                       std::shared_ptr<ComputeDevice> device, std::function<void()> on_stopped)
    : config_(config),
      device_(std::move(device)),
      on_stopped_(std::move(on_stopped)),
      compute_("compute"),
      coding_("coding"),
      runner_("client", transport, 0, SessionOptions(), unpredictable_stream(),
              ClientCore(client_options(config, *device_), unpredictable_stream())) {}

WorkerHost::~WorkerHost() {
  runner_.stop();
  job_stop_.request_stop();
  compute_.stop();
  coding_.stop();
}

void WorkerHost::start() {
  compute_.start([] {});
  coding_.start([] {});
  runner_.start([this](const ClientCore::Action& action) { carry_out(action); });
}

void WorkerHost::drain() { runner_.post(ClientCore::DrainRequested{}); }

void WorkerHost::carry_out(const ClientCore::Action& action) {
  if (const auto* job = std::get_if<ClientCore::LoadJob>(&action)) {
    job_stop_.request_stop();
    job_stop_ = std::stop_source();
    compute_.post([this, request = *job, stop = job_stop_.get_token()] { load(request, stop); });
  } else if (const auto* open = std::get_if<ClientCore::OpenReplica>(&action)) {
    coding_.post(
        [this, options = open->options, stop = job_stop_.get_token()] { open_replica(options, stop); });
  } else if (const auto* work = std::get_if<ClientCore::ReplicaWork>(&action)) {
    coding_.post([this, event = work->event, stop = job_stop_.get_token()] { feed(event, stop); });
  } else if (const auto* work_is = std::get_if<ClientCore::WorkExpected>(&action)) {
    coding_.post([this, expected = work_is->expected, stop = job_stop_.get_token()] {
      if (stop.stop_requested() || !pipeline_) return;
      pipeline_->work_expected = expected;
      pipeline_->meter.set_cause(steady_now(), pipeline_->resting_cause());
    });
  } else if (const auto* cut = std::get_if<ClientCore::EvaluateCut>(&action)) {
    compute_.post([this, request = *cut, stop = job_stop_.get_token()] { evaluate(request, stop); });
  } else if (std::holds_alternative<ClientCore::UnloadJob>(action)) {
    job_stop_.request_stop();
    compute_.post([this] { work_.reset(); });
    coding_.post([this] { pipeline_.reset(); });
  } else if (const auto* stopped = std::get_if<ClientCore::Stopped>(&action)) {
    failure_ = stopped->failure;
    const std::scoped_lock lock(device_mutex_);
    if (failure_.empty()) failure_ = device_failure_;
    on_stopped_();
  }
}

void WorkerHost::open_replica(const ReplicaOptions& options, std::stop_token stop) {
  if (stop.stop_requested()) return;
  const auto give_up = [&](const Error& error) {
    pipeline_.reset();
    fail(options.job, error, stop);
  };
  Result<std::shared_ptr<WorkingMemory>> memory = device_->make_memory();
  if (!memory.ok()) return give_up(memory.error());
  ReplicaOptions with_memory = options;
  with_memory.memory = *memory;
  try {
    pipeline_ = std::make_unique<Pipeline>(
        Pipeline{options.job, *memory, Replica(with_memory), {}, false, {}, 0, {}});
  } catch (const std::bad_alloc&) {
    return give_up(
        make_error(ErrorCode::kExhausted, "this worker has not enough memory for a copy of the model"));
  }
  if (const Status status = (*memory)->status(); !status.ok()) return give_up(status.error());
  pipeline_->cpu_seconds_before = thread_cpu_seconds();
}

void WorkerHost::feed(Replica::Event event, const std::stop_token& stop) {
  if (stop.stop_requested() || !pipeline_) return;
  const bool codes =
      std::holds_alternative<Replica::TimeToCode>(event) || std::holds_alternative<Replica::Flush>(event);
  const bool merges = std::holds_alternative<Replica::MergeVersion>(event);
  if (codes || merges) pipeline_->meter.set_cause(steady_now(), codes ? Wait::kCodec : Wait::kMerge);
  pipeline_->replica.on_event(std::move(event));
  if (const Status status = pipeline_->memory->status(); !status.ok()) {
    const JobId job = pipeline_->job;
    pipeline_.reset();
    return fail(job, status.error(), stop);
  }
  pipeline_->meter.set_cause(steady_now(), pipeline_->resting_cause());
  for (const Replica::Action& action : pipeline_->replica.take_actions()) carry_out(action, stop);
}

void WorkerHost::carry_out(const Replica::Action& action, const std::stop_token& stop) {
  if (const auto* round = std::get_if<Replica::ComputeRound>(&action)) {
    compute_.post([this, request = *round, stop] { compute(request, stop); });
  } else if (const auto* report = std::get_if<Replica::Report>(&action)) {
    runner_.post(ClientCore::ReplicaReported{pipeline_->job, *report}, stop);
  } else if (std::holds_alternative<Replica::CodeRound>(action)) {
    coding_.post([this, stop] { feed(Replica::TimeToCode(), stop); });
  }
}

/// The job cannot go on here; nor can anything else, if the device is gone.
void WorkerHost::fail(JobId job, const Error& error, const std::stop_token& stop) {
  runner_.post(ClientCore::WorkFailed{job, error.message}, stop);
  const Status device = device_->check();
  if (device.ok()) return;
  {
    const std::scoped_lock lock(device_mutex_);
    device_failure_ = fmt::format("{}; the device is lost: {}", error.message, device.error().message);
  }
  runner_.post(ClientCore::DrainRequested{});
}

/// The computing thread was busy with the job from `begin` to `end`.
void WorkerHost::worked(ProtocolTime begin, ProtocolTime end, double cpu_seconds) {
  Pipeline& pipeline = *pipeline_;
  pipeline.meter.on_work(begin, end);
  pipeline.figures.stall = pipeline.meter.stall();
  pipeline.figures.compute_cpu_seconds += cpu_seconds;
  pipeline.figures.codec_cpu_seconds = thread_cpu_seconds() - pipeline.cpu_seconds_before;
  if (end < pipeline.norm_due) return;
  pipeline.norm_due = end + kNormEvery;
  pipeline.figures.residual_norm = pipeline.replica.residual_norm();
}

void WorkerHost::load(const ClientCore::LoadJob& request, std::stop_token stop) {
  if (stop.stop_requested()) return;
  work_.reset();
  Result<LoadedJob> loaded =
      make_error(ErrorCode::kExhausted, "this worker has not enough memory for the job's data and model");
  try {
    loaded = load_job(request);
  } catch (const std::bad_alloc&) {
    work_.reset();
  }
  runner_.post(ClientCore::JobLoaded{request.job, std::move(loaded)}, stop);
}

Result<LoadedJob> WorkerHost::load_job(const ClientCore::LoadJob& request) {
  const auto begin = std::chrono::steady_clock::now();
  Result<JobConfig> job = parse_job_text(request.spec_text, fmt::format("job {}", request.job));
  if (!job.ok()) return job.error();
  Result<JobDataFiles> files = find_files(config_.data_roots, job->data);
  if (!files.ok()) return files.error();
  Result<std::shared_ptr<const JobData>> data =
      load_job_data(*files, job->data.normalize == Normalize::kAuto);
  if (!data.ok()) return data.error();
  Result<ResolvedModel> model = resolve_model(job->model, (*data)->shape);
  if (!model.ok()) return model.error();
  NANDUTI_RETURN_IF_ERROR(Trainer::fits(*model, job->training, **data));
  Result<std::unique_ptr<Learner>> learner = device_->make_learner(*model, job->training.optimizer);
  if (!learner.ok()) return learner.error();
  Result<std::unique_ptr<Trainer>> trainer =
      Trainer::create(std::move(learner).value(), *model, job->training, *data);
  if (!trainer.ok()) return trainer.error();

  LoadedJob loaded;
  loaded.data.train_samples = (*data)->train.count;
  loaded.data.test_samples = (*data)->test ? (*data)->test->count : 0;
  loaded.data.channels = model->data.channels;
  loaded.data.height = model->data.height;
  loaded.data.width = model->data.width;
  loaded.data.classes = model->data.classes;
  loaded.data.fingerprint = (*data)->fingerprint;
  loaded.layout_hash = model->space.layout_hash();
  loaded.parameters = model->space.size();
  loaded.deterministic = job->deterministic;
  loaded.initial_values = std::make_shared<const std::vector<float>>(
      initial_values(*model, job->training.seed, {0, model->space.size()}));
  const TuningSpec own{job->staleness, job->compression};
  Result<RoundSettings> settings = round_settings(own, job->training.batch_size, model->space);
  if (!settings.ok()) return settings.error();
  static_cast<RoundSettings&>(loaded) = std::move(settings).value();
  loaded.read_settings = [own, batch_size = job->training.batch_size,
                          space = model->space](const std::string& text) -> Result<RoundSettings> {
    Result<TuningSpec> spec = parse_tuning(text, "a tuning", own);
    if (!spec.ok()) return spec.error();
    return round_settings(*spec, batch_size, space);
  };
  work_ = std::make_unique<Work>();
  work_->job = request.job;
  work_->trainer = std::move(trainer).value();
  log_info("job {} '{}': {} training samples, {} test samples, {} classes, {} parameters; loaded in {:.1f} s",
           request.job, job->name, loaded.data.train_samples, loaded.data.test_samples, loaded.data.classes,
           model->space.parameter_count(), seconds_since(begin));
  return loaded;
}

void WorkerHost::compute(const Replica::ComputeRound& request, std::stop_token stop) {
  if (stop.stop_requested() || !work_ || work_->job != request.job) return;
  const ProtocolTime begin = steady_now();
  const double cpu_begin = thread_cpu_seconds();
  if (request.merged) {
    const Status status = work_->trainer->on_merge();
    if (!status.ok()) return fail(request.job, status.error(), stop);
  }
  const Result<BatchLoss> loss = work_->trainer->train_round(
      request.buffers->parameters, {request.range.epoch.value(), request.range.begin, request.range.end},
      request.buffers->progress, stop);
  if (!loss.ok()) return fail(request.job, loss.error(), stop);
  const ProtocolTime end = steady_now();
  coding_.post([this, stop, begin, end, cpu = thread_cpu_seconds() - cpu_begin, loss_sum = loss->loss_sum,
                job = request.job, buffers = request.buffers] {
    if (stop.stop_requested() || !pipeline_) return;
    worked(begin, end, cpu);
    runner_.post(ClientCore::PipelineMeasured{job, pipeline_->figures}, stop);
    feed(Replica::RoundComputed{job, buffers, loss_sum, seconds_between(begin, end)}, stop);
  });
}

void WorkerHost::evaluate(const ClientCore::EvaluateCut& request, std::stop_token stop) {
  if (stop.stop_requested() || !work_ || work_->job != request.job) return;
  const ProtocolTime begin = steady_now();
  const double cpu_begin = thread_cpu_seconds();
  const Result<BatchLoss> loss =
      work_->trainer->evaluate(*request.parameters, request.begin, request.end, stop);
  if (!loss.ok()) return fail(request.job, loss.error(), stop);
  const ProtocolTime end = steady_now();
  coding_.post([this, stop, begin, end, cpu = thread_cpu_seconds() - cpu_begin] {
    if (!stop.stop_requested() && pipeline_) worked(begin, end, cpu);
  });
  runner_.post(
      ClientCore::CutEvaluated{request.job, request.lease, loss->correct, request.end - request.begin,
                               loss->loss_sum, seconds_between(begin, end)},
      stop);
}

}  // namespace nanduti
