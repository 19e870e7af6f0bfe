// Goal: a job opens regular files below a data root and nothing else. Method: a folder with links and
// escapes.
#include "common/config/data_files.h"

#include <sys/stat.h>

#include "test/support/catch.h"
#include "test/support/temporary_folder.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;

struct Folders {
  Folders() {
    first = folder.write("first/shared", "1").parent_path();
    folder.write("first/sub/only_first", "1");
    second = folder.write("second/shared", "2").parent_path();
    folder.write("second/only_second", "2");
    secret = folder.write("secret", "s");
    folder.write("first-neighbour/file", "n");
    fs::create_symlink(secret, first / "link_out");
    fs::create_symlink(folder.path(), first / "folder_out");
    fs::create_symlink("sub/only_first", first / "link_in");
    fs::create_symlink("loop", first / "loop");
    ::mkfifo((first / "pipe").c_str(), 0600);
    roots = {first, second};
  }
  [[nodiscard]] Error error_of(std::string_view file) const {
    const auto found = resolve_data_file(roots, file);
    REQUIRE_FALSE(found.ok());
    return found.error();
  }

  TemporaryFolder folder;
  fs::path first, second, secret;
  std::vector<fs::path> roots;
};

TEST_CASE("files below a root are found, in the first root that has them") {
  const Folders f;
  CHECK(resolve_data_file(f.roots, "shared").value() == f.first / "shared");
  CHECK(resolve_data_file(f.roots, "only_second").value() == f.second / "only_second");
  CHECK(resolve_data_file(f.roots, "sub/../sub/only_first").value() == f.first / "sub/only_first");
  CHECK(resolve_data_file(f.roots, "link_in").value() == f.first / "sub/only_first");
  CHECK(resolve_data_file(f.roots, (f.second / "shared").string()).value() == f.second / "shared");
  const std::vector<fs::path> with_slash{f.first / ""};
  CHECK(resolve_data_file(with_slash, "shared").value() == f.first / "shared");
}

TEST_CASE("nothing outside the roots is opened, and whether it exists is not told") {
  const Folders f;
  for (const std::string& file :
       {std::string("../secret"), std::string("../absent"), f.secret.string(), std::string("/etc/absent"),
        std::string("link_out"), std::string("folder_out/secret"), std::string("folder_out/absent"),
        std::string("../first-neighbour/file"), (f.first / "../secret").string()}) {
    INFO(file);
    CHECK(f.error_of(file).code == ErrorCode::kRefused);
    CHECK(f.error_of(file).message == "\"" + file + "\" does not lie below the data roots " +
                                          f.first.string() + ", " + f.second.string());
  }
}

TEST_CASE("folders, pipes and names that are none are refused; the absent is not found") {
  const Folders f;
  const std::string roots = f.first.string() + ", " + f.second.string();
  CHECK(f.error_of("sub").message == "\"sub\" is not a regular file (the data roots " + roots + ")");
  CHECK(f.error_of("pipe").code == ErrorCode::kRefused);
  CHECK(f.error_of("").code == ErrorCode::kRefused);
  CHECK(f.error_of(".").code == ErrorCode::kRefused);
  CHECK(f.error_of("loop").code == ErrorCode::kRefused);
  CHECK(f.error_of(std::string_view("shared\0x", 8)).code == ErrorCode::kRefused);
  CHECK(f.error_of(std::string(5000, 'x')).code == ErrorCode::kRefused);
  CHECK(f.error_of("absent").code == ErrorCode::kNotFound);
  CHECK(f.error_of("absent").message == "there is no \"absent\" below the data roots " + roots);
  CHECK(resolve_data_file({}, "shared").error().message == "\"shared\" does not lie below no data roots");
}

}  // namespace
}  // namespace nanduti
