#include "test/sim/scenario_file.h"

#include <algorithm>

#include "common/config/yaml_reader.h"

namespace nanduti::sim {

namespace {

constexpr std::uint64_t kAny = ~std::uint64_t{0};
constexpr Duration kYear = std::chrono::hours(24 * 365);

std::string text_of(Duration value) {
  const double seconds = static_cast<double>(value.count()) / 1e9;
  std::string text = fmt::format("{:.9f}", seconds);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " s";
}

/// Visits the fields of a plan to read them.
class Reader {
 public:
  explicit Reader(YamlReader& yaml) : yaml_(yaml) {}

  template <class Whole>
  void whole(const char* key, Whole& value, const Whole&, std::uint64_t min = 0, std::uint64_t max = kAny) {
    yaml_.whole_number(key, min, max, value);
  }
  void real(const char* key, double& value, double) {
    yaml_.real_number(
        key, [](double v) { return v >= 0; }, "a number of at least 0", value);
  }
  void truth(const char* key, bool& value, bool) { yaml_.boolean(key, value); }
  void duration(const char* key, Duration& value, Duration) {
    yaml_.duration(key, Duration(0), kYear, value);
  }
  void time(const char* key, ProtocolTime& value) {
    Duration since_beginning = value - kBeginning;
    yaml_.duration(key, Duration(0), kYear, since_beginning);
    value = kBeginning + since_beginning;
  }
  void optional_time(const char* key, std::optional<ProtocolTime>& value) {
    if (yaml_.find(key) == nullptr) return;
    value.emplace(kBeginning);
    time(key, *value);
  }
  void bound(const char* key, std::optional<std::uint32_t>& value) {
    const YamlNode* node = yaml_.find(key);
    if (node == nullptr) return;
    if (node->kind == YamlNode::Kind::kScalar && node->text == "none") {
      value.reset();
      return;
    }
    value.emplace(0);
    yaml_.whole_number(key, 0, 1024, *value);
  }
  void target(const char* key, Target& value) {
    const YamlNode* node = yaml_.scalar(key, "a target");
    if (node == nullptr) return;
    const auto parsed = parse_target(node->text);
    if (parsed)
      value = *parsed;
    else
      yaml_.reject(key, "worker N, shard N, coordinator, servers or all");
  }
  template <class T>
  void choice(const char* key, const std::vector<Choice<T>>& choices, T& value) {
    yaml_.choice(key, choices, {}, value);
  }
  template <class Fields>
  void map(const char* key, Fields fields) {
    YamlReader below = yaml_.map(key);
    Reader reader(below);
    fields(reader);
    below.finish();
  }
  template <class T, class Fields>
  void list(const char* key, std::vector<T>& values, Fields fields) {
    const YamlNode* node = yaml_.find(key);
    if (node == nullptr) return;
    if (node->kind != YamlNode::Kind::kList) return yaml_.reject(key, "a list");
    values.clear();
    for (std::size_t i = 0; i < node->items.size(); ++i) {
      YamlReader item(node->items[i].value, fmt::format("{}[{}]", yaml_.path_of(key), i), yaml_.errors());
      Reader reader(item);
      fields(reader, values.emplace_back());
      item.finish();
    }
  }

