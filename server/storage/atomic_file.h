#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include <sys/types.h>

#include "common/base/result.h"

namespace nanduti {

/// Of files that others may read.
inline constexpr mode_t kFileMode = 0644;

/// What a file is called that is being written: the target's name, and this behind it. A crash may leave one.
inline constexpr std::string_view kTemporarySuffix = ".nanduti-tmp";

/// Replaces or creates `path` with the pieces one after the other: written beside it, synced, renamed, and
/// the folder synced. Whoever looks sees the old file or the whole new one, also after a crash or a power
/// cut. On an error the old file stays and the temporary one is removed. One writer of a path at a time.
/// Errors: kIo, with the path and the system's words.
Status write_file_atomically(const std::filesystem::path& path,
                             std::span<const std::span<const std::byte>> pieces);
Status write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// Makes what was created, renamed or removed in `folder` last through a power cut. Errors: kIo.
Status sync_folder(const std::filesystem::path& folder);

}  // namespace nanduti
