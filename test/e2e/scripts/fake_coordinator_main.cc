// The coordinator's HTTP server with a desk that plays jobs by the clock: three epochs of a second each.
// A job's first line says how it ends: "# met", "# missed", "# none" (it has no target), "# failed",
// "# endless" or "# bad" (it is refused). Jobs wait for workers while there is a file PORT_FILE.hold.
// Usage: fake_coordinator PORT_FILE [PORT]. Ends when its standard input does.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>

#include <unistd.h>

#include "common/config/tuning.h"
#include "common/net/http_server.h"
#include "server/admin/admin_api.h"

namespace nanduti {
namespace {

using Clock = std::chrono::steady_clock;

class ScriptedDesk : public JobDesk {
 public:
  explicit ScriptedDesk(const std::string& port_file) : hold_(port_file + ".hold") {}

  Result<JobId> submit(std::string yaml, std::string name) override {
    const std::string ending = yaml.substr(2, yaml.find('\n') - 2);
    if (ending == "bad")
      return make_error(ErrorCode::kInvalidArgument, "{}:3: colour: unknown key; allowed are: model, data",
                        name);
    const JobId id(jobs_.size() + 1);
    jobs_.emplace(id, Job{ending, {}, {}, {}, 0});
    return id;
  }
  Status tune(JobId id, std::string yaml, std::string name) override {
    Job& job = jobs_.at(id);
    Result<TuningSpec> spec = parse_tuning(std::move(yaml), std::move(name), job.tuned);
    if (!spec.ok()) return spec.error();
    job.tuned = std::move(spec).value();
    ++job.tunings;
    return {};
  }
  Status cancel(JobId id) override {
    jobs_.at(id).cancelled = Clock::now();
    return {};
  }
  Result<std::vector<JobReport>> jobs() override {
    std::vector<JobReport> reports;
    for (auto& [id, job] : jobs_) reports.push_back(report(id, job));
    return reports;
  }
  Result<JobReport> job(JobId id) override {
    const auto it = jobs_.find(id);
    if (it == jobs_.end()) return make_error(ErrorCode::kNotFound, "there is no job {}", id);
    return report(id, it->second);
  }
  Result<WorkersReport> workers() override {
    WorkerReport busy, idle;
    busy.order = IncarnationOrder(1);
    busy.name = "asuncion-01";
    busy.site = "asuncion";
    busy.state = "active";
    busy.device = "cpu";
    busy.job = JobId(1);
    busy.entry_clock = 3;
    busy.clock = 12;
    busy.leased_samples = 640;
    busy.slowest = true;
    busy.samples_per_s = 2500.7;
    busy.stall_fraction = 0.126;
    busy.last_heard_s = 0.3;
    idle = busy;
    idle.order = IncarnationOrder(2);
    idle.name = "asuncion-02";
    idle.state = "idle";
    idle.job.reset();
    idle.entry_clock.reset();
    idle.clock.reset();
    idle.leased_samples = 0;
    idle.slowest = false;
    WorkersReport report;
    report.membership = MembershipReport{JobId(1), 7, 1, 12, {"asuncion-01"}};
    report.workers = {busy, idle};
    report.gone = {
        {IncarnationOrder(3), "asuncion-03", "asuncion", "its lease has expired", JobId(1), 9, 61.5}};
    return report;
  }

  Result<ProcessCounters> counters() override {
    return ProcessCounters{
        {{"frames_in", 12}, {"dropped_malformed", 0}},
        {{"coordinator", {{"redials", 0}}}, {"shard 1", {{"settled", 40}, {"refused", 0}}}}};
  }

 private:
  struct Job {
    std::string ending;
    std::optional<Clock::time_point> begin;
    std::optional<Clock::time_point> cancelled;
    TuningSpec tuned;
    std::uint64_t tunings = 0;
  };

  JobReport report(JobId id, Job& job) const {
    const Clock::time_point now = job.cancelled.value_or(Clock::now());
    if (!job.begin && !std::filesystem::exists(hold_)) job.begin = now;
    JobReport report;
    report.id = id;
    report.name = "scripted";
    report.tunings = {{job.tunings, job.tuned.staleness.bound, job.tuned.staleness.auto_bound,
                       job.tuned.staleness.local_steps, job.tuned.staleness.auto_local_steps, 40,
                       job.tunings == 0, 1.5, job.tunings == 0 ? "as submitted" : "tuned by an operator",
                       to_yaml(job.tuned)}};
    report.epochs = 3;
    report.state = JobState::kRunning;
    if (!job.begin) {
      report.waiting_for = "2 workers (1 is here)";
    } else {
      const double seconds = std::chrono::duration<double>(now - *job.begin).count();
      const double progress = std::min(seconds / 3, job.ending == "endless" ? 0.9 : 1.0);
      report.samples_total = 180'000;
      report.samples = static_cast<std::uint64_t>(180'000 * progress);
      report.epoch = std::min(3u, static_cast<std::uint32_t>(progress * 3) + 1);
      for (std::uint32_t epoch = 1; epoch <= static_cast<std::uint32_t>(progress * 3); ++epoch)
        report.figures.push_back({epoch, epoch * 1.0, 0.8 + 0.03 * epoch, 0.5, 0.6 - 0.1 * epoch});
      if (report.samples >= 90'000) report.evaluations.push_back({90'016, 1.5, 0.25, 0.845, 0.5});
      report.samples_per_s = 60'000;
      report.loss = 0.6 - 0.3 * progress;
      report.staleness = 0.5;
      report.stall_fraction = 0.042;
      report.bytes_up = static_cast<std::uint64_t>(5e7 * progress);
      report.bytes_down = static_cast<std::uint64_t>(7e7 * progress);
      report.eta_s = 3 * (1 - progress);
      report.workers = 2;
      report.training_seconds = 3 * progress;
      if (!report.figures.empty()) report.accuracy = report.figures.back().accuracy;
      if (progress >= 1.0) finish(job, report);
    }
    if (job.ending == "met") report.target = 0.85;
    if (job.ending == "missed") report.target = 0.95;
    if (report.state == JobState::kDone && report.target)
      report.target_met = *report.accuracy >= *report.target;
    if (job.cancelled) {
      report.state = JobState::kCancelled;
      report.reason = "cancelled by an operator";
    }
    return report;
  }

  static void finish(const Job& job, JobReport& report) {
    report.eta_s.reset();
    if (job.ending == "failed") {
      report.state = JobState::kFailed;
      report.reason = "train-labels: label 12 where 0 to 9 are allowed";
    } else {
      report.state = JobState::kDone;
      report.model = "/data/1/model.safetensors";
      report.run = "/data/1/run.json";
    }
  }

  std::string hold_;
  std::map<JobId, Job> jobs_;
};

int run(int argc, char** argv) {
  if (argc < 2) return 64;
  ScriptedDesk desk(argv[1]);
  AdminApi api(desk);
  const auto port = static_cast<std::uint16_t>(argc > 2 ? std::stoi(argv[2]) : 0);
  auto server =
      HttpServer::start("127.0.0.1", port, [&](const HttpRequest& request) { return api.handle(request); });
  if (!server.ok()) {
    fmt::print(stderr, "{}\n", server.error().message);
    return 1;
  }
  std::FILE* file = std::fopen(argv[1], "w");
  if (file == nullptr) return 1;
  fmt::print(file, "{}\n", (*server)->port());
  std::fclose(file);
  char byte;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}

}  // namespace
}  // namespace nanduti

int main(int argc, char** argv) { return nanduti::run(argc, argv); }
