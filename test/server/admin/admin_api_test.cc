// Goal: the API's paths, status codes and JSON are what scripts/ and other tools rely on.
// Method: AdminApi over a desk that is set by hand; exact texts.
#include "server/admin/admin_api.h"

#include "test/support/catch.h"

using namespace nanduti;

namespace {

#define NO_PIPELINE                                                                                                                                                                                         \
  R"("pipeline":{"utilisation":null,"utilisation_min":null,"compute_seconds":0,"stall_gate_seconds":0,)"                                                                                                    \
  R"("stall_codec_seconds":0,"stall_data_seconds":0,"stall_merge_seconds":0,)"                                                                                                                              \
  R"("stall_window_seconds":0,"compute_cpu_seconds":0,)"                                                                                                                                                    \
  R"("codec_cpu_seconds":0,"pushes_in_flight":0,"turnaround_p50_s":null,"turnaround_p99_s":null,"exact_bytes_up":0,"exact_bytes_down":0,"residual_norm":0,"publish_residual_norm":0,"start_seconds":null,)" \
  R"("age_p50":null,"age_p99":null})"

class FakeDesk : public JobDesk {
 public:
  Result<JobId> submit(std::string yaml, std::string name) override {
    submitted = {yaml, name};
    if (failure) return *failure;
    return JobId(7);
  }
  Status tune(JobId job, std::string yaml, std::string name) override {
    if (yaml == "staleness: {bound: -1}") return make_error(ErrorCode::kInvalidArgument, "{}: wrong", name);
    if (job == JobId(3)) return make_error(ErrorCode::kRefused, "job 3 is over: done");
    tuned = std::move(yaml);
    return {};
  }
  Status cancel(JobId job) override {
    if (failure) return *failure;
    cancelled = job;
    return {};
  }
  Result<std::vector<JobReport>> jobs() override {
    if (failure) return *failure;
    return reports;
  }
  Result<JobReport> job(JobId job) override {
    if (failure) return *failure;
    for (const JobReport& report : reports)
      if (report.id == job) return report;
    return make_error(ErrorCode::kNotFound, "there is no job {}", job);
  }
  Result<WorkersReport> workers() override {
    if (failure) return *failure;
    return worker_reports;
  }

  Result<ProcessCounters> counters() override {
    if (failure) return *failure;
    return process_counters;
  }

  std::vector<JobReport> reports;
  WorkersReport worker_reports;
  ProcessCounters process_counters;
  std::optional<Error> failure;
  std::pair<std::string, std::string> submitted;
  JobId cancelled;
  std::string tuned;
};

HttpRequest request(const std::string& method, const std::string& target, const std::string& body = {}) {
  HttpRequest request;
  request.method = method;
  request.target = target;
  request.body = body;
  request.headers["host"] = "127.0.0.1:7080";
  return request;
}

HttpResponse response_of(FakeDesk& desk, const HttpRequest& request) {
  const HttpAnswer answer = AdminApi(desk).handle(request);
  const auto* response = std::get_if<HttpResponse>(&answer);
  if (response == nullptr) FAIL("an event stream");
  return *response;
}

JobReport job(std::uint64_t id, JobState state) {
  JobReport report;
  report.id = JobId(id);
  report.name = "fashion";
  report.state = state;
  report.epochs = 5;
  return report;
}

}  // namespace

TEST_CASE("a job that is submitted goes to the desk with its file's name and comes back as an id") {
  FakeDesk desk;
  HttpRequest submit = request("POST", "/v1/jobs", "name: a\n");
  submit.headers["x-nanduti-name"] = "configs/jobs/a.yaml";
  const HttpResponse response = response_of(desk, submit);
  CHECK(response.status == 201);
  CHECK(response.body == "{\"id\":\"7\"}\n");
  CHECK(desk.submitted == std::pair<std::string, std::string>("name: a\n", "configs/jobs/a.yaml"));
  CHECK(response_of(desk, request("POST", "/v1/jobs", "x")).status == 201);
  CHECK(desk.submitted.second == "job");
  CHECK(response_of(desk, request("POST", "/v1/jobs")).body == "{\"error\":\"job: the job is empty\"}\n");
}

