// Goal: the self-test passes on devices that compute what they should, says so where one does not, and its
// golden payloads are what this release codes. Method: the CPU; a device that is wrong in one thing.
#include "worker/selftest/selftest.h"

#include <limits>
#include <string>

#include "common/compute/onednn/onednn_backend.h"
#include "test/support/catch.h"
#include "worker/client/host_memory.h"
#include "worker/device/host_device.h"
#include "worker/selftest/golden_payloads.h"

namespace nanduti {
namespace {

/// The CPU, but that gradients are this many times too large.
class WrongNetwork final : public Network {
 public:
  WrongNetwork(std::unique_ptr<Network> right, float factor) : right_(std::move(right)), factor_(factor) {}
  Result<std::span<float>> input(std::size_t batch) override { return right_->input(batch); }
  Result<BatchLoss> loss(std::span<const float> parameters, std::span<const std::uint8_t> labels) override {
    return right_->loss(parameters, labels);
  }
  Result<BatchLoss> gradient(std::span<const float> parameters, std::span<const std::uint8_t> labels,
                             std::span<float> gradient) override {
    const auto loss = right_->gradient(parameters, labels, gradient);
    for (float& value : gradient) value *= factor_;
    return loss;
  }

 private:
  std::unique_ptr<Network> right_;
  float factor_;
};

class WrongBackend final : public Backend {
 public:
  explicit WrongBackend(float factor) : factor_(factor) {}
  [[nodiscard]] std::string name() const override { return "a \"wrong\" one"; }
  Result<std::unique_ptr<Network>> compile(const NetworkDescription& description) override {
    auto right = right_->compile(description);
    if (!right.ok()) return right.error();
    return std::unique_ptr<Network>(std::make_unique<WrongNetwork>(std::move(right).value(), factor_));
  }

 private:
  std::unique_ptr<Backend> right_ = make_onednn_backend();
  float factor_;
};

/// The host's memory, but that one bit of each coded payload is wrong.
class WrongValues final : public WorkingShard {
 public:
  explicit WrongValues(std::unique_ptr<WorkingShard> right) : right_(std::move(right)) {}
  Status add_to_shadow(std::uint8_t coding, const SharedBytes& payload, const Codec& own) override {
    return right_->add_to_shadow(coding, payload, own);
  }
  void assign(const ParameterRange& range, const std::byte* values) override {
    right_->assign(range, values);
  }
  SharedBytes push(std::span<const float> progress, const Codec& codec,
                   const CodingContext& context) override {
    const SharedBytes payload = right_->push(progress, codec, context);
    if (codec.coding() != Coding::kBlocks) return payload;
    std::vector<std::byte> bytes(payload.view().begin(), payload.view().end());
    bytes.back() ^= std::byte{1};
    return SharedBytes::take(std::move(bytes));
  }
  void settle_oldest() override { right_->settle_oldest(); }
  void take_back(std::size_t k) override { right_->take_back(k); }
  void take_back_rest(std::size_t k, float part) override { right_->take_back_rest(k, part); }
  [[nodiscard]] std::size_t bytes_in_flight(std::size_t k) const override {
    return right_->bytes_in_flight(k);
  }
  void rebase() override { right_->rebase(); }
  void compute_parameters(std::span<float> x, std::span<const float> pending, MergeWeights weights) override {
    right_->compute_parameters(x, pending, weights);
  }
  [[nodiscard]] ResidualMeasure measure_residual() const override { return right_->measure_residual(); }

 private:
  std::unique_ptr<WorkingShard> right_;
};

class WrongMemory final : public WorkingMemory {
 public:
  std::unique_ptr<WorkingShard> make_shard(const ParameterRange& range,
                                           std::span<const float> initial) override {
    return std::make_unique<WrongValues>(right_.make_shard(range, initial));
  }
  std::shared_ptr<RoundBuffers> make_buffers(std::uint64_t parameters) override {
    return right_.make_buffers(parameters);
  }
  void add(std::span<float> sum, std::span<const float> more) override { right_.add(sum, more); }
  [[nodiscard]] Status status() const override { return {}; }

 private:
  HostMemory right_;
};

class DeviceWithWrongMemory final : public ComputeDevice {
 public:
  [[nodiscard]] std::string description() const override { return "wrong memory"; }
  Result<std::unique_ptr<Learner>> make_learner(const ResolvedModel& model,
                                                const OptimizerSpec& optimizer) override {
    return host_.make_learner(model, optimizer);
  }
  Result<std::shared_ptr<WorkingMemory>> make_memory() override {
    return std::shared_ptr<WorkingMemory>(std::make_shared<WrongMemory>());
  }
  Result<DeviceRates> measure_rates() override { return host_.measure_rates(); }

