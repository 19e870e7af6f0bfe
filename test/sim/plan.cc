#include "test/sim/plan.h"

#include <algorithm>

#include "common/config/scalar.h"
#include "common/tensor/parameter_space.h"

namespace nanduti::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Duration between(RandomStream& random, Duration low, Duration high) {
  return Duration(static_cast<std::int64_t>(
      random.uniform(static_cast<double>(low.count()), static_cast<double>(high.count()))));
}

enum class Mood { kCalm, kLossy, kBroken, kWild };

LinkPlan make_link(RandomStream& random, Mood mood) {
  LinkPlan link;
  link.delay = between(random, milliseconds(1), milliseconds(100));
  link.jitter = random.chance(0.3) ? link.delay : link.delay / 10;
  if (random.chance(0.3)) link.skew = between(random, milliseconds(0), milliseconds(400));
  link.bytes_per_second = random.chance(0.5) ? 125e6 : random.uniform(2.5e6, 25e6);
  link.fifo = mood == Mood::kBroken || (mood == Mood::kCalm && random.chance(0.5));
  if (mood == Mood::kBroken || (mood == Mood::kWild && random.chance(0.5)))
    link.breaks = random.chance(0.5) ? 0.001 : 0.01;
  if (mood == Mood::kLossy || mood == Mood::kWild) {
    link.loss = random.chance(0.5) ? random.uniform(0.0, 0.02) : random.uniform(0.0, 0.15);
    link.duplication = random.chance(0.5) ? random.uniform(0.0, 0.1) : 0.0;
    link.reordering = random.chance(0.5) ? random.uniform(0.0, 0.2) : 0.0;
    link.refusals = random.chance(0.3) ? random.uniform(0.0, 0.05) : 0.0;
  }
  return link;
}

/// Servers that are away for longer than their sessions last end the job, which is another promise's affair.
Duration server_absence(const Plan& plan, RandomStream& random) {
  const bool short_sessions = plan.session.forget_after < seconds(20);
  return between(random, milliseconds(100), short_sessions ? milliseconds(2500) : milliseconds(8000));
}

Target some_server(const Plan& plan, RandomStream& random) {
  const std::uint64_t pick = random.below(plan.shards + 2);
  if (pick < plan.shards) return {Target::Kind::kShard, pick};
  return {pick == plan.shards ? Target::Kind::kCoordinator : Target::Kind::kServers, 0};
}

Duration absence_of_worker(RandomStream& random) {
  return random.chance(0.6) ? between(random, milliseconds(100), seconds(4))
                            : between(random, seconds(4), seconds(25));
}

void add_partitions(Plan& plan, RandomStream& random, Duration span) {
  const std::uint64_t partitions = random.below(5);
  for (std::uint64_t i = 0; i < partitions; ++i) {
    Partition partition;
    partition.begin = kBeginning + between(random, milliseconds(200), span);
    Duration length = absence_of_worker(random);
    if (random.chance(0.7)) {
      partition.target = {Target::Kind::kWorker, random.below(plan.workers)};
    } else if (random.chance(0.3)) {
      partition.target = {Target::Kind::kShard, random.below(plan.shards)};
      length = server_absence(plan, random);
    }
    partition.end = std::min(partition.begin + length, plan.heal_at);
    const std::uint64_t way = random.below(4);
    partition.up = way != 0;
    partition.down = way != 1;
    partition.only_coordinator = random.chance(0.25);
    plan.partitions.push_back(partition);
  }
}

void add_pauses(Plan& plan, RandomStream& random, Duration span) {
  if (random.chance(0.5)) return;
  const std::uint64_t pauses = 1 + random.below(3);
  for (std::uint64_t i = 0; i < pauses; ++i) {
    Pause pause;
    pause.begin = kBeginning + between(random, milliseconds(200), span);
    const bool server = random.chance(0.3);
    pause.target =
        server ? some_server(plan, random) : Target{Target::Kind::kWorker, random.below(plan.workers)};
    const Duration length = server                ? server_absence(plan, random)
                            : random.chance(0.15) ? between(random, seconds(25), seconds(150))
                                                  : absence_of_worker(random);
    pause.end = pause.begin + length;
    plan.pauses.push_back(pause);
  }
}

