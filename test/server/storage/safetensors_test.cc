// Goal: a model reads back bit for bit, its bytes are the format's and always the same, and no other bytes do
// harm. Method: round trips, one golden file, every truncation and bit flip of it.
#include "server/storage/safetensors.h"

#include <bit>
#include <cstring>
#include <limits>

#include "common/base/random.h"
#include "common/model/resolved_model.h"
#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

/// Two tensors, the second (a block or more) laid out before the first, and gaps.
ParameterSpace space_with_gaps() { return ParameterSpace({{"0.bias", {3}}, {"1.weight", {5, 1000}}}); }

std::vector<float> random_bits(std::uint64_t size, std::uint64_t seed) {
  RandomStream random(seed);
  std::vector<float> values(size);
  for (float& value : values) value = std::bit_cast<float>(random.next_u32());
  return values;
}

bool equal_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// A file with this header and `data_bytes` zeros.
std::vector<std::byte> file_with(std::string_view json, std::size_t data_bytes) {
  std::vector<std::byte> bytes(8 + json.size() + data_bytes);
  const std::uint64_t length = json.size();
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, json.data(), json.size());
  return bytes;
}

std::string error_of(const std::vector<std::byte>& bytes) {
  const auto file = decode_safetensors(bytes);
  REQUIRE_FALSE(file.ok());
  CHECK(file.error().code == ErrorCode::kCorrupt);
  return file.error().message;
}

TEST_CASE("a model reads back bit for bit, not-a-numbers included") {
  const ParameterSpace space = space_with_gaps();
  const auto values = random_bits(space.size(), 1);
  const TemporaryFolder folder;
  const auto path = folder.path() / "model.safetensors";
  REQUIRE(write_safetensors(path, space, values, {{"job", "7"}}).ok());
  const auto file = read_safetensors(path);
  REQUIRE(file.ok());
  CHECK(file->header.metadata == SafetensorsMetadata{{"format", "pt"}, {"job", "7"}});
  const auto read = values_in_space(*file, space);
  REQUIRE(read.ok());
  for (const TensorPlace& place : space.tensors()) {
    INFO(place.name);
    CHECK(equal_bits(std::span(*read).subspan(place.offset, place.size()),
                     std::span(values).subspan(place.offset, place.size())));
  }
  CHECK((*read)[5000] == 0.0f);
}

TEST_CASE("LeNet's file has PyTorch's names and shapes, and no gaps") {
  const auto model = resolve_model({"lenet", {}}, {1, 28, 28, 10}).value();
  const auto values = initial_values(model, 1, {0, model.space.size()});
  const auto file = decode_safetensors(encode_safetensors(model.space, values, {})).value();
  CHECK(file.values.size() == 431080);
  CHECK(file.header.entries.front().name == "0.weight");
  CHECK(file.header.entries.front().shape == std::vector<std::uint64_t>{20, 1, 5, 5});
  CHECK(equal_bits(values_in_space(file, model.space).value(), values));
}

TEST_CASE("the bytes of a small model are these, every time") {
  const ParameterSpace space({{"a", {2}}, {"b", {1, 1}}});
  std::vector<float> values(space.size());
  values[0] = 1.0f;
  values[1] = -2.0f;
  values[2] = 0.5f;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]}})";
  REQUIRE(header.size() == 141);
  using namespace std::string_literals;
  const std::string golden =
      "\x90\0\0\0\0\0\0\0"s + header + std::string(3, ' ') + "\0\0\x80\x3F\0\0\0\xC0\0\0\0\x3F"s;
  CHECK(encode_safetensors(space, values, {}) == bytes_of(golden));
  CHECK(encode_safetensors(space, values, {}) == encode_safetensors(space, values, {}));
}

TEST_CASE("text that JSON must escape survives") {
  const ParameterSpace space({{"a \"quoted\"\\\n\u00F1", {1}}});
  const SafetensorsMetadata metadata{{"k\"", "\x01\u00F1"}, {"format", "other"}};
  const auto file = decode_safetensors(encode_safetensors(space, std::vector<float>(space.size()), metadata));
  REQUIRE(file.ok());
  CHECK(file->header.metadata == metadata);
  CHECK(file->header.entries[0].name == "a \"quoted\"\\\n\u00F1");
}

