// Goal: no HTTP request gets more from the API than an answer in JSON (P8).
// Method: target, method, headers and body from the input, through the parser of targets and the API, over a
// desk that reads submitted jobs as the daemon does and reports texts from the input. Checked: status codes
// are HTTP's, every answer's body is one JSON value, and nothing breaks a header's line.
#include <boost/json.hpp>

#include "common/base/check.h"
#include "common/config/job_config.h"
#include "server/admin/admin_api.h"
#include "test/fuzz/fuzz_input.h"

namespace nanduti {
namespace {

class FuzzDesk : public JobDesk {
 public:
  explicit FuzzDesk(FuzzInput& input) : input_(input) {}

  Result<JobId> submit(std::string yaml, std::string name) override {
    const Result<JobConfig> job = parse_job_text(std::move(yaml), std::move(name));
    if (!job.ok()) return job.error();
    return JobId(7);
  }
  Status cancel(JobId) override { return {}; }
  Status tune(JobId, std::string, std::string) override { return {}; }
  Result<std::vector<JobReport>> jobs() override { return std::vector<JobReport>{report(), report()}; }
  Result<JobReport> job(JobId job) override {
    if (job != JobId(1)) return make_error(ErrorCode::kNotFound, "there is no job {}", job);
    return report();
  }
  Result<WorkersReport> workers() override {
    WorkersReport report;
    WorkerReport& worker = report.workers.emplace_back();
    worker.name = input_.text(input_.below(16));
    worker.refusal = input_.text(input_.below(16));
    worker.last_heard_s = number();
    GoneReport& gone = report.gone.emplace_back();
    gone.name = input_.text(input_.below(16));
    gone.reason = input_.text(input_.below(16));
    gone.seconds_ago = number();
    if (input_.flag()) report.membership.emplace().gate_waits_for = {input_.text(input_.below(16))};
    return report;
  }
  Result<ProcessCounters> counters() override {
    ProcessCounters counters;
    counters.transport = {{"frames_in", input_.next_u64()}};
    counters.cores.push_back({input_.text(input_.below(16)), {{"settled", input_.next_u64()}}});
    return counters;
  }

 private:
  double number() {
    const std::uint64_t bits = input_.next_u64();
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  JobReport report() {
    JobReport report;
    report.id = JobId(1);
    report.name = input_.text(input_.below(16));
    report.reason = input_.text(input_.below(16));
    report.state = static_cast<JobState>(input_.below(5));
    report.loss = number();
    report.warnings = {input_.text(input_.below(16))};
    return report;
  }

  FuzzInput& input_;
};

void check_json(const std::string& text) {
  boost::json::error_code error;
  (void)boost::json::parse(text, error);
  NANDUTI_CHECK(!error, "{}: {}", error.message(), text);
}

void check_target(const std::string& text) {
  const Result<HttpTarget> target = parse_http_target(text);
  if (!target.ok()) {
    NANDUTI_CHECK(target.error().code == ErrorCode::kInvalidArgument);
    return;
  }
  NANDUTI_CHECK(target->path == "*" || target->path.starts_with('/'), "{}", target->path);
  for (const char c : target->path)
    NANDUTI_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F, "a control character in a path");
}

void try_request(FuzzInput& input) {
  static constexpr const char* kMethods[] = {"GET", "POST", "OPTIONS", "DELETE", ""};
  static constexpr const char* kTargets[] = {"/v1/jobs",          "/v1/jobs/1",      "/v1/jobs/1/events",
                                             "/v1/jobs/1/cancel", "/v1/jobs/1/tune", "/v1/workers",
                                             "/v1/counters",      "/v1/health",      "*"};
  HttpRequest request;
  request.method = kMethods[input.below(std::size(kMethods))];
  const std::uint64_t target = input.below(std::size(kTargets) + 2);
  if (target < std::size(kTargets)) {
    request.target = kTargets[target];
  } else {
    const Result<HttpTarget> parsed = parse_http_target(input.text(input.below(64)));
    if (!parsed.ok()) return;
    request.target = parsed->path;
  }
  request.headers["host"] = input.flag() ? "localhost:7080" : input.text(input.below(32));
  if (input.below(4) == 0) request.headers["origin"] = input.text(input.below(32));
  if (input.flag()) request.headers["x-nanduti-name"] = input.text(input.below(32));
  (void)is_address_or_localhost(host_without_port(request.header("host")));
  request.body = input.text(input.below(1024));
  FuzzDesk desk(input);
  HttpAnswer answer = AdminApi(desk).handle(request);
  if (auto* stream = std::get_if<HttpEventStream>(&answer)) {
    for (int i = 0; i < 4; ++i) {
      const std::optional<std::string> event = stream->next();
      if (!event) break;
      NANDUTI_CHECK(event->find('\n') == std::string::npos, "an event of two lines");
      check_json(*event);
    }
    return;
  }
  const HttpResponse& response = std::get<HttpResponse>(answer);
  NANDUTI_CHECK(response.status >= 200 && response.status < 600 && !http_reason(response.status).empty(),
                "{}", response.status);
  if (!response.body.empty()) check_json(response.body);
  for (const auto& [name, value] : response.headers)
    NANDUTI_CHECK(value.find_first_of("\r\n") == std::string::npos, "a header of two lines: {}", value);
}

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nanduti;
  FuzzInput input(data, size);
  if (input.flag())
    check_target(input.rest_as_text());
  else
    try_request(input);
  return 0;
}
