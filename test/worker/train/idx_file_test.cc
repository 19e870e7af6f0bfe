// Goal: an IDX file is read exactly or refused with a reason that names it. Method: files written here, good
// ones and ones with each kind of damage, plain and compressed.
#include "worker/train/idx_file.h"

#include "test/support/catch.h"
#include "test/worker/train/idx_writer.h"

using namespace nanduti;

namespace {

std::vector<std::uint8_t> counting(std::size_t count) {
  std::vector<std::uint8_t> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<std::uint8_t>(i * 7);
  return values;
}

std::vector<std::uint8_t> values_of(const IdxArray& array) {
  std::vector<std::uint8_t> values;
  for (const std::byte value : array.values.view()) values.push_back(static_cast<std::uint8_t>(value));
  return values;
}

}  // namespace

TEST_CASE("plain and gzip files of one to four dimensions are read as they were written") {
  const TemporaryFolder folder;
  const std::vector<std::vector<std::uint32_t>> shapes{{1},       {7},          {3, 5},
                                                       {2, 3, 4}, {2, 3, 4, 5}, {3000, 40, 20}};
  for (const auto& shape : shapes) {
    std::size_t count = 1;
    for (const std::uint32_t extent : shape) count *= extent;
    const auto values = counting(count);
    const std::string bytes = idx_bytes(shape, values);
    for (const auto& content : {bytes, gzipped(bytes)}) {
      const auto array = read_idx_file(folder.write("data", content));
      REQUIRE(array.ok());
      CHECK(array->dimensions == shape);
      CHECK(values_of(*array) == values);
    }
  }
}

TEST_CASE("the values stay when the file's name is gone") {
  const TemporaryFolder folder;
  const auto file = folder.write("data", idx_bytes({100}, counting(100)));
  const auto array = read_idx_file(file);
  REQUIRE(array.ok());
  std::filesystem::remove(file);
  CHECK(values_of(*array) == counting(100));
}

