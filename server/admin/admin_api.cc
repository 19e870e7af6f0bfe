#include "server/admin/admin_api.h"

#include <algorithm>
#include <charconv>

#include "common/base/json_writer.h"

namespace nanduti {

namespace {

constexpr std::size_t kNameShownMax = 256;

HttpResponse json(unsigned status, std::string body) {
  return {status, "application/json", std::move(body) + "\n", {}};
}

HttpResponse failure(unsigned status, std::string_view text) {
  JsonWriter writer;
  writer.begin_object().member("error", text).end_object();
  return json(status, writer.text());
}

HttpResponse failure(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kCorrupt:
      return failure(400, error.message);
    case ErrorCode::kNotFound:
      return failure(404, error.message);
    case ErrorCode::kRefused:
    case ErrorCode::kCancelled:
      return failure(409, error.message);
    case ErrorCode::kUnavailable:
    case ErrorCode::kExhausted:
      return failure(503, error.message);
    case ErrorCode::kIo:
      break;
  }
  return failure(500, error.message);
}

HttpResponse wrong_method(const HttpRequest& request, const std::string& allowed) {
  HttpResponse response;
  if (request.method == "OPTIONS")
    response.status = 204;
  else
    response = failure(405, fmt::format("{} takes {}, not {}", request.target, allowed, request.method));
  response.headers.emplace_back("Allow", (allowed == "GET" ? "GET, HEAD, OPTIONS" : allowed + ", OPTIONS"));
  return response;
}

/// "/v1/jobs/3" -> "v1", "jobs", "3".
std::vector<std::string_view> segments(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty() && path.front() == '/') {
    path.remove_prefix(1);
    const std::string_view part = path.substr(0, path.find('/'));
    parts.push_back(part);
    path.remove_prefix(part.size());
  }
  return parts;
}

std::optional<JobId> parse_id(std::string_view text) {
  JobId::rep id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size() || id == 0 || text.front() == '0')
    return std::nullopt;
  return JobId(id);
}

void write_pipeline(JsonWriter& writer, const PipelineReport& pipeline) {
  writer.key("pipeline").begin_object();
  for (const NamedFigure& figure : pipeline.named()) writer.member(figure.name, figure.value);
  writer.end_object();
}

/// What all evaluations have.
template <class Report>
void write_test_figures(JsonWriter& writer, const Report& report) {
  writer.member("accuracy", report.accuracy)
      .member("test_loss", report.test_loss)
      .member("seconds", report.seconds)
      .member("evaluation_seconds", report.evaluation_seconds);
}

void write(JsonWriter& writer, const EpochReport& epoch) {
  writer.begin_object().member("epoch", epoch.epoch).member("loss", epoch.loss);
  write_test_figures(writer, epoch);
  writer.end_object();
}

void write(JsonWriter& writer, const EvaluationReport& evaluation) {
  writer.begin_object().member("samples", evaluation.samples);
  write_test_figures(writer, evaluation);
  writer.end_object();
}

void write_id_or_null(JsonWriter& writer, std::string_view name, std::optional<JobId> id) {
  id ? writer.member(name, std::to_string(id->value())) : writer.key(name).null();
}

void write(JsonWriter& writer, const MembershipReport& membership) {
  writer.begin_object()
      .member("job", std::to_string(membership.job.value()))
      .member("epoch", membership.epoch)
      .member("active", membership.active)
      .member("smallest_clock", membership.smallest_clock)
      .key("gate_waits_for")
      .begin_array();
  for (const std::string& name : membership.gate_waits_for) writer.value(name);
  writer.end_array().end_object();
}

void write(JsonWriter& writer, const GoneReport& gone) {
  writer.begin_object()
      .member("order", std::to_string(gone.order.value()))
      .member("name", gone.name)
      .member("site", gone.site)
      .member("reason", gone.reason);
  write_id_or_null(writer, "job", gone.job);
  writer.member("clock", gone.clock).member("seconds_ago", gone.seconds_ago).end_object();
}

void write(JsonWriter& writer, const WorkerReport& worker) {
  writer.begin_object()
      .member("order", std::to_string(worker.order.value()))
      .member("name", worker.name)
      .member("site", worker.site)
      .member("state", worker.state)
      .member("device", worker.device)
      .member("hardware", worker.hardware);
  worker.refusal.empty() ? writer.key("refusal").null() : writer.member("refusal", worker.refusal);
  write_id_or_null(writer, "job", worker.job);
  writer.member("entry_clock", worker.entry_clock)
      .member("clock", worker.clock)
      .member("leased_samples", worker.leased_samples)
      .member("at_gate", worker.at_gate)
      .member("slowest", worker.slowest)
      .member("samples_per_s", worker.samples_per_s)
      .member("stall_fraction", worker.stall_fraction)
      .member("staleness", worker.staleness)
      .member("bytes_up", worker.bytes_up)
      .member("bytes_down", worker.bytes_down)
      .member("last_heard_s", worker.last_heard_s)
      .member("round_trip_s", worker.round_trip_s);
  write_pipeline(writer, worker.pipeline);
  writer.end_object();
}

