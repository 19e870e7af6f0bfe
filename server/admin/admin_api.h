#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/net/http_message.h"
#include "server/admin/job_desk.h"

namespace nanduti {

/// The coordinator's HTTP API, for people's scripts and tools. Every answer is a JSON object; errors are
/// {"error": "a sentence"}. Ids are strings of digits.
///
///   POST /v1/jobs              a job's YAML; X-Nanduti-Name names its file in errors. 201 {"id": "3"}
///   GET  /v1/jobs              {"jobs": [job, ...]}
///   GET  /v1/jobs/ID           job: the fields of JobReport, by the same names
///   GET  /v1/jobs/ID/events    server-sent events: the job, whenever it has changed; ends when it is over
///   POST /v1/jobs/ID/cancel    202; also if it is cancelled already. 409 if it is over otherwise
///   POST /v1/jobs/ID/tune      keys of a job's staleness and compression as YAML: they hold from a round on
///   that
///                              the answer names. 200 and the job; 409 if it cannot be tuned (now)
///   GET  /v1/workers           {"membership": {...} or null, "workers": [worker, ...], "gone": [...]}: the
///                              fields of MembershipReport, WorkerReport and GoneReport
///   GET  /v1/counters          {"transport": {name: count, ...},
///                              "cores": [{"core": "shard 1", name: count, ...}]}
///   GET  /v1/health            {"status": "ok"}, or 503
///
/// Browsers say in Origin which page asks: a POST from another site's page is refused (403).
/// No state of its own; called from one thread, that of the HTTP server.
class AdminApi {
 public:
  explicit AdminApi(JobDesk& desk) : desk_(desk) {}

  /// Never throws what is not the desk's. The answer may be an event stream that uses the desk.
  HttpAnswer handle(const HttpRequest& request);

 private:
  HttpAnswer submit(const HttpRequest& request);
  HttpAnswer list();
  HttpAnswer show(JobId job);
  HttpAnswer follow(JobId job);
  HttpAnswer cancel(JobId job);
  HttpAnswer tune(JobId job, const HttpRequest& request);
  HttpAnswer workers();
  HttpAnswer counters();
  HttpAnswer health();

  JobDesk& desk_;
};

/// One JSON object, without line breaks.
std::string to_json(const JobReport& job);
std::string to_json(const WorkersReport& workers);

}  // namespace nanduti
