// Goal: what changes a running job is read as the job's own file is, on top of what holds, and survives being
// written and read again. Method: by hand, and random specs for the round trip.
#include "common/config/tuning.h"

#include "common/base/random.h"
#include "test/support/catch.h"

namespace nanduti {
namespace {

TuningSpec read(const std::string& text, const TuningSpec& before = {}) {
  auto spec = parse_tuning(text, "tuning.yaml", before);
  INFO((spec.ok() ? "" : spec.error().message));
  REQUIRE(spec.ok());
  return std::move(spec).value();
}

TEST_CASE("keys that are named change, the others stay") {
  TuningSpec before;
  before.staleness.bound = 3;
  before.staleness.local_steps = 5;
  before.compression.push = {0.5, 8, 2, {{"0.weight", 0.1}}};
  const TuningSpec after = read("staleness: {bound: 8}\ncompression: {push: {density: 0.25}}", before);
  CHECK(after.staleness.bound == 8u);
  CHECK(after.staleness.local_steps == 5);
  CHECK(after.compression.push == CodingSpec{0.25, 8, 2, {{"0.weight", 0.1}}});
  CHECK(after.compression.publish == before.compression.publish);
  CHECK(read("staleness: {bound: none}", before).staleness.bound == std::nullopt);
  CHECK(read("compression: {push: {tensors: {}}}", before).compression.push.tensors.empty());
  CHECK(read("compression: none", before).compression == CompressionSpec::exact());
}

TEST_CASE("auto begins with the most that is allowed") {
  const TuningSpec after =
      read("staleness: {bound: auto, bound_max: 9, local_steps: auto, local_steps_max: 4}");
  CHECK(after.staleness.auto_bound);
  CHECK(after.staleness.bound == 9u);
  CHECK(after.staleness.auto_local_steps);
  CHECK(after.staleness.local_steps == 4);
  const TuningSpec fixed = read("staleness: {bound: 2}", after);
  CHECK_FALSE(fixed.staleness.auto_bound);
  CHECK(fixed.staleness.auto_local_steps);
}

TEST_CASE("a wrong value is refused as in a job's file") {
  struct Row {
    const char* text;
    const char* error;
  };
  const Row rows[] = {
      {"staleness: {bound: -1}",
       "t.yaml:1: staleness.bound: found \"-1\", allowed: a whole number from 0 to 1024, auto, or none"},
      {"staleness: {bound: \"3\"}",
       "t.yaml:1: staleness.bound: found the quoted text \"3\", allowed: a whole number from 0 to 1024, "
       "auto, or none"},
      {"staleness: {local_steps: 0}",
       "t.yaml:1: staleness.local_steps: found \"0\", allowed: a whole number from 1 to 1024, or auto"},
      {"staleness: {bound: 3, bound_max: 8}",
       "t.yaml:1: staleness.bound_max: found it beside a bound that is not auto, allowed: to leave it out"},
      {"compression: {push: {density: 2}}",
       "t.yaml:1: compression.push.density: found \"2\", allowed: a number from 0.00025 to 1"},
  };
  for (const Row& row : rows) {
    const auto spec = parse_tuning(row.text, "t.yaml", {});
    REQUIRE_FALSE(spec.ok());
    CHECK(spec.error().message == row.error);
  }
  for (const char* text : {"training: {epochs: 9}", "model: {preset: mlp}", "", "[]"})
    CHECK_FALSE(parse_tuning(text, "t.yaml", {}).ok());
}

TEST_CASE("what is written reads to the same, on top of anything") {
  RandomStream random(3);
  const auto some = [&](auto... values) {
    const double all[] = {static_cast<double>(values)...};
    return all[random.below(sizeof...(values))];
  };
  const auto coding = [&] {
    CodingSpec spec{
        some(1, 0.01, 1.0 / 3, 0.00025), static_cast<std::uint32_t>(some(2, 4, 8, 32)), some(0, 0.1, 7), {}};
    if (random.chance(0.3)) spec.tensors.push_back({"0.weight", 0.125});
    if (random.chance(0.3)) spec.tensors.push_back({"10.bias", 1.0 / 3});
    return spec;
  };
  TuningSpec before;
  for (int i = 0; i < 300; ++i) {
    TuningSpec spec;
    StalenessConfig& staleness = spec.staleness;
    staleness.age_power = some(0, 0.5, 10);
    staleness.auto_bound = random.chance(0.3);
    if (staleness.auto_bound)
      staleness.bound = staleness.bound_max = 1 + static_cast<std::uint32_t>(random.below(1024));
    else if (random.chance(0.3))
      staleness.bound.reset();
    else
      staleness.bound = static_cast<std::uint32_t>(random.below(1025));
    staleness.auto_local_steps = random.chance(0.3);
    if (staleness.auto_local_steps)
      staleness.local_steps = staleness.local_steps_max = 1 + static_cast<std::uint32_t>(random.below(1024));
    else
      staleness.local_steps = 1 + static_cast<std::uint32_t>(random.below(1024));
    staleness.at_bound = random.chance(0.5) ? AtBound::kWait : AtBound::kAccumulate;
    staleness.own_work = some(0, 1, 1.0 / 3);
    staleness.rho = some(0, 1, 0.1);
    spec.compression = {coding(), coding()};
    const std::string text = to_yaml(spec);
    INFO(text);
    TuningSpec after = read(text, before);
    // Maxima of what is not auto mean nothing.
    if (!staleness.auto_bound) after.staleness.bound_max = staleness.bound_max;
    if (!staleness.auto_local_steps) after.staleness.local_steps_max = staleness.local_steps_max;
    CHECK(after == spec);
    before = spec;
  }
}

}  // namespace
}  // namespace nanduti
