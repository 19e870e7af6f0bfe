// Goal: a shard's numbers on a device are those in the host's memory, bit for bit, whatever happens to them
// in whatever order, and every call that fails is an error after which nothing is left. Method: random lives
// of a shard on the emulated device beside HostShard.
#include "cuda/replica/device_shard.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/codec/block_payload.h"
#include "cuda/runtime/stream.h"
#include "test/cuda/codec/some_values.h"
#include "test/cuda/device_vector.h"
#include "test/support/catch.h"
#include "worker/client/host_memory.h"

namespace nanduti {
namespace {

constexpr ParameterRange kRange{2 * kBlockSize, 4 * kBlockSize + 500};
constexpr std::uint8_t kBlocks = static_cast<std::uint8_t>(Coding::kBlocks);
constexpr std::uint8_t kDense = static_cast<std::uint8_t>(Coding::kDenseFloat32);

BlockCodecOptions some_options(RandomStream& random) {
  BlockCodecOptions options;
  options.dense_segment_begin = (random.chance(0.5) ? 4 : 9) * kBlockSize;
  options.value_bits = std::vector<std::uint32_t>{2, 4, 8, 32}[random.below(4)];
  options.density = random.chance(0.3) ? 0.2 : 0.01;
  return options;
}

std::vector<float> near(RandomStream& random, std::uint64_t size) {
  std::vector<float> values(size);
  for (float& value : values) value = random.chance(0.2) ? 0.0f : static_cast<float>(random.uniform(-1, 1));
  return values;
}

/// A shard's life on both sides, with the same things done to both.
class Pair {
 public:
  explicit Pair(const std::vector<float>& initial) : host_(kRange.size(), initial) {
    REQUIRE(stream_.make().ok());
    device_ = std::move(DeviceShard::create(kRange, initial, stream_.get())).value();
  }

  void push(RandomStream& random) {
    const std::vector<float> progress =
        random.chance(0.9) ? near(random, kRange.size()) : std::vector<float>();
    const CodingContext context{++round_, kRange.begin, static_cast<double>(round_)};
    const bool exactly = random.chance(0.2);
    const std::unique_ptr<Codec> codec = exactly
                                             ? std::unique_ptr<Codec>(std::make_unique<DenseFloat32Codec>())
                                             : std::make_unique<BlockCodec>(options_);
    const SharedBytes on_host = host_.push(progress, *codec, context);
    std::unique_ptr<DeviceVector<float>> given;
    if (!progress.empty()) given = std::make_unique<DeviceVector<float>>(progress);
    const float* const from = given ? given->data() : nullptr;
    const Result<SharedBytes> on_device =
        exactly ? device_->push_exactly(from)
                : device_->push_coded(from, options_, context.round, context.epochs_done);
    REQUIRE(on_device.ok());
    REQUIRE(std::ranges::equal(on_device->view(), on_host.view()));
    is_weighed.push_back(false);
  }
  void settle() {
    host_.settle_oldest();
    REQUIRE(device_->settle_oldest().ok());
    is_weighed.erase(is_weighed.begin());
  }
  void take_back(std::size_t k) {
    host_.take_back(k);
    REQUIRE(device_->take_back(k).ok());
    is_weighed.erase(is_weighed.begin() + static_cast<std::ptrdiff_t>(k));
  }
  void take_back_rest(std::size_t k, float part) {
    host_.take_back_rest(k, part);
    REQUIRE(device_->take_back_rest(k, part).ok());
    is_weighed[k] = true;
  }
  void merge(RandomStream& random) {
    std::vector<float> change = near(random, kRange.size());
    if (random.chance(0.2)) {
      const SharedBytes payload = SharedBytes::take(std::vector<float>(change));
      REQUIRE(host_.add_to_shadow(kDense, payload, DenseFloat32Codec()).ok());
      REQUIRE(device_->add_to_shadow(std::span<const float>(change)).ok());
      return;
    }
    const BlockCodec codec(some_options(random));
    const SharedBytes payload = codec.encode(change, {}, {0, kRange.begin, 0}).payload;
    REQUIRE(host_.add_to_shadow(kBlocks, payload, codec).ok());
    REQUIRE(device_->add_to_shadow(payload).ok());
  }
  /// Cut, or with a value in a body that is none: the host sees the first, the device the second.
  void merge_what_is_broken(RandomStream& random) {
    BlockCodecOptions options;
    options.value_bits = 32;
    std::vector<float> change = near(random, kRange.size());
    const bool in_a_body = random.chance(0.5);
    if (in_a_body) change[random.below(change.size())] = std::numeric_limits<float>::quiet_NaN();
    const BlockCodec codec(options);
    SharedBytes payload = codec.encode(change, {}, {0, kRange.begin, 0}).payload;
    if (!in_a_body) payload = payload.slice(0, random.below(payload.size()));
    REQUIRE(host_.add_to_shadow(kBlocks, payload, codec).error().code == ErrorCode::kCorrupt);
    const Status status = device_->add_to_shadow(payload);
    REQUIRE_FALSE(status.ok());
    REQUIRE(status.error().code == ErrorCode::kCorrupt);
  }
  void assign(RandomStream& random) {
    const std::uint64_t begin = random.below(kRange.size()),
                        end = begin + random.below(kRange.size() - begin);
    const std::vector<float> values = near(random, end - begin);
    host_.assign({begin, end}, std::as_bytes(std::span(values)).data());
    REQUIRE(device_->assign({begin, end}, values.data()).ok());
    REQUIRE(device_->wait().ok());
  }
  void tune(RandomStream& random) { options_ = some_options(random); }

