// Goal: what a codec decodes is what its contract says, whatever the payload (P8).
// Method: every codec and both alignments on the input's bytes, then values of the input's making through it,
// and the payload of those with the input's damage. A new codec gets a line in codecs().
#include <cmath>
#include <cstring>

#include "common/base/check.h"
#include "common/codec/block_codec.h"
#include "common/codec/codec.h"
#include "test/fuzz/fuzz_input.h"

namespace nanduti {
namespace {

std::vector<std::unique_ptr<Codec>> codecs() {
  std::vector<std::unique_ptr<Codec>> all;
  all.push_back(std::make_unique<DenseFloat32Codec>());
  // dense_segment_begin, value_bits, density, densities
  for (const BlockCodecOptions& options :
       {BlockCodecOptions{~std::uint64_t{0}, 2, 0.01, {}}, BlockCodecOptions{4096, 4, 0.25, {}},
        BlockCodecOptions{8192, 8, 0.001, {{{0, 4096}, 0.5}}}, BlockCodecOptions{0, 2, 0.01, {}},
        BlockCodecOptions{~std::uint64_t{0}, 2, 1.0, {}}, BlockCodecOptions{4096, 32, 1.0, {}}})
    all.push_back(std::make_unique<BlockCodec>(options));
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
}

/// The sender knows what the receiver gets, bit for bit; the same input gives the same bytes; and damage is
/// seen, or gives another good update.
void try_values(const Codec& codec, std::span<const float> values, FuzzInput damage) {
  std::vector<float> residual(values.begin(), values.end()), again = residual;
  const EncodedUpdate encoded = codec.encode(residual, {}, {});
  check_update(encoded.update, values.size());
  const Result<Update> decoded = codec.decode(encoded.payload, values.size());
  NANDUTI_CHECK(decoded.ok(), "{}", decoded.error().message);
  NANDUTI_CHECK(equal(*decoded, encoded.update), "the receiver gets another update");
  NANDUTI_CHECK(equal_bytes(codec.encode(again, {}, {}).payload, encoded.payload));

  if (encoded.payload.empty()) return;
  std::vector<std::uint8_t> bytes(encoded.payload.size());
  std::memcpy(bytes.data(), encoded.payload.data(), bytes.size());
  for (std::uint64_t left = 1 + damage.below(4); left > 0; --left) {
    // Mostly where the structure is.
    const std::uint64_t reach = damage.flag() ? bytes.size() : std::min<std::uint64_t>(bytes.size(), 32);
    bytes[damage.below(reach)] ^= damage.byte();
  }
  const Result<Update> damaged = codec.decode(FuzzInput::own(bytes), values.size());
  if (damaged.ok()) check_update(*damaged, values.size());
}

/// The floats in `bytes`, over and over until there are `size`; numbers only.
std::vector<float> values_in(std::span<const std::uint8_t> bytes, std::uint64_t size) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (values.empty()) return values;
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  for (float& value : values)
    if (!std::isfinite(value)) value = 0;
  const std::uint64_t given = values.size();
  for (std::uint64_t i = given; i < size; ++i) values.push_back(values[i - given]);
  return values;
}

}  // namespace
}  // namespace nanduti

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nanduti;
  FuzzInput input(data, size);
  const std::uint64_t choice = input.below(4);
  const std::uint64_t other = input.next_u64();
  const FuzzInput damage = input.copy();
  const auto bytes = input.rest();
  // Mostly what the payload could be; else any size, which nothing may be allocated for.
  const std::uint64_t claimed = choice == 0   ? other
                                : choice == 1 ? other % 65536
                                              : bytes.size() / sizeof(float);
  const auto all = codecs();
  try_codec(*all[0], bytes, claimed);
  try_codec(*all[1], bytes, claimed);
  const std::vector<float> values = values_in(bytes, choice == 1 ? other % 10000 : 0);
  try_values(*all[other % all.size()], values, damage);
  return 0;
}