 private:
  YamlReader& yaml_;
};

/// Visits the fields of a plan to write them: those that differ from a default one.
class Writer {
 public:
  template <class Whole>
  void whole(const char* key, const Whole& value, const Whole& usual, std::uint64_t = 0,
             std::uint64_t = kAny) {
    if (value != usual) add(key, fmt::format("{}", value));
  }
  void real(const char* key, double value, double usual) {
    if (value != usual) add(key, fmt::format("{}", value));
  }
  void truth(const char* key, bool value, bool usual) {
    if (value != usual) add(key, value ? "true" : "false");
  }
  void duration(const char* key, Duration value, Duration usual) {
    if (value != usual) add(key, text_of(value));
  }
  void time(const char* key, ProtocolTime value) { add(key, text_of(value - kBeginning)); }
  void optional_time(const char* key, const std::optional<ProtocolTime>& value) {
    if (value) time(key, *value);
  }
  void bound(const char* key, const std::optional<std::uint32_t>& value) {
    add(key, value ? fmt::format("{}", *value) : "none");
  }
  void target(const char* key, const Target& value) { add(key, to_string(value)); }
  template <class T>
  void choice(const char* key, const std::vector<Choice<T>>& choices, T& value) {
    for (const Choice<T>& choice : choices)
      if (choice.value == value) add(key, std::string(choice.word));
  }
  template <class Fields>
  void map(const char* key, Fields fields) {
    Writer below;
    fields(below);
    if (!below.fields_.empty()) text_ += fmt::format("{}: {}\n", key, below.flow());
  }
  template <class T, class Fields>
  void list(const char* key, std::vector<T>& values, Fields fields) {
    if (values.empty()) return;
    text_ += fmt::format("{}:\n", key);
    for (T& value : values) {
      Writer item;
      fields(item, value);
      text_ += "  - " + item.flow() + "\n";
    }
  }

  /// The top level: one key a line.
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const std::string& field : fields_) all += field + "\n";
    return all + text_;
  }

 private:
  void add(const char* key, const std::string& value) {
    fields_.push_back(fmt::format("{}: {}", key, value));
  }
  [[nodiscard]] std::string flow() const { return fmt::format("{{{}}}", fmt::join(fields_, ", ")); }

  std::vector<std::string> fields_;
  std::string text_;
};

template <class Visitor>
void visit_link(Visitor& v, LinkPlan& link) {
  const LinkPlan usual;
  v.duration("delay", link.delay, usual.delay);
  v.duration("jitter", link.jitter, usual.jitter);
  v.duration("skew", link.skew, usual.skew);
  v.real("bytes_per_second", link.bytes_per_second, usual.bytes_per_second);
  v.real("loss", link.loss, usual.loss);
  v.real("duplication", link.duplication, usual.duplication);
  v.real("reordering", link.reordering, usual.reordering);
  v.real("refusals", link.refusals, usual.refusals);
  v.truth("fifo", link.fifo, usual.fifo);
  v.real("breaks", link.breaks, usual.breaks);
}

template <class Visitor>
void visit_session(Visitor& v, SessionOptions& session) {
  const SessionOptions usual;
  v.duration("redial_after", session.redial_after, usual.redial_after);
  v.duration("forget_after", session.forget_after, usual.forget_after);
  v.whole("control_credit_bytes", session.control_credit_bytes, usual.control_credit_bytes, 1);
  v.whole("bulk_credit_bytes", session.bulk_credit_bytes, usual.bulk_credit_bytes, 1);
  v.whole("queue_bytes_max", session.queue_bytes_max, usual.queue_bytes_max, 1);
}

std::vector<Choice<PlanCodec>> codec_words() {
  return {{"dense", PlanCodec::kDense}, {"quarter", PlanCodec::kQuarter}, {"blocks", PlanCodec::kBlocks}};
}