  void check(RandomStream& random) {
    std::vector<float> shadow(kRange.size()), residual(kRange.size()), x(kRange.size());
    REQUIRE(device_->read(shadow, residual).ok());
    REQUIRE(bits_of(shadow) == bits_of({host_.shadow().begin(), host_.shadow().end()}));
    REQUIRE(bits_of(residual) == bits_of({host_.residual().begin(), host_.residual().end()}));
    const std::vector<float> pending =
        random.chance(0.5) ? near(random, kRange.size()) : std::vector<float>();
    const MergeWeights weights = {random.chance(0.7) ? 1.0f : 0.3f, random.chance(0.5) ? 1.0f : 0.25f};
    host_.rebase();
    host_.compute_parameters(x, pending, weights);
    const DeviceVector<float> on_device(kRange.size());
    std::unique_ptr<DeviceVector<float>> given;
    if (!pending.empty()) given = std::make_unique<DeviceVector<float>>(pending);
    REQUIRE(device_
                ->compute_parameters(on_device.data(), given ? given->data() : nullptr, weights.own_work,
                                     weights.rho)
                .ok());
    REQUIRE(bits_of(on_device.to_host()) == bits_of(x));
    const device::ResidualPart measured = device_->measure_residual().value();
    const ResidualMeasure expected = host_.measure_residual();
    REQUIRE(measured.squares == Approx(expected.squares));
    REQUIRE((measured.left > 0) == expected.is_left);
  }

  std::vector<bool> is_weighed;  // per push in flight

 private:
  DeviceStream stream_;  // of its own: what is handed to another one is not there in time
  HostShard host_;
  std::unique_ptr<DeviceShard> device_;
  BlockCodecOptions options_;
  std::uint64_t round_ = 0;
};

}  // namespace

TEST_CASE("a shard's numbers on a device are the host's, bit for bit, whatever happens to them") {
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    INFO("seed " << seed);
    fakecuda::reset();
    {
      RandomStream random(seed);
      Pair pair(random.chance(0.5) ? near(random, kRange.size()) : std::vector<float>());
      for (int step = 0; step < 25; ++step) {
        INFO("step " << step);
        const std::uint64_t choice = random.below(10);
        if (choice < 4) {
          pair.push(random);
        } else if (choice == 4) {
          pair.merge(random);
        } else if (choice == 5) {
          pair.assign(random);
        } else if (choice == 6) {
          pair.tune(random);
        } else if (choice == 7) {
          pair.merge_what_is_broken(random);
        } else if (!pair.is_weighed.empty()) {
          const std::uint64_t what = random.below(3), k = random.below(pair.is_weighed.size());
          if (what == 0) pair.settle();
          if (what == 1) pair.take_back(k);
          if (what == 2 && !pair.is_weighed[k]) pair.take_back_rest(k, 0.25f);
        }
        if (step % 3 == 0) pair.check(random);
      }
      pair.check(random);
      CHECK(fakecuda::kernel_failure().empty());
    }
    CHECK(fakecuda::leaks().empty());
  }
}

