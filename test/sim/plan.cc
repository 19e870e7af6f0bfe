#include "test/sim/plan.h"

#include <algorithm>

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
  link.bytes_per_second = random.chance(0.5) ? 125e6 : random.uniform(2.5e6, 25e6);
  link.fifo = mood == Mood::kBroken || (mood == Mood::kCalm && random.chance(0.5));
  if (mood == Mood::kBroken || (mood == Mood::kWild && random.chance(0.5)))
    link.breaks = random.chance(0.5) ? 0.001 : 0.01;
  if (mood == Mood::kLossy || mood == Mood::kWild) {
    link.loss = random.chance(0.5) ? random.uniform(0.0, 0.02) : random.uniform(0.0, 0.15);
    link.duplication = random.chance(0.5) ? random.uniform(0.0, 0.1) : 0.0;
    link.reordering = random.chance(0.5) ? random.uniform(0.0, 0.2) : 0.0;
  }
  return link;
}

void add_faults(Plan& plan, RandomStream& random, Mood mood) {
  const Duration span = between(random, seconds(3), seconds(30));
  plan.heal_at = kBeginning + span;
  const auto some_time = [&] { return kBeginning + between(random, milliseconds(200), span); };
  const std::uint64_t partitions = random.below(4);
  for (std::uint64_t i = 0; i < partitions; ++i) {
    Partition partition;
    partition.begin = some_time();
    const Duration length = random.chance(0.7) ? between(random, milliseconds(100), seconds(4))
                                               : between(random, seconds(4), seconds(25));
    partition.end = std::min(partition.begin + length, plan.heal_at);
    if (random.chance(0.7)) partition.place = random.below(plan.workers);
    const std::uint64_t way = random.below(4);
    partition.up = way != 0;
    partition.down = way != 1;
    plan.partitions.push_back(partition);
  }
  if (mood != Mood::kWild && random.chance(0.5)) return;
  const std::uint64_t happenings = random.below(2 * plan.workers + 1);
  for (std::uint64_t i = 0; i < happenings; ++i) {
    const std::size_t place = random.below(plan.workers);
    const ProtocolTime at = some_time();
    const bool crash = random.chance(0.7);
    plan.crashes |= crash;
    plan.happenings.push_back({at, crash ? HappeningKind::kCrash : HappeningKind::kDrain, place});
    if (random.chance(0.7))
      plan.happenings.push_back(
          {at + between(random, milliseconds(10), seconds(5)), HappeningKind::kStart, place});
  }
}

/// Workers' sessions to shards end where a few pushes wait.
void let_overflow(Plan& plan, RandomStream& random) {
  const std::uint64_t blocks = (plan.parameters / kBlockSize + plan.shards - 1) / plan.shards;
  plan.worker_session.queue_bytes_max = blocks * kBlockSize * sizeof(float) * (2 + random.below(6)) + 4096;
}

}  // namespace