TEST_CASE("every truncation of a file is an error, and no bit flip does harm") {
  const ParameterSpace space({{"a", {2}}, {"b", {1, 1}}});
  const auto whole = encode_safetensors(space, std::vector<float>(space.size(), 1.0f), {});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    if (decode_safetensors(part).ok()) FAIL("the first " << size << " bytes are taken for a file");
  }
  auto longer = whole;
  longer.push_back(std::byte{0});
  CHECK(error_of(longer) == "not a safetensors file: 12 bytes of tensors, but 13 follow the header");
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    auto flipped = whole;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    const auto file = decode_safetensors(flipped);
    if (!file.ok()) ++refused;
    if (file.ok() && file->values.size() != 3) FAIL("bit " << bit << " changes the number of values");
  }
  CHECK(refused > 64);
}

TEST_CASE("headers that lie are refused in words") {
  const std::string prefix = "not a safetensors file: ";
  const auto entry = [](std::string_view type, std::string_view shape, std::string_view offsets) {
    return fmt::format(R"({{"t":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", type, shape, offsets);
  };
  CHECK(error_of({}) == prefix + "shorter than 8 bytes");
  CHECK(error_of(bytes_of("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F")) ==
        prefix + "a header of 9223372036854775807 bytes; the maximum is 16777216");
  CHECK(error_of(file_with("[]", 0)) == prefix + "its header is not an object");
  CHECK(error_of(file_with("{", 0)) == prefix + "its header is not JSON: incomplete JSON");
  CHECK(error_of(file_with(R"({"t":1})", 0)) == prefix + "tensor \"t\" is not described as one");
  CHECK(error_of(file_with(R"({"__metadata__":{"a":1}})", 0)) ==
        prefix + "__metadata__ holds something else than text");
  CHECK(error_of(file_with(entry("BF16", "[1]", "[0,4]"), 4)) ==
        prefix + "tensor \"t\" has the dtype BF16; only F32 is read");
  CHECK(error_of(file_with(entry("F32", "[2]", "[0,4]"), 4)) ==
        prefix + "tensor \"t\" has the shape [2] and 4 bytes");
  CHECK(error_of(file_with(entry("F32", "[4294967296,4294967296]", "[0,4]"), 4)) ==
        prefix + "tensor \"t\" has the shape [4294967296, 4294967296] and 4 bytes");
  CHECK(error_of(file_with(entry("F32", "[-1]", "[0,4]"), 4)) == prefix + "tensor \"t\" has no shape");
  CHECK(error_of(file_with(entry("F32", "[1]", "[4,0]"), 4)) == prefix + "tensor \"t\" has no data_offsets");
  CHECK(error_of(file_with(entry("F32", "[1]", "[4,8]"), 8)) ==
        prefix + "tensor \"t\" begins at 4 instead of 0");
  CHECK(error_of(file_with(entry("F32", "[1]", "[0,4]"), 8)) ==
        prefix + "4 bytes of tensors, but 8 follow the header");
  const std::string overlap =
      R"({"s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"t":{"dtype":"F32","shape":[1],)"
      R"("data_offsets":[0,4]}})";
  CHECK(error_of(file_with(overlap, 4)) == prefix + "tensor \"t\" begins at 0 instead of 4");
  error_of(file_with(std::string(100000, '['), 0));
}

TEST_CASE("a file for another model says what differs") {
  const ParameterSpace space = space_with_gaps();
  const auto file =
      decode_safetensors(encode_safetensors(space, std::vector<float>(space.size()), {})).value();
  CHECK(values_in_space(file, ParameterSpace({{"0.bias", {3}}})).error().message ==
        "the file has 2 tensors, the model 1");
  CHECK(values_in_space(file, ParameterSpace({{"0.bias", {3}}, {"2.weight", {5, 1000}}})).error().message ==
        "the file has no tensor \"2.weight\"");
  CHECK(values_in_space(file, ParameterSpace({{"0.bias", {3}}, {"1.weight", {1000, 5}}})).error().message ==
        "tensor \"1.weight\": the file has the shape [5, 1000], the model [1000, 5]");
}

TEST_CASE("reading what is not there or no file names the path") {
  const TemporaryFolder folder;
  const auto absent = folder.path() / "absent";
  CHECK(read_safetensors(absent).error().code == ErrorCode::kNotFound);
  CHECK(read_safetensors(absent).error().message ==
        "cannot read " + absent.string() + ": No such file or directory");
  CHECK(read_safetensors(folder.path()).error().code == ErrorCode::kIo);
  const auto text = folder.write("text", "hello");
  CHECK(read_safetensors(text).error().message ==
        text.string() + ": not a safetensors file: shorter than 8 bytes");
}

}  // namespace
}  // namespace nanduti