TEST_CASE("a damaged file is refused with a reason that names it") {
  const TemporaryFolder folder;
  const std::string good = idx_bytes({3, 4}, counting(12));
  const std::string packed = gzipped(good);
  std::string flipped = packed;
  flipped[packed.size() - 6] = static_cast<char>(flipped[packed.size() - 6] ^ 1);  // in the checksum
  const auto with_type = [&](char type) { return idx_header({12}, type) + std::string(12, 'x'); };
  struct Case {
    std::string name, bytes, message;
    ErrorCode code = ErrorCode::kCorrupt;
  };
  const std::string magic = ": an IDX file begins with 0x0000, a gzip file with 0x1f8b";
  const std::vector<Case> cases{
      {"empty", "", "is empty: it has no bytes at all"},
      {"3 bytes", good.substr(0, 3), "truncated: 3 bytes, an IDX header has at least 8"},
      {"half a header", good.substr(0, 9), "truncated: 9 bytes, its header alone has 12"},
      {"no values", good.substr(0, 12), "truncated: 0 of the 12 bytes that its header declares (3 x 4)"},
      {"a byte short", good.substr(0, 23), "truncated: 11 of the 12 bytes that its header declares (3 x 4)"},
      {"a byte long", good + "x", "holds more than the 12 bytes that its header declares (3 x 4)"},
      {"text", "hello world, this is no data", "wrong magic 0x68656c6c" + magic},
      {"png", "\x89PNG\r\n", "wrong magic 0x89504e47" + magic},
      {"floats", with_type(0x0D), "holds values of type 0x0d: only unsigned bytes (0x08) are read"},
      {"no type", with_type(0), "holds values of type 0x00: only unsigned bytes (0x08) are read"},
      {"no dimensions", idx_header({}) + "abcdefgh", "has 0 dimensions: 1 to 4 are read"},
      {"five", idx_header({1, 1, 1, 1, 1}) + "x", "has 5 dimensions: 1 to 4 are read"},
      {"zero images", idx_header({0, 28, 28}), "is empty: its dimensions are 0 x 28 x 28"},
      {"zero width", idx_header({10, 28, 0}), "is empty: its dimensions are 10 x 28 x 0"},
      {"huge", idx_header({0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}),
       "declares 4294967295 x 4294967295 x 4294967295 x 4294967295 values, above the maximum of 8589934592 "
       "bytes",
       ErrorCode::kExhausted},
      {"wraps to 0", idx_header({0x80000000, 0x80000000, 4}) + "x",
       "declares 2147483648 x 2147483648 x 4 values, above the maximum of 8589934592 bytes",
       ErrorCode::kExhausted},
      {"gz, a byte short", gzipped(good.substr(0, 23)),
       "truncated: 11 of the 12 bytes that its header declares (3 x 4)"},
      {"gz, a byte long", gzipped(good + "x"),
       "holds more than the 12 bytes that its header declares (3 x 4)"},
      {"gz, a bomb", gzipped(good + std::string(50'000'000, '\0')),
       "holds more than the 12 bytes that its header declares (3 x 4)"},
      {"gz, promises 4 GiB", gzipped(idx_header({0xFFFFFFFF}) + "x"),
       "truncated: 1 of the 4294967295 bytes that its header declares (4294967295)"},
      {"gz, huge", gzipped(idx_header({0xFFFFFFFF, 0xFFFFFFFF})),
       "declares 4294967295 x 4294967295 values, above the maximum of 8589934592 bytes",
       ErrorCode::kExhausted},
      {"gz, zero", gzipped(idx_header({0})), "is empty: its dimensions are 0"},
      {"gz, wrong magic", gzipped("hello world"), "wrong magic 0x68656c6c" + magic},
      {"gz, 2 bytes", gzipped("ab"), "truncated: 2 bytes, an IDX header has at least 8"},
      {"gz, half a header", gzipped(good.substr(0, 9)), "truncated within its IDX header"},
      {"gz, cut", packed.substr(0, packed.size() - 9), "is not a whole gzip file: it ends too early"},
      {"gz, no trailer", packed.substr(0, packed.size() - 8), "is not a whole gzip file: it ends too early"},
      {"gz, checksum", flipped, "is not a whole gzip file: its data are damaged"},
      {"gz, only its magic", packed.substr(0, 2), "is not a whole gzip file: it ends too early"},
  };
  for (const Case& damage : cases) {
    INFO(damage.name);
    const auto file = folder.write("data", damage.bytes);
    const auto array = read_idx_file(file);
    REQUIRE_FALSE(array.ok());
    CHECK(array.error().message == file.string() + ": " + damage.message);
    CHECK(array.error().code == damage.code);
  }
}

TEST_CASE("what is no readable file is refused with its name") {
  const TemporaryFolder folder;
  const auto absent = read_idx_file(folder.path() / "absent");
  REQUIRE_FALSE(absent.ok());
  CHECK(absent.error().code == ErrorCode::kNotFound);
  CHECK(absent.error().message ==
        (folder.path() / "absent").string() + ": cannot be opened: No such file or directory");
  const auto directory = read_idx_file(folder.path());
  REQUIRE_FALSE(directory.ok());
  CHECK(directory.error().message == folder.path().string() + ": is not a regular file");
}

TEST_CASE("every cut of a file, plain or gzip, is refused") {
  const TemporaryFolder folder;
  const std::string good = idx_bytes({3, 4}, counting(12));
  for (const std::string& whole : {good, gzipped(good)}) {
    for (std::size_t length = 0; length < whole.size(); ++length) {
      INFO(length << " of " << whole.size());
      CHECK_FALSE(read_idx_file(folder.write("data", whole.substr(0, length))).ok());
    }
    CHECK(read_idx_file(folder.write("data", whole)).ok());
  }
}
