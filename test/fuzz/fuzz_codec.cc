// Goal: what a codec decodes is what its contract says, whatever the payload (P8).
// Method: every codec and both alignments on the input's bytes, then values of the input's making through it.
// A new codec gets a line in codecs().
#include <cmath>
#include <cstring>

#include "common/base/check.h"
#include "common/codec/codec.h"
#include "test/fuzz/fuzz_input.h"

namespace nanduti {
namespace {

std::vector<std::unique_ptr<Codec>> codecs() {
  std::vector<std::unique_ptr<Codec>> all;
  all.push_back(std::make_unique<DenseFloat32Codec>());
  return all;
}

void check_update(const Update& update, std::uint64_t size) {
  NANDUTI_CHECK(update.size == size);
  NANDUTI_CHECK(update.dense ? update.indices.empty() && update.values.size() == size
                             : update.indices.size() == update.values.size());
  for (const float value : update.values) NANDUTI_CHECK(std::isfinite(value));
  for (std::size_t i = 0; i < update.indices.size(); ++i)
    NANDUTI_CHECK(update.indices[i] < size && (i == 0 || update.indices[i - 1] < update.indices[i]));
}

bool equal(const Update& a, const Update& b) {
  return a.size == b.size && a.dense == b.dense && std::ranges::equal(a.indices, b.indices) &&
         a.values.size() == b.values.size() &&
         (a.values.empty() || std::memcmp(a.values.data(), b.values.data(), a.values.size_bytes()) == 0);
}

void try_codec(const Codec& codec, std::span<const std::uint8_t> bytes, std::uint64_t size) {
  const Result<Update> update = codec.decode(FuzzInput::own(bytes), size);
  std::vector<std::uint8_t> shifted{0};
  shifted.insert(shifted.end(), bytes.begin(), bytes.end());
  const Result<Update> unaligned = codec.decode(FuzzInput::own(shifted).slice(1, bytes.size()), size);
  NANDUTI_CHECK(update.ok() == unaligned.ok());
  if (!update.ok()) {
    NANDUTI_CHECK(update.error().code == ErrorCode::kCorrupt && !update.error().message.empty());
  } else {
    check_update(*update, size);
    NANDUTI_CHECK(equal(*update, *unaligned), "the alignment of a payload changes its values");
  }

  // The sender knows what the receiver gets, bit for bit, and the same input gives the same bytes.
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  for (float& value : values)
    if (!std::isfinite(value)) value = 0;
  std::vector<float> residual = values;
  const EncodedUpdate encoded = codec.encode(residual, {}, {});
  check_update(encoded.update, values.size());
  const Result<Update> decoded = codec.decode(encoded.payload, values.size());
  NANDUTI_CHECK(decoded.ok(), "{}", decoded.error().message);
  NANDUTI_CHECK(equal(*decoded, encoded.update), "the receiver gets another update");
  NANDUTI_CHECK(equal_bytes(codec.encode(values, {}, {}).payload, encoded.payload));
}

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nanduti;
  FuzzInput input(data, size);
  const std::uint64_t choice = input.below(4);
  const std::uint64_t other = input.next_u64();
  const auto bytes = input.rest();
  // Mostly what the payload could be; else any size, which nothing may be allocated for.
  const std::uint64_t values = choice == 0   ? other
                               : choice == 1 ? other % 65536
                                             : bytes.size() / sizeof(float);
  for (const auto& codec : codecs()) try_codec(*codec, bytes, values);
  return 0;
}