Plan make_plan(std::uint64_t seed) {
  RandomStream random(seed, 1);
  Plan plan;
  plan.seed = seed;
  plan.network_seed = seed;
  plan.shards = 1 + static_cast<std::uint32_t>(random.below(3));
  plan.workers = 1 + static_cast<std::uint32_t>(random.below(5));
  plan.parameters = kBlockSize * (random.chance(0.1) ? 1 + random.below(3) : plan.shards);
  if (random.chance(0.02)) plan.parameters = kBlockSize * 40;  // pushes of several frames
  plan.epochs = 1 + static_cast<std::uint32_t>(random.below(random.chance(0.15) ? 9 : 3));
  plan.round_samples = 1 + random.below(8);
  plan.samples = std::max<std::uint64_t>(1, plan.round_samples * (4 + random.below(120)) / plan.epochs);
  plan.samples += random.below(plan.round_samples + 1);
  plan.test_samples = random.chance(0.9) ? 1 + random.below(30) : 0;
  constexpr std::uint32_t kBounds[] = {0, 1, 2, 4, 8};
  if (const std::uint64_t pick = random.below(7); pick < 5)
    plan.bound = kBounds[pick];
  else
    plan.bound = pick == 5 ? std::optional<std::uint32_t>(0) : std::nullopt;
  plan.deterministic = random.chance(0.2);
  plan.sparse = random.chance(0.4);
  plan.step = between(random, milliseconds(5), milliseconds(150));
  plan.unpublished_age_max = between(random, milliseconds(20), milliseconds(800));

  const bool impatient = random.chance(0.5);
  plan.coordinator.shards = plan.shards;
  plan.coordinator.suspend_after = impatient ? seconds(3) : seconds(10);
  plan.coordinator.dead_after = impatient ? seconds(8) : seconds(60);
  plan.coordinator.lease_timeout = impatient ? seconds(15) : seconds(120);
  plan.session.forget_after = random.chance(0.5) ? seconds(7) : seconds(120);
  plan.session.redial_after = random.chance(0.5) ? seconds(2) : seconds(5);
  plan.worker_session = plan.session;
  if (random.chance(0.3)) let_overflow(plan, random);

  const auto mood = static_cast<Mood>(random.below(4));
  for (std::uint32_t place = 0; place < plan.workers; ++place) {
    plan.links.push_back(make_link(random, mood));
    plan.slowness.push_back(random.chance(0.2) ? random.uniform(1.0, 8.0) : random.uniform(1.0, 1.2));
    const bool late = place > 0 && random.chance(0.25);
    plan.happenings.push_back(
        {kBeginning + between(random, milliseconds(0), late ? seconds(10) : milliseconds(500)),
         HappeningKind::kStart, place});
  }
  if (mood == Mood::kLossy || mood == Mood::kWild) plan.replays = 0.02;
  if (mood == Mood::kWild || random.chance(0.1)) plan.hangs = 0.005;
  if (random.chance(0.2)) plan.cancel_at = kBeginning + between(random, milliseconds(500), seconds(8));
  plan.local = {milliseconds(0), milliseconds(1), 1e9, 0, 0, 0, true, 0};
  if (mood == Mood::kWild) plan.local = {milliseconds(1), milliseconds(5), 1e9, 0.02, 0.02, 0.02, false, 0};
  plan.heal_at = kBeginning + seconds(10);
  if (mood != Mood::kCalm) add_faults(plan, random, mood);
  std::stable_sort(plan.happenings.begin(), plan.happenings.end(),
                   [](const Happening& a, const Happening& b) { return a.at < b.at; });
  return plan;
}

Plan make_deterministic_plan(std::uint64_t seed, std::uint64_t network_seed) {
  Plan plan = make_plan(seed);
  RandomStream random(network_seed, 7);
  plan.network_seed = network_seed;
  plan.deterministic = true;
  if (!plan.bound) plan.bound = 4;
  plan.crashes = false;
  plan.cancel_at.reset();
  plan.replays = plan.hangs = 0;
  plan.partitions.clear();
  plan.happenings.clear();
  plan.links.clear();
  plan.slowness.clear();
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
    plan.links.push_back(make_link(random, mood));
    plan.slowness.push_back(random.uniform(1.0, 5.0));
    plan.happenings.push_back(
        {kBeginning + between(random, milliseconds(0), seconds(2)), HappeningKind::kStart, place});
  }
  if (mood != Mood::kCalm && random.chance(0.5)) {
    const ProtocolTime begin = kBeginning + between(random, seconds(2), seconds(5));
    plan.partitions.push_back({begin, begin + between(random, seconds(1), seconds(4)),
                               std::optional<std::size_t>(random.below(plan.workers)), true, true});
  }
  plan.heal_at = kBeginning + seconds(15);
  std::stable_sort(plan.happenings.begin(), plan.happenings.end(),
                   [](const Happening& a, const Happening& b) { return a.at < b.at; });
  return plan;
}

std::string describe(const Plan& plan) {
  std::string text = fmt::format(
      "seed {}: {} workers, {} shards, {} parameters, {} samples x {} epochs in rounds of {}, bound {}{}{}",
      plan.seed, plan.workers, plan.shards, plan.parameters, plan.samples, plan.epochs, plan.round_samples,
      plan.bound ? fmt::format("{}", *plan.bound) : "none", plan.deterministic ? ", deterministic" : "",
      plan.sparse ? ", sparse" : "");
  const LinkPlan& link = plan.links.front();
  text +=
      fmt::format("; place 0: {} us, {}loss {:.3f}, {} partitions, {} happenings, heals after {:.1f} s",
                  link.delay.count() / 1000, link.fifo ? "fifo, " : "", link.loss, plan.partitions.size(),
                  plan.happenings.size(), std::chrono::duration<double>(plan.heal_at - kBeginning).count());
  return text;
}

}  // namespace nanduti::sim
