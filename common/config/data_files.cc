#include "common/config/data_files.h"

#include <algorithm>
#include <string>
#include <system_error>
#include <vector>

#include "common/config/text_check.h"

namespace nanduti {
namespace {

namespace fs = std::filesystem;

/// Both with symbolic links followed. A folder is not below itself.
bool lies_below(const fs::path& path, const fs::path& folder) {
  const auto [folder_rest, path_rest] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return folder_rest == folder.end() && path_rest != path.end();
}

std::string list(std::span<const fs::path> roots) {
  if (roots.empty()) return "no data roots";
  std::string text = "the data roots ";
  for (const fs::path& root : roots) text += (&root == roots.data() ? "" : ", ") + root.string();
  return text;
}

class Search {
 public:
  explicit Search(std::span<const fs::path> roots) {
    for (const fs::path& root : roots) {
      std::error_code error;
      fs::path real_root = fs::canonical(root, error);
      if (!error) real_roots_.push_back(std::move(real_root));
    }
  }

  /// True if `candidate` may be opened: then `found` is its real path.
  bool look_at(const fs::path& candidate) {
    std::error_code error;
    fs::path path = fs::weakly_canonical(candidate, error);
    // Whether there is something outside the roots is not told either.
    if (error || std::none_of(real_roots_.begin(), real_roots_.end(),
                              [&](const fs::path& root) { return lies_below(path, root); })) {
      is_outside = true;
      return false;
    }
    const auto type = fs::status(path, error).type();
    if (type == fs::file_type::not_found) return false;
    if (type != fs::file_type::regular) {
      is_no_file = true;
      return false;
    }
    found = std::move(path);
    return true;
  }

  fs::path found;
  bool is_outside = false;
  bool is_no_file = false;

 private:
  std::vector<fs::path> real_roots_;
};

}  // namespace

Result<fs::path> resolve_data_file(std::span<const fs::path> roots, std::string_view file) {
  constexpr std::size_t kFileBytesMax = 4096;
  if (file.empty() || file.size() > kFileBytesMax || file.find('\0') != std::string_view::npos) {
    return make_error(ErrorCode::kRefused, "{} is not a file's path", in_quotes(file));
  }
  Search search(roots);
  const fs::path path(file);
  if (path.is_absolute()) {
    if (search.look_at(path)) return search.found;
  } else {
    for (const fs::path& root : roots) {
      if (search.look_at(root / path)) return search.found;
    }
  }
  const std::string places = list(roots);
  if (search.is_no_file) {
    return make_error(ErrorCode::kRefused, "{} is not a regular file ({})", in_quotes(file), places);
  }
  if (search.is_outside || roots.empty()) {
    return make_error(ErrorCode::kRefused, "{} does not lie below {}", in_quotes(file), places);
  }
  return make_error(ErrorCode::kNotFound, "there is no {} below {}", in_quotes(file), places);
}

}  // namespace nanduti
