// Goal: what a job's compression says becomes the codecs that do it, and what cannot be done is refused in
// words. Method: specs for a small parameter space; what the codecs code.
#include "common/codec/coding_spec.h"

#include "test/support/catch.h"

using namespace nanduti;

namespace {

/// Blocks 0 and 1, block 2, and a dense segment of 10 values in block 3.
ParameterSpace space() {
  return ParameterSpace({{"0.weight", {2, 4096}}, {"0.bias", {10}}, {"2.weight", {4096}}});
}

std::size_t sent(const Codec& codec, std::uint64_t begin, std::uint64_t size, double epochs_done = 0) {
  std::vector<float> residual(size);
  for (std::size_t i = 0; i < size; ++i) residual[i] = 1.0f + static_cast<float>(i % 7);
  return codec.encode(residual, {}, {0, begin, epochs_done}).update.values.size();
}

}  // namespace

TEST_CASE("density 1 in 32 bits is exact and dense, in each direction by itself") {
  CompressionSpec spec;
  spec.publish = CompressionSpec::exact().publish;
  const JobCodecs codecs = make_codecs(spec, space()).value();
  CHECK(codecs.push->coding() == Coding::kBlocks);
  CHECK(codecs.publish->coding() == Coding::kDenseFloat32);
}

TEST_CASE("tensors have their own densities wherever a shard begins, small ones are sent whole") {
  CompressionSpec spec;
  spec.push = {0.01, 2, 0, {{"2.weight", 0.5}}};
  const JobCodecs codecs = make_codecs(spec, space()).value();
  CHECK(sent(*codecs.push, 0, 4 * 4096) == 41 + 41 + 2048 + 4096);
  CHECK(sent(*codecs.push, 2 * 4096, 2 * 4096) == 2048 + 4096);
  CHECK(sent(*codecs.push, 0, 2 * 4096) == 41 + 41);
}

TEST_CASE("a warm-up begins dense and ends at the density") {
  CompressionSpec spec;
  spec.push = {0.01, 2, 2, {}};
  const JobCodecs codecs = make_codecs(spec, space()).value();
  CHECK(sent(*codecs.push, 0, 4096, 0) == 1024);
  CHECK(sent(*codecs.push, 0, 4096, 1.9) == 82);
  CHECK(sent(*codecs.push, 0, 4096, 2) == 41);
}

TEST_CASE("a density for a tensor that is not there, or that is too small for one, is refused") {
  CompressionSpec spec;
  spec.publish.tensors = {{"1.weight", 0.5}};
  CHECK(make_codecs(spec, space()).error().message ==
        "compression.publish.tensors: the model has no tensor '1.weight'");
  spec.publish.tensors = {{"0.bias", 0.5}};
  CHECK(
      make_codecs(spec, space()).error().message ==
      "compression.publish.tensors: '0.bias' has 10 values, and tensors of less than 4096 are sent whole, as "
      "running means and variances are");
  const ParameterSpace with_buffer({{"0.weight", {5000}}, {"1.running_mean", {5000}, true}});
  spec.publish.tensors = {{"1.running_mean", 0.5}};
  CHECK_FALSE(make_codecs(spec, with_buffer).ok());
}