/// The one that holds, or is to hold.
void write_tuning(JsonWriter& writer, const JobReport& job) {
  writer.key("tuning");
  if (job.tunings.empty()) return static_cast<void>(writer.null());
  const TuningReport& tuning = job.tunings.back();
  writer.begin_object()
      .member("number", tuning.number)
      .member("bound", tuning.bound)
      .member("auto_bound", tuning.auto_bound)
      .member("local_steps", tuning.local_steps)
      .member("auto_local_steps", tuning.auto_local_steps)
      .member("from_round", tuning.from_round)
      .member("in_force", tuning.in_force)
      .member("seconds", tuning.seconds)
      .member("why", tuning.why);
  tuning.settings.empty() ? writer.key("settings").null() : writer.member("settings", tuning.settings);
  writer.end_object();
}

void write(JsonWriter& writer, const JobReport& job);

/// A member that is an array.
template <class Report>
void write_array(JsonWriter& writer, std::string_view name, const std::vector<Report>& reports) {
  writer.key(name).begin_array();
  for (const Report& report : reports) write(writer, report);
  writer.end_array();
}

void write(JsonWriter& writer, const JobReport& job) {
  const auto text_or_null = [&](std::string_view name, const std::string& text) {
    text.empty() ? writer.key(name).null() : writer.member(name, text);
  };
  writer.begin_object()
      .member("id", std::to_string(job.id.value()))
      .member("name", job.name)
      .member("state", to_string(job.state));
  text_or_null("reason", job.reason);
  writer.member("target", job.target)
      .member("target_met", job.target_met)
      .member("epoch", job.epoch)
      .member("epochs", job.epochs)
      .member("samples", job.samples)
      .member("samples_total", job.samples_total)
      .member("repeated_samples", job.repeated_samples)
      .member("samples_per_s", job.samples_per_s)
      .member("accuracy", job.accuracy)
      .member("loss", job.loss)
      .member("test_loss", job.test_loss)
      .member("staleness", job.staleness)
      .member("stall_fraction", job.stall_fraction)
      .member("bytes_up", job.bytes_up)
      .member("bytes_down", job.bytes_down)
      .member("eta_s", job.eta_s);
  text_or_null("waiting_for", job.waiting_for);
  writer.member("workers", job.workers);
  text_or_null("model", job.model);
  text_or_null("run", job.run);
  writer.key("warnings").begin_array();
  for (const std::string& warning : job.warnings) writer.value(warning);
  writer.end_array();
  write_tuning(writer, job);
  write_pipeline(writer, job.pipeline);
  writer.member("training_seconds", job.training_seconds);
  write_array(writer, "figures", job.figures);
  write_array(writer, "evaluations", job.evaluations);
  writer.member("evaluations_skipped", job.evaluations_skipped).end_object();
}

/// The page that a browser's request comes from is this server's own, or it comes from no page.
bool is_own_origin(const HttpRequest& request) {
  if (request.headers.count("origin") == 0) return true;
  return request.header("origin") == "http://" + std::string(request.header("host"));
}

}  // namespace

std::string to_json(const JobReport& job) {
  JsonWriter writer;
  write(writer, job);
  return writer.text();
}

std::string to_json(const WorkersReport& workers) {
  JsonWriter writer;
  writer.begin_object().key("membership");
  workers.membership ? write(writer, *workers.membership) : static_cast<void>(writer.null());
  write_array(writer, "workers", workers.workers);
  write_array(writer, "gone", workers.gone);
  writer.end_object();
  return writer.text();
}