void add_happenings(Plan& plan, RandomStream& random, Duration span) {
  const std::uint64_t happenings = random.below(2 * plan.workers + 1);
  for (std::uint64_t i = 0; i < happenings; ++i) {
    const std::size_t place = random.below(plan.workers);
    const ProtocolTime at = kBeginning + between(random, milliseconds(200), span);
    const HappeningKind kind = random.chance(0.7) ? HappeningKind::kCrash : HappeningKind::kDrain;
    plan.happenings.push_back({at, kind, place});
    // Often so soon that what the old life has sent is still on its way.
    const Duration longest = random.chance(0.4) ? Duration(milliseconds(300)) : Duration(seconds(5));
    if (random.chance(0.7))
      plan.happenings.push_back(
          {at + between(random, milliseconds(10), longest), HappeningKind::kStart, place});
  }
}

/// Often in the midst of writing.
ServerCrash some_crash(const Plan& plan, RandomStream& random) {
  ServerCrash crash;
  const Duration span = plan.heal_at - kBeginning;
  crash.at = kBeginning + between(random, milliseconds(200), random.chance(0.5) ? span : span / 4);
  crash.amid_write = random.chance(0.5);
  crash.down =
      random.chance(0.5) ? between(random, milliseconds(1), milliseconds(300)) : server_absence(plan, random);
  crash.target.kind = Target::Kind::kCoordinator;
  return crash;
}

/// Of shards.
void add_crashes(Plan& plan, RandomStream& random) {
  if (random.chance(0.7))
    plan.write = between(random, milliseconds(0), milliseconds(random.chance(0.3) ? 800 : 80));
  if (random.chance(0.5)) plan.snapshot_log_entries = 1 + random.below(60);
  if (!random.chance(0.4)) return;
  for (std::uint64_t i = 1 + random.below(4); i > 0; --i) {
    ServerCrash crash = some_crash(plan, random);
    crash.target = {Target::Kind::kShard, random.below(plan.shards)};
    plan.crashes.push_back(crash);
  }
}

/// Of the coordinator, alike; some while a shard is down, which owes it answers then.
void add_coordinator_crashes(Plan& plan, RandomStream& random) {
  if (!random.chance(0.25)) return;
  const std::size_t others = plan.crashes.size();
  for (std::uint64_t i = 1 + random.below(3); i > 0; --i) {
    ServerCrash crash = some_crash(plan, random);
    if (others > 0 && random.chance(0.5)) {
      const ServerCrash& other = plan.crashes[random.below(others)];
      crash.at =
          std::min(plan.heal_at, other.at + between(random, milliseconds(0), other.down + milliseconds(300)));
    }
    plan.crashes.push_back(crash);
  }
}

void add_faults(Plan& plan, RandomStream& random, Mood mood) {
  const Duration span = between(random, seconds(3), seconds(30));
  plan.heal_at = kBeginning + span;
  add_partitions(plan, random, span);
  add_pauses(plan, random, span);
  if (mood == Mood::kWild || random.chance(0.5)) add_happenings(plan, random, span);
  for (const Pause& pause : plan.pauses) plan.heal_at = std::max(plan.heal_at, pause.end);
}

/// Workers' sessions to shards end where a few pushes wait.
void let_overflow(Plan& plan, RandomStream& random) {
  const std::uint64_t blocks = (plan.parameters / kBlockSize + plan.shards - 1) / plan.shards;
  const std::uint64_t push_bytes = blocks * kBlockSize * sizeof(float);
  plan.worker_session.queue_bytes_max = push_bytes * (2 + random.below(6)) + 4096;
  // As in the daemons: pushes alone never make it overflow, or a worker would lose what it sends again and
  // again.
  plan.window_bytes_max = plan.worker_session.queue_bytes_max - 4096;
}

void sort_happenings(Plan& plan) {
  std::stable_sort(plan.happenings.begin(), plan.happenings.end(),
                   [](const Happening& a, const Happening& b) { return a.at < b.at; });
}

std::optional<std::uint32_t> some_bound(RandomStream& random) {
  constexpr std::uint32_t kBounds[] = {0, 0, 0, 1, 1, 2, 3, 4, 8, 16};
  const std::uint64_t pick = random.below(12);
  return pick < 10 ? std::optional(kBounds[pick]) : std::nullopt;
}