TEST_CASE("a residual that is not finite has nothing left where it is not, and no finite norm") {
  fakecuda::reset();
  DeviceStream stream;
  REQUIRE(stream.make().ok());
  const auto measured = [&](const std::vector<float>& progress) {
    auto shard = std::move(DeviceShard::create({0, progress.size()}, {}, stream.get())).value();
    HostShard host(progress.size(), {});
    const DeviceVector<float> given(progress);
    BlockCodecOptions options;
    (void)shard->push_coded(given.data(), options, 0, 0);
    (void)host.push(progress, BlockCodec(options), {});
    const device::ResidualPart part = shard->measure_residual().value();
    CHECK((part.left > 0) == host.measure_residual().is_left);
    CHECK(std::isfinite(part.squares) == std::isfinite(host.measure_residual().squares));
    return part;
  };
  CHECK(measured(std::vector<float>(5000, 0.0f)).left == 0);
  CHECK(measured(std::vector<float>(5000, 1.0f)).left > 4900);
  std::vector<float> values(70'000, 0.0f);  // more than one part
  values[69'999] = 2;
  values[7] = 1e-3f;
  CHECK(measured(values).left <= 1);
  values[1] = std::numeric_limits<float>::infinity();
  (void)measured(values);
}

TEST_CASE("whatever call of a shard fails, it is an error, and nothing is left behind") {
  for (const char* call :
       {"cudaMalloc", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaLaunchKernel", "cudaStreamSynchronize"}) {
    for (std::uint64_t nth = 1;; ++nth) {
      INFO(call << ", call " << nth);
      fakecuda::reset();
      Status status;
      {
        DeviceStream stream;
        REQUIRE(stream.make().ok());
        RandomStream random(1);
        const std::vector<float> values = near(random, kRange.size());
        const DeviceVector<float> progress(values), x(kRange.size());
        std::vector<float> change = values;
        const SharedBytes publish =
            BlockCodec(BlockCodecOptions()).encode(change, {}, {0, kRange.begin, 0}).payload;
        fakecuda::fail_call(call, nth, cudaErrorMemoryAllocation);
        const auto run = [&]() -> Status {
          auto created = DeviceShard::create(kRange, values, stream.get());
          if (!created.ok()) return created.error();
          DeviceShard& shard = **created;
          NANDUTI_RETURN_IF_ERROR(shard.add_to_shadow(publish));
          NANDUTI_RETURN_IF_ERROR(shard.add_to_shadow(std::span<const float>(values)));
          const auto coded = shard.push_coded(progress.data(), BlockCodecOptions(), 0, 0);
          if (!coded.ok()) return coded.error();
          const auto exact = shard.push_exactly(progress.data());
          if (!exact.ok()) return exact.error();
          NANDUTI_RETURN_IF_ERROR(shard.take_back_rest(1, 0.5f));
          NANDUTI_RETURN_IF_ERROR(shard.take_back(0));
          NANDUTI_RETURN_IF_ERROR(shard.compute_parameters(x.data(), progress.data(), 1, 1));
          const auto measured = shard.measure_residual();
          return measured.ok() ? Status() : Status(measured.error());
        };
        status = run();
        if (!fakecuda::has_failures_left() && status.ok()) {
          // Of those that wait at the end of a scope the next call tells.
          CHECK(std::string(call) == "cudaStreamSynchronize");
        }
        (void)cudaDeviceSynchronize();
      }
      if (fakecuda::has_failures_left()) {
        CHECK(status.ok());
        CHECK(nth > 1);
        break;
      }
      CHECK(fakecuda::leaks().empty());
    }
  }
}

TEST_CASE("of a round only payloads come back from a device, and publishes and their groups go there") {
  fakecuda::reset();
  DeviceStream stream;
  REQUIRE(stream.make().ok());
  RandomStream random(1);
  auto shard = std::move(DeviceShard::create(kRange, {}, stream.get())).value();
  const DeviceVector<float> progress(near(random, kRange.size())), x(kRange.size());
  std::vector<float> change = near(random, kRange.size());
  const BlockCodecOptions options;
  const SharedBytes publish = BlockCodec(options).encode(change, {}, {0, kRange.begin, 0}).payload;
  (void)shard->push_coded(progress.data(), options, 0, 0);  // and its tables
  for (std::uint64_t round = 1; round < 4; ++round) {
    const fakecuda::Crossed before = fakecuda::crossed();
    const Result<SharedBytes> push = shard->push_coded(progress.data(), options, round, 0);
    REQUIRE(push.ok());
    const fakecuda::Crossed pushed = fakecuda::crossed();
    const std::uint64_t words = (push->size() + 3) / 4 * 4;
    CHECK(pushed.to_host - before.to_host == words + sizeof(std::uint64_t));  // and how many there are
    CHECK(pushed.to_device == before.to_device);
    REQUIRE(shard->settle_oldest().ok());
    REQUIRE(shard->add_to_shadow(publish).ok());
    const fakecuda::Crossed merged = fakecuda::crossed();
    const std::uint64_t groups = open_block_payload(publish.view(), kRange.size())->grid.count();
    CHECK(merged.to_device - pushed.to_device == publish.size() + groups * sizeof(device::CodedGroup));
    CHECK(merged.to_host - pushed.to_host == sizeof(unsigned));  // whether it is good
    REQUIRE(shard->compute_parameters(x.data(), progress.data(), 1, 1).ok());
    CHECK(fakecuda::crossed().to_device == merged.to_device);
    CHECK(fakecuda::crossed().to_host == merged.to_host);
  }
}

}  // namespace nanduti
