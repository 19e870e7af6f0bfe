#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/durability.h"
#include "common/base/result.h"

/// What a core asks of its storage: actions, done in the order in which they come, and the events that
/// complete them.
namespace nanduti {

/// Slow work: one entry for the log. What comes after it among the actions, of this event and later ones,
/// must not leave before it is durable (CommitGate).
struct AppendLog {
  std::vector<SharedBytes> pieces;
  std::optional<Durability> begins;  ///< a log, of which this is wanted: what was in its place goes
};
/// The log and its snapshots go.
struct DropLog {};
/// Slow work: a snapshot of what the log's entries so far have made, in so many parts to come.
struct BeginSnapshot {
  SharedBytes head;
  std::uint64_t parts = 0;
};

/// Completes one part of a snapshot.
struct SnapshotPartWritten {};
/// Completes BeginSnapshot: all parts are written and the snapshot is in its place, or it could not be.
struct SnapshotEnded {
  Status status;
};

}  // namespace nanduti