void make_job(Plan& plan, RandomStream& random) {
  plan.shards = 1 + static_cast<std::uint32_t>(random.below(4));
  plan.workers = 1 + static_cast<std::uint32_t>(random.below(random.chance(0.3) ? 8 : 5));
  plan.workers_to_start = 1 + plan.workers / 3;
  plan.parameters = kBlockSize * (random.chance(0.1) ? 1 + random.below(3) : plan.shards);
  if (random.chance(0.02)) plan.parameters = kBlockSize * 40;  // pushes of several frames
  plan.epochs = 1 + static_cast<std::uint32_t>(random.below(random.chance(0.15) ? 9 : 3));
  plan.round_samples = 1 + random.below(8);
  plan.samples = std::max<std::uint64_t>(1, plan.round_samples * (4 + random.below(120)) / plan.epochs);
  plan.samples += random.below(plan.round_samples + 1);
  plan.test_samples = random.chance(0.9) ? 1 + random.below(30) : 0;
  plan.bound = some_bound(random);
  plan.deterministic = random.chance(0.2);
  if (plan.deterministic) plan.workers_to_start = plan.workers;
  constexpr PlanCodec kCodecs[] = {PlanCodec::kDense, PlanCodec::kDense, PlanCodec::kQuarter,
                                   PlanCodec::kBlocks, PlanCodec::kBlocks};
  plan.codec = kCodecs[random.below(std::size(kCodecs))];
  plan.step = between(random, milliseconds(5), milliseconds(150));
  plan.unpublished_age_max = between(random, milliseconds(20), milliseconds(800));
  if (random.chance(0.2)) plan.window_rounds_max = 1 + static_cast<std::uint32_t>(random.below(12));
  if (random.chance(0.15)) plan.epochs_kept = 1 + random.below(3);
}

/// Staleness and compression that change, by an operator or by what is measured.
void add_tunings(Plan& plan, RandomStream& random) {
  plan.accumulate = random.chance(0.2);
  if (random.chance(0.15)) {
    plan.auto_staleness = true;
    plan.bound = 1 + static_cast<std::uint32_t>(random.below(16));
    // Long enough for something to be measured.
    if (random.chance(0.5)) plan.samples *= 4;
  }
  if (!random.chance(0.3)) return;
  for (std::uint64_t i = 1 + random.below(4); i > 0; --i) {
    TuningPlan tuning;
    tuning.at = kBeginning + between(random, milliseconds(500), seconds(random.chance(0.7) ? 6 : 20));
    tuning.bound = some_bound(random);
    tuning.local_steps = 1 + static_cast<std::uint32_t>(random.below(4));
    tuning.codec = plan.codec;
    if (plan.codec != PlanCodec::kQuarter)
      tuning.codec = random.chance(0.5) ? PlanCodec::kDense : PlanCodec::kBlocks;
    plan.tunings.push_back(tuning);
  }
}

/// Links on which the model takes 0.5 to 3 lease times, one way: few rounds, and nothing else is wrong with
/// these links. One shard: a chunk must pass within a session's patience and a lease's time.
void make_links_thin(Plan& plan, RandomStream& random) {
  plan.parameters = kBlockSize * 64;
  plan.epochs = 1 + static_cast<std::uint32_t>(random.below(2));
  plan.samples = plan.round_samples * (2 + random.below(6)) / plan.epochs + 1;
  plan.coordinator.lease_timeout = between(random, seconds(6), seconds(8));
  plan.coordinator.suspend_after = seconds(3);
  plan.coordinator.dead_after = seconds(8);
  plan.session.redial_after = seconds(10);
  plan.worker_session = plan.session;
  plan.window_bytes_max = std::size_t{256} << 20;
  // A push that is refused for its age is flushed anew: where a membership takes leases to come, without end.
  plan.epochs_kept = Plan().epochs_kept;
  const auto bytes = static_cast<double>(plan.parameters * sizeof(float));
  const auto lease_seconds = std::chrono::duration<double>(plan.coordinator.lease_timeout).count();
  for (PlacePlan& place : plan.places) {
    if (&place != &plan.places.front() && random.chance(0.4)) continue;
    place.link.bytes_per_second = bytes / (random.uniform(0.5, 3.0) * lease_seconds);
    place.link.fifo = true;
    place.link.loss = place.link.duplication = place.link.reordering = 0;
    place.link.refusals = place.link.breaks = 0;
  }
}

}  // namespace