template <class Visitor>
void visit_job(Visitor& v, Plan& plan) {
  const Plan usual;
  v.whole("shards", plan.shards, usual.shards, 1, 8);
  v.whole("workers_to_start", plan.workers_to_start, usual.workers_to_start, 1, 64);
  v.whole("parameters", plan.parameters, usual.parameters, 1, 1 << 20);
  v.whole("samples", plan.samples, usual.samples, 1, 1 << 20);
  v.whole("test_samples", plan.test_samples, usual.test_samples, 0, 1 << 20);
  v.whole("epochs", plan.epochs, usual.epochs, 1, 1000);
  v.whole("round_samples", plan.round_samples, usual.round_samples, 1, 1 << 20);
  v.choice("server_optimizer",
           {{"add", ServerOptimizerType::kAdd},
            {"nesterov", ServerOptimizerType::kNesterov},
            {"adagrad", ServerOptimizerType::kAdagrad}},
           plan.server_optimizer);
  v.real("age_power", plan.age_power, usual.age_power);
  v.whole("evaluate_every", plan.evaluate_every, usual.evaluate_every, 0, 1 << 20);
  v.bound("bound", plan.bound);
  v.truth("auto_staleness", plan.auto_staleness, usual.auto_staleness);
  v.truth("accumulate", plan.accumulate, usual.accumulate);
  v.truth("deterministic", plan.deterministic, usual.deterministic);
  v.choice("codec", codec_words(), plan.codec);
  v.real("own_work", plan.own_work, usual.own_work);
  v.real("rho", plan.rho, usual.rho);
  v.duration("step", plan.step, usual.step);
  v.duration("unpublished_age_max", plan.unpublished_age_max, usual.unpublished_age_max);
  v.whole("window_rounds_max", plan.window_rounds_max, usual.window_rounds_max, 1);
  v.whole("window_bytes_max", plan.window_bytes_max, usual.window_bytes_max, 1);
  v.whole("unmerged_bytes_max", plan.unmerged_bytes_max, usual.unmerged_bytes_max, 1);
  v.whole("epochs_kept", plan.epochs_kept, usual.epochs_kept, 1);
}

template <class Visitor>
void visit_faults(Visitor& v, Plan& plan) {
  const Plan usual;
  v.time("heal_at", plan.heal_at);
  v.real("drift", plan.drift, usual.drift);
  v.real("replays", plan.replays, usual.replays);
  v.real("overtaking", plan.overtaking, usual.overtaking);
  v.real("hangs", plan.hangs, usual.hangs);
  v.duration("hang", plan.hang, usual.hang);
  v.whole("queue_frames_max", plan.queue_frames_max, usual.queue_frames_max, 1);
  v.duration("write", plan.write, usual.write);
  v.whole("snapshot_log_entries", plan.snapshot_log_entries, usual.snapshot_log_entries, 1);
  v.optional_time("cancel_at", plan.cancel_at);
}

template <class Visitor>
void visit_plan(Visitor& v, Plan& plan) {
  v.whole("seed", plan.seed, kAny);
  v.whole("network_seed", plan.network_seed, kAny);
  v.map("job", [&](auto& below) { visit_job(below, plan); });
  v.map("membership", [&](auto& below) {
    const CoordinatorOptions usual;
    below.duration("suspend_after", plan.coordinator.suspend_after, usual.suspend_after);
    below.duration("dead_after", plan.coordinator.dead_after, usual.dead_after);
    below.duration("lease_timeout", plan.coordinator.lease_timeout, usual.lease_timeout);
  });
  v.map("server_sessions", [&](auto& below) { visit_session(below, plan.session); });
  v.map("worker_sessions", [&](auto& below) { visit_session(below, plan.worker_session); });
  v.map("local_link", [&](auto& below) { visit_link(below, plan.local); });
  v.list("workers", plan.places, [](auto& item, PlacePlan& place) {
    item.real("slowness", place.slowness, 0);
    visit_link(item, place.link);
  });
  v.map("faults", [&](auto& below) { visit_faults(below, plan); });
  v.list("partitions", plan.partitions, [](auto& item, Partition& partition) {
    item.time("from", partition.begin);
    item.time("to", partition.end);
    item.target("of", partition.target);
    item.truth("up", partition.up, true);
    item.truth("down", partition.down, true);
    item.truth("only_coordinator", partition.only_coordinator, false);
  });
  v.list("pauses", plan.pauses, [](auto& item, Pause& pause) {
    item.time("from", pause.begin);
    item.time("to", pause.end);
    item.target("of", pause.target);
  });
  v.list("crashes", plan.crashes, [](auto& item, ServerCrash& crash) {
    item.time("at", crash.at);
    item.duration("down", crash.down, Duration(0));
    item.target("of", crash.target);
    item.truth("amid_write", crash.amid_write, false);
  });
  v.list("events", plan.happenings, [](auto& item, Happening& happening) {
    item.time("at", happening.at);
    item.choice("what",
                std::vector<Choice<HappeningKind>>{{"start", HappeningKind::kStart},
                                                   {"crash", HappeningKind::kCrash},
                                                   {"drain", HappeningKind::kDrain}},
                happening.kind);
    item.whole("worker", happening.place, std::size_t{kAny}, 0, 63);
  });
  v.list("tunings", plan.tunings, [](auto& item, TuningPlan& tuning) {
    item.time("at", tuning.at);
    item.bound("bound", tuning.bound);
    item.whole("local_steps", tuning.local_steps, 1u, 1, 1024);
    item.choice("codec", codec_words(), tuning.codec);
  });
}

