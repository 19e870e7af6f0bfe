#include "worker/daemon/worker_host.h"

#include <chrono>
#include <new>

#include "common/base/hardware.h"
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/base/version.h"
#include "common/config/data_files.h"
#include "common/config/job_config.h"
#include "common/model/resolved_model.h"
#include "worker/train/job_data.h"
#include "worker/train/trainer.h"

namespace nanduti {

namespace {

ClientOptions client_options(const WorkerConfig& config, const Backend& backend) {
  ClientOptions options;
  options.coordinator_endpoint = config.coordinator.tcp();
  options.program_version = kProgramVersion;
  options.registration.name = config.name.empty() ? default_daemon_name() : config.name;
  options.registration.site = config.site;
  options.registration.device = backend.name();
  options.registration.hardware = describe_hardware();
  return options;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Where the job's files lie on this machine; nothing outside the data roots.
Result<JobDataFiles> find_files(std::span<const std::filesystem::path> roots, const DataConfig& data) {
  JobDataFiles files;
  files.classes = data.classes;
  const auto find = [&](const std::string& file, std::filesystem::path& to) -> Status {
    Result<std::filesystem::path> found = resolve_data_file(roots, file);
    if (!found.ok()) return found.error();
    to = *found;
    return {};
  };
  NANDUTI_RETURN_IF_ERROR(find(data.train.images, files.train_images));
  NANDUTI_RETURN_IF_ERROR(find(data.train.labels, files.train_labels));
  if (!data.test) return files;
  files.test.emplace();
  NANDUTI_RETURN_IF_ERROR(find(data.test->images, files.test->images));
  NANDUTI_RETURN_IF_ERROR(find(data.test->labels, files.test->labels));
  return files;
}

}  // namespace

struct WorkerHost::Work {
  JobId job;
  std::unique_ptr<Trainer> trainer;
};

WorkerHost::WorkerHost(const WorkerConfig& config, ZmqTransport& transport, std::unique_ptr<Backend> backend,
                       std::function<void()> on_stopped)
    : config_(config),
      backend_(std::move(backend)),
      on_stopped_(std::move(on_stopped)),
      compute_("compute"),
      runner_("client", transport, 0, SessionOptions(), unpredictable_stream(),
              ClientCore(client_options(config, *backend_), unpredictable_stream())) {}

WorkerHost::~WorkerHost() {
  runner_.stop();
  job_stop_.request_stop();
  compute_.stop();
}

void WorkerHost::start() {
  compute_.start([] {});
  runner_.start([this](const ClientCore::Action& action) { carry_out(action); });
}

void WorkerHost::drain() { runner_.post(ClientCore::DrainRequested{}); }

void WorkerHost::carry_out(const ClientCore::Action& action) {
  if (const auto* job = std::get_if<ClientCore::LoadJob>(&action)) {
    job_stop_.request_stop();
    job_stop_ = std::stop_source();
    compute_.post([this, request = *job, stop = job_stop_.get_token()] { load(request, stop); });
  } else if (const auto* round = std::get_if<ClientCore::ComputeRound>(&action)) {
    compute_.post([this, request = *round, stop = job_stop_.get_token()] { compute(request, stop); });
  } else if (const auto* cut = std::get_if<ClientCore::EvaluateCut>(&action)) {
    compute_.post([this, request = *cut, stop = job_stop_.get_token()] { evaluate(request, stop); });
  } else if (std::holds_alternative<ClientCore::UnloadJob>(action)) {
    job_stop_.request_stop();
    compute_.post([this] { work_.reset(); });
  } else if (const auto* stopped = std::get_if<ClientCore::Stopped>(&action)) {
    failure_ = stopped->failure;
    on_stopped_();
  }
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
  Result<std::unique_ptr<Trainer>> trainer = Trainer::create(*backend_, *model, job->training, *data);
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
  loaded.round_samples = std::uint64_t{job->staleness.local_steps} * job->training.batch_size;
  loaded.bound = job->staleness.bound;
  loaded.deterministic = job->deterministic;
  loaded.seed = job->training.seed;
  loaded.codec = std::make_shared<DenseFloat32Codec>();
  work_ = std::make_unique<Work>();
  work_->job = request.job;
  work_->trainer = std::move(trainer).value();
  log_info("job {} '{}': {} training samples, {} test samples, {} classes, {} parameters; loaded in {:.1f} s",
           request.job, job->name, loaded.data.train_samples, loaded.data.test_samples, loaded.data.classes,
           model->space.parameter_count(), seconds_since(begin));
  return loaded;
}

void WorkerHost::compute(const ClientCore::ComputeRound& request, std::stop_token stop) {
  if (stop.stop_requested() || !work_ || work_->job != request.job) return;
  const auto begin = std::chrono::steady_clock::now();
  ClientCore::RoundComputed computed{request.job, std::vector<float>(request.parameters->size()), 0, 0};
  const Result<BatchLoss> loss = work_->trainer->train_round(
      *request.parameters, {request.range.epoch.value(), request.range.begin, request.range.end},
      computed.progress, stop);
  if (!loss.ok()) return runner_.post(ClientCore::WorkFailed{request.job, loss.error().message}, stop);
  computed.loss_sum = loss->loss_sum;
  computed.compute_seconds = seconds_since(begin);
  runner_.post(std::move(computed), stop);
}

void WorkerHost::evaluate(const ClientCore::EvaluateCut& request, std::stop_token stop) {
  if (stop.stop_requested() || !work_ || work_->job != request.job) return;
  const auto begin = std::chrono::steady_clock::now();
  const Result<BatchLoss> loss =
      work_->trainer->evaluate(*request.parameters, request.begin, request.end, stop);
  if (!loss.ok()) return runner_.post(ClientCore::WorkFailed{request.job, loss.error().message}, stop);
  runner_.post(ClientCore::CutEvaluated{request.job, request.lease, loss->correct,
                                        request.end - request.begin, loss->loss_sum, seconds_since(begin)},
               stop);
}

}  // namespace nanduti