Plan make_plan(std::uint64_t seed) {
  RandomStream random(seed, 1);
  Plan plan;
  plan.seed = seed;
  plan.network_seed = seed;
  make_job(plan, random);

  const bool impatient = random.chance(0.5);
  plan.coordinator.shards = plan.shards;
  plan.coordinator.suspend_after = impatient ? seconds(3) : seconds(10);
  plan.coordinator.dead_after = impatient ? seconds(8) : seconds(60);
  plan.coordinator.lease_timeout = impatient ? seconds(15) : seconds(120);
  plan.session.forget_after = random.chance(0.5) ? seconds(7) : seconds(120);
  plan.session.redial_after = random.chance(0.5) ? seconds(2) : seconds(5);
  if (random.chance(0.2)) plan.session.control_credit_bytes = 4096 << random.below(4);
  if (random.chance(0.2)) plan.session.bulk_credit_bytes = std::size_t{32768} << random.below(4);
  plan.worker_session = plan.session;
  if (random.chance(0.3)) let_overflow(plan, random);
  if (random.chance(0.2)) plan.queue_frames_max = static_cast<std::uint32_t>(8 + random.below(56));
  if (random.chance(0.5)) plan.drift = random.chance(0.5) ? 0.0002 : 0.02;

  const auto mood = static_cast<Mood>(random.below(4));
  for (std::uint32_t place = 0; place < plan.workers; ++place) {
    const double slowness = random.chance(0.2) ? random.uniform(1.0, 8.0) : random.uniform(1.0, 1.2);
    plan.places.push_back({slowness, make_link(random, mood)});
    const bool late = place > 0 && random.chance(0.25);
    plan.happenings.push_back(
        {kBeginning + between(random, milliseconds(0), late ? seconds(10) : milliseconds(500)),
         HappeningKind::kStart, place});
  }
  if (mood == Mood::kLossy || mood == Mood::kWild) plan.replays = 0.02;
  if (random.chance(0.3)) plan.overtaking = random.uniform(0.0, 0.2);
  if (mood == Mood::kWild || random.chance(0.1)) plan.hangs = 0.005;
  if (random.chance(0.3)) plan.hang = std::chrono::hours(2);
  if (random.chance(0.2)) plan.cancel_at = kBeginning + between(random, milliseconds(500), seconds(8));
  plan.local = {milliseconds(0), milliseconds(1), Duration(0), 1e9, 0, 0, 0, 0, true, 0};
  if (mood == Mood::kWild)
    plan.local = {milliseconds(1), milliseconds(5), milliseconds(5), 1e9, 0.02, 0.02, 0.02, 0.01, false, 0};
  // Shards that are far from the coordinator, one further than the other.
  if (RandomStream far(seed, 10); far.chance(0.2)) plan.local.skew = milliseconds(400);
  plan.heal_at = kBeginning + seconds(10);
  // A worker that merges slowly drops versions and catches up in one go.
  if (random.chance(0.25))
    plan.unmerged_bytes_max = 1 + random.below(4) * plan.parameters / plan.shards * sizeof(float);
  if (mood != Mood::kCalm) add_faults(plan, random, mood);
  if (RandomStream thin(seed, 8); plan.shards == 1 && thin.chance(0.05)) make_links_thin(plan, thin);
  if (RandomStream evaluation(seed, 9); evaluation.chance(0.3))
    plan.evaluate_every = 1 + evaluation.below(plan.samples);
  if (RandomStream weights(seed, 11); weights.chance(0.1)) {
    plan.own_work = weights.chance(0.5) ? 1 : 0.5;
    plan.rho = weights.chance(0.5) ? 0 : 0.25;
  }
  if (RandomStream server(seed, 13); server.chance(0.2))
    plan.server_optimizer =
        server.chance(0.5) ? ServerOptimizerType::kNesterov : ServerOptimizerType::kAdagrad;
  if (RandomStream ages(seed, 14); !plan.deterministic && ages.chance(0.15))
    plan.age_power = 0.5 * static_cast<double>(1 + ages.below(4));
  if (RandomStream tuning(seed, 12); !plan.deterministic) add_tunings(plan, tuning);
  if (RandomStream crashes(seed, 15); mood != Mood::kCalm) add_crashes(plan, crashes);
  if (RandomStream crashes(seed, 16); mood != Mood::kCalm) add_coordinator_crashes(plan, crashes);
  sort_happenings(plan);
  return plan;
}