 private:
  HostDevice host_{make_onednn_backend()};
};

const SelfTestReport::Check& check_named(const SelfTestReport& report, const std::string& name) {
  for (const SelfTestReport::Check& check : report.checks)
    if (check.name == name) return check;
  FAIL("there is no check " << name);
  return report.checks.front();
}

}  // namespace

TEST_CASE("the golden payloads are what this release codes") {
  for (const GoldenPayload& golden : golden_payloads()) {
    std::vector<float> residual(golden.size, 0.0f);
    const SharedBytes payload =
        BlockCodec(golden.options).encode(residual, golden_values(golden), {}).payload;
    INFO(golden.name << ": " << std::hex << fingerprint_of(payload));
    CHECK(fingerprint_of(payload) == golden.fingerprint);
  }
}

TEST_CASE("the CPU passes the self-test, and every figure is there") {
  HostDevice device(make_onednn_backend());
  const Result<SelfTestReport> report = run_self_test(device, {.seconds = 0.05});
  INFO((report.ok() ? std::string() : report.error().message));
  REQUIRE(report.ok());
  for (const SelfTestReport::Check& check : report->checks) {
    INFO(check.name << ": " << check.detail);
    CHECK(check.passed);
  }
  CHECK(report->passed());
  CHECK(report->checks.size() >= 10);
  CHECK(report->rates.copy_bytes_per_second > 0);
  CHECK(report->rates.flops_per_second > 0);
  REQUIRE(report->timings.size() == 3);
  for (const SelfTestReport::Timing& timing : report->timings) {
    CHECK(timing.lowest <= timing.median);
    CHECK(timing.median <= timing.highest);
    CHECK(timing.lowest > 0);
    CHECK(timing.share_of_peak == 0);  // nobody says what it is
  }
  CHECK(report->timings[0].share_of_products > 0);
  CHECK(report->timings[2].share_of_copies > 0);
  CHECK(to_json(*report).find(R"("passed":true)") != std::string::npos);
  CHECK(to_text(*report).find("FAILED") == std::string::npos);
}

TEST_CASE("a device whose gradients are wrong by one in a hundred does not pass") {
  HostDevice device(std::make_unique<WrongBackend>(1.01f));
  const Result<SelfTestReport> report = run_self_test(device, {.seconds = 0.01});
  REQUIRE(report.ok());
  CHECK_FALSE(report->passed());
  CHECK_FALSE(check_named(*report, "layers: dense, relu").passed);
  CHECK(check_named(*report, "codec: 1 in 100, 2 bits").passed);
  CHECK(check_named(*report, "a short training, momentum").passed);
  CHECK(to_json(*report).find(R"("device":"a \"wrong\" one")") != std::string::npos);
  CHECK(to_text(*report).find("FAILED  layers: dense, relu") != std::string::npos);
}

TEST_CASE(
    "a device that gives what is no number, or learns nothing, does not pass, and the report is whole") {
  for (const float factor : {std::numeric_limits<float>::quiet_NaN(), 0.0f}) {
    HostDevice device(std::make_unique<WrongBackend>(factor));
    // Rates of training are of a device that can train.
    const Result<SelfTestReport> report = run_self_test(device, {.seconds = 0.01});
    REQUIRE(report.ok());
    CHECK_FALSE(check_named(*report, factor == 0 ? "layers: batch_norm" : "batch_norm").passed);
    CHECK_FALSE(check_named(*report, factor == 0 ? "a short training, AdamW" : "AdamW").passed);
    CHECK(check_named(*report, "the working copy").passed);
    CHECK(report->timings.size() == (factor == 0 ? 3 : 1));
  }
}

TEST_CASE("a device that codes one bit wrong does not pass") {
  DeviceWithWrongMemory device;
  const Result<SelfTestReport> report = run_self_test(device, {.seconds = 0.01});
  REQUIRE(report.ok());
  CHECK_FALSE(check_named(*report, "codec: 1 in 3, exactly").passed);
  CHECK_FALSE(check_named(*report, "the working copy").passed);
  CHECK(check_named(*report, "a short training, momentum").passed);
}

}  // namespace nanduti