/// What the numbers of a file must have in common.
Status check(const std::string& file, Plan& plan) {
  const auto wrong = [&](const std::string& what) {
    return make_error(ErrorCode::kInvalidArgument, "{}: {}", file, what);
  };
  if (plan.places.empty()) return wrong("workers: at least one is needed");
  plan.coordinator.shards = plan.shards;
  plan.workers = static_cast<std::uint32_t>(plan.places.size());
  if (plan.workers_to_start > plan.workers) return wrong("job.workers_to_start: there are fewer workers");
  const auto known = [&](const Target& target) {
    return target.index < (target.kind == Target::Kind::kWorker ? plan.workers : plan.shards);
  };
  for (const Partition& partition : plan.partitions)
    if (!known(partition.target)) return wrong("partitions: there is no " + to_string(partition.target));
  for (const Pause& pause : plan.pauses)
    if (!known(pause.target)) return wrong("pauses: there is no " + to_string(pause.target));
  for (const ServerCrash& crash : plan.crashes)
    if (crash.target.kind != Target::Kind::kCoordinator &&
        (crash.target.kind != Target::Kind::kShard || !known(crash.target)))
      return wrong("crashes: of a shard or the coordinator, not of " + to_string(crash.target));
  if (plan.auto_staleness && plan.bound.value_or(0) == 0)
    return wrong("job.auto_staleness: needs a bound above 0, the largest that may be chosen");
  if (plan.deterministic && (plan.auto_staleness || plan.accumulate || !plan.tunings.empty()))
    return wrong("job.deterministic: such a job is not tuned");
  for (const TuningPlan& tuning : plan.tunings)
    if ((tuning.codec == PlanCodec::kQuarter) != (plan.codec == PlanCodec::kQuarter))
      return wrong("tunings: nothing changes to or from the codec quarter");
  for (const Happening& happening : plan.happenings)
    if (happening.place >= plan.workers)
      return wrong(fmt::format("events: there is no worker {}", happening.place));
  std::stable_sort(plan.happenings.begin(), plan.happenings.end(),
                   [](const Happening& a, const Happening& b) { return a.at < b.at; });
  return {};
}

}  // namespace

Result<Scenario> parse_scenario(const ConfigText& source) {
  const Result<YamlNode> tree = parse_yaml(source);
  if (!tree.ok()) return tree.error();
  ConfigErrors errors(source.name);
  YamlReader yaml(*tree, "", errors);
  Scenario scenario;
  scenario.plan.heal_at = kBeginning;
  Reader reader(yaml);
  visit_plan(reader, scenario.plan);
  if (const YamlNode* expect = yaml.find("expect")) {
    for (const YamlNode::Entry& item : expect->items) scenario.expected.push_back(item.value.text);
    if (scenario.expected.empty()) yaml.reject("expect", "a list of texts");
  }
  yaml.finish();
  NANDUTI_RETURN_IF_ERROR(errors.status());
  NANDUTI_RETURN_IF_ERROR(check(source.name, scenario.plan));
  return scenario;
}

std::string to_text(const Plan& plan) {
  Plan copy = plan;
  Writer writer;
  visit_plan(writer, copy);
  return writer.text();
}

std::string first_missing(const std::vector<std::string>& expected, const std::vector<std::string>& story) {
  auto line = story.begin();
  for (const std::string& text : expected) {
    line = std::find_if(line, story.end(),
                        [&](const std::string& l) { return l.find(text) != std::string::npos; });
    if (line == story.end()) return text;
    ++line;
  }
  return {};
}

}  // namespace nanduti::sim