TEST_CASE("counters are told by the names they have, whatever they are") {
  FakeDesk desk;
  CHECK(response_of(desk, request("GET", "/v1/counters")).body == "{\"transport\":{},\"cores\":[]}\n");
  desk.process_counters.transport = {{"frames_in", 12}, {"dropped_malformed", 0}};
  desk.process_counters.cores = {{"coordinator", {{"hellos_refused", 1}}},
                                 {"shard 1", {{"anything_new", 5}}}};
  const HttpResponse response = response_of(desk, request("GET", "/v1/counters"));
  CHECK(response.status == 200);
  CHECK(response.body ==
        "{\"transport\":{\"frames_in\":12,\"dropped_malformed\":0},\"cores\":["
        "{\"core\":\"coordinator\",\"hellos_refused\":1},{\"core\":\"shard 1\",\"anything_new\":5}]}\n");
  CHECK(response_of(desk, request("POST", "/v1/counters")).status == 405);
  desk.failure = Error{ErrorCode::kUnavailable, "the server is stopping"};
  CHECK(response_of(desk, request("GET", "/v1/counters")).status == 503);
}

TEST_CASE("the desk's errors become status codes with the sentence in them") {
  struct Row {
    ErrorCode code;
    unsigned status;
  };
  for (const Row& row :
       {Row{ErrorCode::kInvalidArgument, 400}, Row{ErrorCode::kNotFound, 404}, Row{ErrorCode::kRefused, 409},
        Row{ErrorCode::kExhausted, 503}, Row{ErrorCode::kUnavailable, 503}, Row{ErrorCode::kIo, 500}}) {
    FakeDesk desk;
    desk.failure = make_error(row.code, "a.yaml:3: model: 'lente' is no preset");
    for (const HttpRequest& each :
         {request("POST", "/v1/jobs", "x"), request("GET", "/v1/jobs"), request("GET", "/v1/jobs/1"),
          request("GET", "/v1/jobs/1/events"), request("POST", "/v1/jobs/1/cancel"),
          request("GET", "/v1/workers"), request("GET", "/v1/health")}) {
      INFO(each.method << " " << each.target);
      const HttpResponse response = response_of(desk, each);
      CHECK(response.status == row.status);
      CHECK(response.body == "{\"error\":\"a.yaml:3: model: 'lente' is no preset\"}\n");
    }
  }
}