HttpAnswer AdminApi::handle(const HttpRequest& request) {
  const std::vector<std::string_view> path = segments(request.target);
  const bool is_get = request.method == "GET", is_post = request.method == "POST";
  if (is_post && !is_own_origin(request)) return failure(403, "web pages may not do this");
  if (request.target == "*" && request.method == "OPTIONS") return wrong_method(request, "GET, POST");
  if (path.size() == 2 && path[0] == "v1") {
    if (path[1] == "health") return is_get ? health() : wrong_method(request, "GET");
    if (path[1] == "workers") return is_get ? workers() : wrong_method(request, "GET");
    if (path[1] == "counters") return is_get ? counters() : wrong_method(request, "GET");
    if (path[1] == "jobs") {
      if (is_get) return list();
      return is_post ? submit(request) : wrong_method(request, "GET, POST");
    }
  }
  if ((path.size() == 3 || path.size() == 4) && path[0] == "v1" && path[1] == "jobs") {
    const std::optional<JobId> job = parse_id(path[2]);
    if (!job) return failure(404, fmt::format("'{}' is not a job's id", path[2].substr(0, kNameShownMax)));
    if (path.size() == 3) return is_get ? show(*job) : wrong_method(request, "GET");
    if (path[3] == "events") return is_get ? follow(*job) : wrong_method(request, "GET");
    if (path[3] == "tune") return is_post ? tune(*job, request) : wrong_method(request, "POST");
    if (path[3] == "cancel") return is_post ? cancel(*job) : wrong_method(request, "POST");
  }
  return failure(404, fmt::format("there is nothing at {}", request.target.substr(0, kNameShownMax)));
}

HttpAnswer AdminApi::submit(const HttpRequest& request) {
  std::string name(request.header("x-nanduti-name").substr(0, kNameShownMax));
  if (name.empty()) name = "job";
  if (request.body.empty()) return failure(400, name + ": the job is empty");
  const Result<JobId> id = desk_.submit(request.body, name);
  if (!id.ok()) return failure(id.error());
  JsonWriter writer;
  writer.begin_object().member("id", std::to_string(id->value())).end_object();
  HttpResponse response = json(201, writer.text());
  response.headers.emplace_back("Location", fmt::format("/v1/jobs/{}", *id));
  return response;
}

HttpAnswer AdminApi::list() {
  const Result<std::vector<JobReport>> jobs = desk_.jobs();
  if (!jobs.ok()) return failure(jobs.error());
  JsonWriter writer;
  writer.begin_object();
  write_array(writer, "jobs", *jobs);
  writer.end_object();
  return json(200, writer.text());
}

HttpAnswer AdminApi::show(JobId id) {
  const Result<JobReport> job = desk_.job(id);
  return job.ok() ? json(200, to_json(*job)) : failure(job.error());
}

HttpAnswer AdminApi::follow(JobId id) {
  const Result<JobReport> first = desk_.job(id);
  if (!first.ok()) return failure(first.error());
  // The last event is the job that is over; the pull after it ends the stream. So does a server that stops.
  return HttpEventStream{[desk = &desk_, id, over = false]() mutable -> std::optional<std::string> {
    if (over) return std::nullopt;
    const Result<JobReport> job = desk->job(id);
    if (!job.ok()) return std::nullopt;
    over = is_over(job->state);
    return to_json(*job);
  }};
}

HttpAnswer AdminApi::cancel(JobId id) {
  const Result<JobReport> job = desk_.job(id);
  if (!job.ok()) return failure(job.error());
  if (is_over(job->state) && job->state != JobState::kCancelled)
    return failure(409, fmt::format("job {} is over already: {}", id, to_string(job->state)));
  const Status status = is_over(job->state) ? Status() : desk_.cancel(id);
  if (!status.ok()) return failure(status.error());
  JsonWriter writer;
  writer.begin_object().member("id", std::to_string(id.value())).end_object();
  return json(202, writer.text());
}

HttpAnswer AdminApi::tune(JobId id, const HttpRequest& request) {
  std::string name(request.header("x-nanduti-name").substr(0, kNameShownMax));
  if (name.empty()) name = "tuning";
  if (request.body.empty()) return failure(400, name + ": the tuning is empty");
  const Status status = desk_.tune(id, request.body, name);
  return status.ok() ? show(id) : failure(status.error());
}

HttpAnswer AdminApi::workers() {
  const Result<WorkersReport> workers = desk_.workers();
  return workers.ok() ? json(200, to_json(*workers)) : failure(workers.error());
}

HttpAnswer AdminApi::counters() {
  const Result<ProcessCounters> counters = desk_.counters();
  if (!counters.ok()) return failure(counters.error());
  JsonWriter writer;
  const auto write_all = [&](const std::vector<NamedCount>& counts) {
    for (const NamedCount& count : counts) writer.member(count.name, count.count);
  };
  writer.begin_object().key("transport").begin_object();
  write_all(counters->transport);
  writer.end_object().key("cores").begin_array();
  for (const CoreCounters& core : counters->cores) {
    writer.begin_object().member("core", core.core);
    write_all(core.counts);
    writer.end_object();
  }
  writer.end_array().end_object();
  return json(200, writer.text());
}

HttpAnswer AdminApi::health() {
  const Result<WorkersReport> workers = desk_.workers();
  if (!workers.ok()) return failure(workers.error());
  return json(200, R"({"status":"ok"})");
}

}  // namespace nanduti
