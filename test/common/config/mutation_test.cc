// Goal: no bytes crash a reader, and every failure is one line. Method: all truncations of valid files, and
// seeded byte changes; what is valid still is fine too.
#include "common/base/random.h"
#include "common/config/job_config.h"
#include "common/config/server_config.h"
#include "common/config/worker_config.h"
#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

void read_all_ways(const std::string& text) {
  const auto check = [](const auto& result) {
    if (result.ok()) return;
    const std::string& message = result.error().message;
    if (!message.starts_with("f:") || message.find('\n') != std::string::npos) FAIL(message);
  };
  check(parse_job_text(text, "f"));
  check(parse_server_config(text, "f"));
  check(parse_worker_config(text, "f"));
}

TEST_CASE("truncated and damaged files give a tree or an error of one line") {
  constexpr std::uint64_t kSeed = 20240607;
  constexpr int kChangesPerFile = 1500;
  constexpr std::string_view kPunctuation = "{}[]:,-#\"'&*!|>%@`?~\t\n ";
  INFO("seed " << kSeed);
  RandomStream random(kSeed);
  for (const char* name : {"server.yaml", "worker.yaml", "jobs/fashion_lenet.yaml"}) {
    const std::string valid = read_whole_file(std::string(NANDUTI_SOURCE_DIR "/configs/") + name);
    for (std::size_t size = 0; size < valid.size(); ++size) read_all_ways(valid.substr(0, size));
    for (int i = 0; i < kChangesPerFile; ++i) {
      std::string text = valid;
      for (std::uint64_t change = 0; change <= random.below(4); ++change) {
        char& byte = text[random.below(text.size())];
        byte = random.chance(0.5) ? static_cast<char>(random.below(256))
                                  : kPunctuation[random.below(kPunctuation.size())];
      }
      read_all_ways(text);
    }
  }
}

TEST_CASE("punctuation in any order gives a tree or an error of one line") {
  constexpr std::uint64_t kSeed = 7;
  INFO("seed " << kSeed);
  constexpr std::string_view kPieces[] = {"{",  "}",  "[", "]", ": ",  ", ",  "- ", "? ",
                                          "\n", "  ", "a", "1", "\"",  "'",   "&",  "*",
                                          "!",  "|",  ">", "#", "---", "...", "%",  ":"};
  RandomStream random(kSeed);
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    const std::uint64_t pieces = 1 + random.below(24);
    for (std::uint64_t piece = 0; piece < pieces; ++piece) text += kPieces[random.below(std::size(kPieces))];
    read_all_ways(text);
  }
}

}  // namespace
}  // namespace nanduti