TEST_CASE("a job's fields have the names that the scripts read, unknown ones are null") {
  FakeDesk desk;
  desk.reports = {job(1, JobState::kQueued)};
  desk.reports[0].waiting_for = "2 workers (1 is here)";
  CHECK(response_of(desk, request("GET", "/v1/jobs/1")).body ==
        R"({"id":"1","name":"fashion","state":"queued","reason":null,"target":null,"target_met":null,)"
        R"("epoch":0,"epochs":5,"samples":0,"samples_total":0,"repeated_samples":0,"samples_per_s":0,)"
        R"("accuracy":null,"loss":null,"test_loss":null,"staleness":null,"stall_fraction":0,"bytes_up":0,)"
        R"x("bytes_down":0,"eta_s":null,"waiting_for":"2 workers (1 is here)","workers":0,"model":null,)x"
        R"("run":null,"warnings":[],"tuning":null,)" NO_PIPELINE
        R"(,"training_seconds":0,"figures":[],"evaluations":[],"evaluations_skipped":0})"
        "\n");
  JobReport& full = desk.reports[0];
  full = job(12, JobState::kDone);
  full.target = 0.89;
  full.target_met = true;
  full.epoch = 5;
  full.samples = full.samples_total = 300'000;
  full.repeated_samples = 64;
  full.samples_per_s = 5000.5;
  full.accuracy = 0.9012;
  full.loss = 0.25;
  full.test_loss = 0.3;
  full.staleness = 1.5;
  full.stall_fraction = 0.125;
  full.bytes_up = 1'000'000'000'000;
  full.bytes_down = 3;
  full.eta_s = 0.0;
  full.workers = 2;
  full.model = "/m.safetensors";
  full.run = "/run.json";
  full.training_seconds = 60.25;
  full.pipeline.compute_seconds = 7;
  full.pipeline.stall = {0.5, 0.25, 0.125, 0.125};
  full.pipeline.utilisation = 0.875;
  full.pipeline.pushes_in_flight = 3;
  full.pipeline.turnaround_p50_s = 0.2;
  full.pipeline.start_seconds = 2.5;
  full.pipeline.age_p50 = 4;
  full.pipeline.age_p99 = 9;
  full.warnings = {"it \"went\" on"};
  full.figures = {{1, 12.5, 0.85, 0.4, 0.5, 60'000, 1.25}, {2, 24.0, {}, {}, {}}};
  full.evaluations = {{20'032, 4.5, 0.25, 0.75, 0.625}};
  full.evaluations_skipped = 3;
  full.tunings = {{0, {}, false, 1, false, 0, true, 0, "as submitted", ""},
                  {2, 8u, true, 4, false, 77, false, 1.5, "a whim", "staleness: {}"}};
  CHECK(
      response_of(desk, request("GET", "/v1/jobs")).body ==
      R"({"jobs":[{"id":"12","name":"fashion","state":"done","reason":null,"target":0.89,"target_met":true,)"
      R"("epoch":5,"epochs":5,"samples":300000,"samples_total":300000,"repeated_samples":64,)"
      R"("samples_per_s":5000.5,"accuracy":0.9012,"loss":0.25,"test_loss":0.3,"staleness":1.5,)"
      R"("stall_fraction":0.125,"bytes_up":1000000000000,"bytes_down":3,"eta_s":0,"waiting_for":null,)"
      R"("workers":2,"model":"/m.safetensors","run":"/run.json","warnings":["it \"went\" on"],)"
      R"("tuning":{"number":2,"bound":8,"auto_bound":true,"local_steps":4,"auto_local_steps":false,)"
      R"("from_round":77,"in_force":false,"seconds":1.5,"why":"a whim","settings":"staleness: {}"},)"
      R"("pipeline":{"utilisation":0.875,"utilisation_min":null,"compute_seconds":7,"stall_gate_seconds":0.5,)"
      R"("stall_codec_seconds":0.25,"stall_data_seconds":0.125,"stall_merge_seconds":0.125,)"
      R"("stall_window_seconds":0,"compute_cpu_seconds":0,)"
      R"("codec_cpu_seconds":0,"pushes_in_flight":3,"turnaround_p50_s":0.2,"turnaround_p99_s":null,"exact_bytes_up":0,"exact_bytes_down":0,"residual_norm":0,"publish_residual_norm":0,"start_seconds":2.5,"age_p50":4,"age_p99":9},)"
      R"("training_seconds":60.25,"figures":[)"
      R"({"epoch":1,"loss":0.5,"accuracy":0.85,"test_loss":0.4,"seconds":12.5,"evaluation_seconds":1.25},)"
      R"({"epoch":2,"loss":null,"accuracy":null,"test_loss":null,"seconds":24,"evaluation_seconds":0}],)"
      R"("evaluations":[)"
      R"({"samples":20032,"accuracy":0.75,"test_loss":0.625,"seconds":4.5,"evaluation_seconds":0.25}],)"
      R"("evaluations_skipped":3}]})"
      "\n");
}

TEST_CASE("workers are shown with the names that the scripts read") {
  FakeDesk desk;
  WorkerReport worker;
  worker.order = IncarnationOrder(3);
  worker.name = "asuncion-01";
  worker.site = "asuncion";
  worker.state = "active";
  worker.device = "cpu";
  worker.job = JobId(1);
  worker.entry_clock = 2;
  worker.clock = 9;
  worker.leased_samples = 64;
  worker.slowest = true;
  CHECK(response_of(desk, request("GET", "/v1/workers")).body ==
        R"({"membership":null,"workers":[],"gone":[]})"
        "\n");
  desk.worker_reports.workers = {worker};
  desk.worker_reports.membership = MembershipReport{JobId(1), 5, 2, 9, {"asuncion-01", "w \"2\""}};
  desk.worker_reports.gone = {{IncarnationOrder(2), "w2", "s", "it has left", {}, 4, 1.5}};
  CHECK(
      response_of(desk, request("GET", "/v1/workers")).body ==
      R"({"membership":{"job":"1","epoch":5,"active":2,"smallest_clock":9,)"
      R"("gate_waits_for":["asuncion-01","w \"2\""]},"workers":[{"order":"3","name":"asuncion-01","site":"asuncion","state":"active",)"
      R"("device":"cpu","hardware":"","refusal":null,"job":"1","entry_clock":2,"clock":9,)"
      R"("leased_samples":64,"at_gate":false,"slowest":true,"samples_per_s":0,)"
      R"("stall_fraction":0,"staleness":0,"bytes_up":0,"bytes_down":0,"last_heard_s":0,)"
      R"("round_trip_s":null,)" NO_PIPELINE
      R"(}],"gone":[{"order":"2","name":"w2","site":"s","reason":"it has left",)"
      R"("job":null,"clock":4,"seconds_ago":1.5}]})"
      "\n");
  CHECK(response_of(desk, request("GET", "/v1/health")).body == "{\"status\":\"ok\"}\n");
}

TEST_CASE("following pulls the job until it is over, its end included") {
  for (const JobState end : {JobState::kDone, JobState::kFailed, JobState::kCancelled}) {
    FakeDesk desk;
    desk.reports = {job(1, JobState::kRunning)};
    HttpAnswer answer = AdminApi(desk).handle(request("GET", "/v1/jobs/1/events"));
    REQUIRE(std::holds_alternative<HttpEventStream>(answer));
    const auto& next = std::get<HttpEventStream>(answer).next;
    CHECK(next() == to_json(desk.reports[0]));
    desk.reports[0].samples = 64;
    CHECK(next() == to_json(desk.reports[0]));
    desk.reports[0].state = end;
    CHECK(next() == to_json(desk.reports[0]));
    CHECK(next() == std::nullopt);
    CHECK(next() == std::nullopt);
  }
}

TEST_CASE("a stream ends when the server stops") {
  FakeDesk desk;
  desk.reports = {job(1, JobState::kRunning)};
  HttpAnswer answer = AdminApi(desk).handle(request("GET", "/v1/jobs/1/events"));
  REQUIRE(std::holds_alternative<HttpEventStream>(answer));
  desk.failure = make_error(ErrorCode::kUnavailable, "the server is stopping");
  CHECK(std::get<HttpEventStream>(answer).next() == std::nullopt);
}

TEST_CASE("cancelling: what waits or runs ends, what is cancelled stays so, what is over is a conflict") {
  FakeDesk desk;
  desk.reports = {job(1, JobState::kRunning), job(2, JobState::kCancelled), job(3, JobState::kDone)};
  CHECK(response_of(desk, request("POST", "/v1/jobs/1/cancel")).status == 202);
  CHECK(desk.cancelled == JobId(1));
  desk.cancelled = JobId();
  CHECK(response_of(desk, request("POST", "/v1/jobs/2/cancel")).status == 202);
  const HttpResponse over = response_of(desk, request("POST", "/v1/jobs/3/cancel"));
  CHECK(over.status == 409);
  CHECK(over.body == "{\"error\":\"job 3 is over already: done\"}\n");
  CHECK(response_of(desk, request("POST", "/v1/jobs/4/cancel")).status == 404);
  CHECK(desk.cancelled == JobId());
}

TEST_CASE(
    "unknown paths and ids are a 404, known paths with another method a 405 that names the right ones") {
  FakeDesk desk;
  for (const char* target : {"/", "/v1", "/v2/jobs", "/v1/jobs/", "/v1/jobs/0", "/v1/jobs/01", "/v1/jobs/x",
                             "/v1/jobs/-1", "/v1/jobs/99999999999999999999999", "/v1/jobs/1/what",
                             "/v1/jobs/1/events/more", "//v1/jobs", "/v1/jobs/9", "*"}) {
    INFO(target);
    CHECK(response_of(desk, request("GET", target)).status == 404);
  }
  struct Row {
    const char *method, *target, *allow;
  };
  for (const Row& row :
       {Row{"DELETE", "/v1/jobs", "GET, POST, OPTIONS"}, Row{"POST", "/v1/jobs/1", "GET, HEAD, OPTIONS"},
        Row{"GET", "/v1/jobs/1/cancel", "POST, OPTIONS"}, Row{"PUT", "/v1/health", "GET, HEAD, OPTIONS"},
        Row{"PATCH", "/v1/workers", "GET, HEAD, OPTIONS"}}) {
    INFO(row.method << " " << row.target);
    HttpResponse response = response_of(desk, request(row.method, row.target));
    CHECK(response.status == 405);
    CHECK(response.body.starts_with("{\"error\":\""));
    CHECK(response.headers.at(0) == std::pair<std::string, std::string>("Allow", row.allow));
    response = response_of(desk, request("OPTIONS", row.target));
    CHECK(response.status == 204);
    CHECK(response.headers.at(0).second == row.allow);
  }
  CHECK(response_of(desk, request("OPTIONS", "*")).status == 204);
}

TEST_CASE("tuning: what it says goes to the desk, and the answer is the job; what is wrong is said") {
  FakeDesk desk;
  desk.reports = {job(1, JobState::kRunning)};
  const HttpResponse tuned = response_of(desk, request("POST", "/v1/jobs/1/tune", "staleness: {bound: 8}"));
  CHECK(tuned.status == 200);
  CHECK(tuned.body.find("{\"id\":\"1\"") == 0);
  CHECK(desk.tuned == "staleness: {bound: 8}");
  const HttpResponse wrong = response_of(desk, request("POST", "/v1/jobs/1/tune", "staleness: {bound: -1}"));
  CHECK(wrong.status == 400);
  CHECK(wrong.body == "{\"error\":\"tuning: wrong\"}\n");
  CHECK(response_of(desk, request("POST", "/v1/jobs/1/tune", "")).status == 400);
  CHECK(response_of(desk, request("POST", "/v1/jobs/3/tune", "x")).status == 409);
  CHECK(response_of(desk, request("GET", "/v1/jobs/1/tune")).status == 405);
}

TEST_CASE("another site's page may not submit or cancel") {
  FakeDesk desk;
  desk.reports = {job(1, JobState::kRunning)};
  HttpRequest submit = request("POST", "/v1/jobs", "x"), cancel = request("POST", "/v1/jobs/1/cancel");
  for (const char* origin : {"http://evil.example", "null", "https://127.0.0.1:7080", "http://127.0.0.1"}) {
    submit.headers["origin"] = cancel.headers["origin"] = origin;
    CHECK(response_of(desk, submit).status == 403);
    CHECK(response_of(desk, cancel).status == 403);
  }
  CHECK(desk.submitted.first.empty());
  submit.headers["origin"] = "http://127.0.0.1:7080";
  CHECK(response_of(desk, submit).status == 201);
}