Plan make_deterministic_plan(std::uint64_t seed, std::uint64_t network_seed) {
  Plan plan = make_plan(seed);
  RandomStream random(network_seed, 7);
  plan.network_seed = network_seed;
  plan.deterministic = true;
  plan.auto_staleness = plan.accumulate = false;
  plan.age_power = 0;
  plan.tunings.clear();
  plan.workers_to_start = plan.workers;
  if (!plan.bound) plan.bound = 4;
  plan.cancel_at.reset();
  plan.replays = plan.hangs = 0;
  plan.partitions.clear();
  plan.pauses.clear();
  plan.crashes.clear();
  plan.happenings.clear();
  plan.places.clear();
  plan.step = between(random, milliseconds(5), milliseconds(100));
  plan.unpublished_age_max = between(random, milliseconds(20), milliseconds(800));
  // Patient: nobody is to be given up.
  plan.coordinator.suspend_after = seconds(10);
  plan.coordinator.dead_after = seconds(60);
  plan.coordinator.lease_timeout = seconds(120);
  plan.session.forget_after = seconds(120);
  plan.session.redial_after = seconds(2);
  plan.worker_session = plan.session;
  if (random.chance(0.5)) let_overflow(plan, random);
  const auto mood = static_cast<Mood>(random.below(4));
  // One place more than the job starts with: whoever comes last is not needed.
  for (std::uint32_t place = 0; place < plan.workers + 1; ++place) {
    plan.places.push_back({random.uniform(1.0, 5.0), make_link(random, mood)});
    plan.happenings.push_back(
        {kBeginning + between(random, milliseconds(0), seconds(2)), HappeningKind::kStart, place});
  }
  if (mood != Mood::kCalm && random.chance(0.5)) {
    const ProtocolTime begin = kBeginning + between(random, seconds(2), seconds(5));
    const Target target{Target::Kind::kWorker, random.below(plan.workers)};
    const ProtocolTime end = begin + between(random, seconds(1), seconds(4));
    if (random.chance(0.5))
      plan.partitions.push_back({begin, end, target, true, true});
    else
      plan.pauses.push_back({begin, end, target});
  }
  plan.heal_at = kBeginning + seconds(15);
  sort_happenings(plan);
  return plan;
}

std::string to_string(const Target& target) {
  switch (target.kind) {
    case Target::Kind::kWorker:
      return fmt::format("worker {}", target.index);
    case Target::Kind::kShard:
      return fmt::format("shard {}", target.index);
    case Target::Kind::kCoordinator:
      return "coordinator";
    case Target::Kind::kServers:
      return "servers";
    case Target::Kind::kAll:
      break;
  }
  return "all";
}

std::optional<Target> parse_target(std::string_view text) {
  for (const Target::Kind kind : {Target::Kind::kCoordinator, Target::Kind::kServers, Target::Kind::kAll})
    if (text == to_string(Target{kind, 0})) return Target{kind, 0};
  for (const auto& [word, kind] :
       {std::pair("worker ", Target::Kind::kWorker), std::pair("shard ", Target::Kind::kShard)}) {
    if (!text.starts_with(word)) continue;
    const auto index = parse_whole_number(text.substr(std::string_view(word).size()));
    if (index && *index < 64) return Target{kind, static_cast<std::size_t>(*index)};
  }
  return std::nullopt;
}

std::string describe(const Plan& plan) {
  const LinkPlan& link = plan.places.front().link;
  return fmt::format(
      "seed {}: {} workers, {} shards, {} parameters, {} samples x {} epochs in rounds of {}, bound "
      "{}{}{}; place 0: {} us, {}loss {:.3f}; {} partitions, {} pauses, {} happenings, heals after {:.1f} s",
      plan.seed, plan.workers, plan.shards, plan.parameters, plan.samples, plan.epochs, plan.round_samples,
      plan.bound ? fmt::format("{}", *plan.bound) : "none", plan.deterministic ? ", deterministic" : "",
      plan.codec == PlanCodec::kDense    ? ""
      : plan.codec == PlanCodec::kBlocks ? ", blocks"
                                         : ", quarters",
      link.delay.count() / 1000, link.fifo ? "fifo, " : "", link.loss, plan.partitions.size(),
      plan.pauses.size(), plan.happenings.size(),
      std::chrono::duration<double>(plan.heal_at - kBeginning).count());
}

}  // namespace nanduti::sim
