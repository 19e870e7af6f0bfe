// What a shard's log and snapshots cost, on a real disk: the time from a push to its acknowledgement, with
// and without a snapshot that is being written, and how long a shard takes that comes back after its process
// has ended.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/base/commit_gate.h"
#include "common/base/random.h"
#include "common/codec/block_codec.h"
#include "common/codec/coding_spec.h"
#include "server/daemon/storage_thread.h"
#include "server/shard/shard_core.h"

using namespace nanduti;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr PeerId kCoordinator{0};
constexpr PeerId kWorker{kFirstAcceptedPeer.value() + 1};
constexpr auto kPushEvery = 20ms;
constexpr std::uint64_t kSnapshots = 3;

struct Options {
  std::uint64_t parameters = 25'000'000;
  std::filesystem::path folder = std::filesystem::temp_directory_path() / "nanduti-durability-bench";
  bool json = false;
};

ShardStart start_of(std::uint64_t parameters, bool with_values) {
  BlockCodecOptions up, down;
  down.density = 0.02;
  down.value_bits = 4;
  ShardStart start;
  start.codecs = {std::make_shared<BlockCodec>(up), std::make_shared<BlockCodec>(down)};
  if (with_values) start.values.assign(parameters, 0.5f);
  start.durability = Durability::kLog;
  start.read_settings = [codecs = start.codecs](const std::string&) -> Result<ShardSettings> {
    return ShardSettings{codecs};
  };
  return start;
}

OpenShard request_of(std::uint64_t parameters) {
  return {JobId(1), "", {1'000'000, 0, 1, 1, 1, 2, 1}, ShardIndex(0), 0, parameters, 5};
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double percentile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values.at(static_cast<std::size_t>(part * static_cast<double>(values.size() - 1)));
}

/// A shard with its storage; coordinator and worker are played here.
class Bench {
 public:
  Bench(const Options& options, LogStorage storage, ShardCore core)
      : options_(options),
        core_(std::move(core)),
        storage_(
            std::move(storage),
            StorageThread::Owner{[this](std::uint64_t entries) { post(entries, {}); },
                                 [this] { post({}, SnapshotPartWritten{}); },
                                 [this](Status status) { post({}, SnapshotEnded{std::move(status)}); }}) {
    carry_out();
  }

  void begin() {
    tell(PeerConnected{kCoordinator, {}});
    tell(MessageReceived{kCoordinator, request_of(options_.parameters)});
    tell(ShardCore::ShardLoaded{JobId(1), start_of(options_.parameters, true)});
    Member member{IncarnationOrder(1), {}, MemberState::kActive, Round()};
    member.incarnation.words = {1, 1};
    tell(MessageReceived{kCoordinator, Membership{JobId(1), MembershipEpoch(1), {member}, {}}});
    tell(PeerConnected{kWorker, {}});
    const Subscribe subscribe{JobId(1), IncarnationOrder(1), member.incarnation, {}, {}, {}};
    tell(MessageReceived{kWorker, subscribe});
    RandomStream random(1);
    std::vector<float> residual(options_.parameters);
    for (float& value : residual) value = static_cast<float>(random.uniform(-1e-3, 1e-3));
    const std::unique_ptr<const Codec> codec = std::make_unique<BlockCodec>(BlockCodecOptions());
    push_.job = JobId(1);
    push_.order = IncarnationOrder(1);
    push_.epoch = MembershipEpoch(1);
    push_.lease = LeaseId(1);
    push_.coding = static_cast<std::uint8_t>(codec->coding());
    push_.payload = codec->encode(residual, {}, {}).payload;
  }

  /// Seconds from a push to its acknowledgement; the next one is due kPushEvery after it.
  double push() {
    const auto begin = Clock::now();
    acknowledged_ = false;
    tell(MessageReceived{kWorker, push_});
    push_.sequence = push_.sequence.next();
    push_.round = push_.round.next();
    while (!acknowledged_) wait(begin + 10s);
    const double seconds = seconds_since(begin);
    for (const auto end = begin + kPushEvery; Clock::now() < end;) wait(end);
    return seconds;
  }
  /// Snapshots that have begun, and that are done.
  [[nodiscard]] std::uint64_t begun() const { return begun_; }
  [[nodiscard]] std::uint64_t done() const { return core_.counters().snapshots; }
  [[nodiscard]] std::size_t push_bytes() const { return push_.payload.size(); }
  void stop() { storage_.stop(); }

 private:
  static ProtocolTime now() {
    return ProtocolTime(std::chrono::duration_cast<Duration>(Clock::now().time_since_epoch()));
  }
  void tell(const ShardCore::Event& event) {
    core_.on_event(now(), event);
    carry_out();
  }
  void post(std::optional<std::uint64_t> entries, std::optional<ShardCore::Event> event) {
    const std::lock_guard lock(mutex_);
    posted_.emplace_back(entries, std::move(event));
    changed_.notify_one();
  }
  /// Takes what the storage says, until then at most.
  void wait(Clock::time_point until) {
    std::deque<std::pair<std::optional<std::uint64_t>, std::optional<ShardCore::Event>>> posted;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_until(lock, std::min(until, Clock::now() + 1ms), [&] { return !posted_.empty(); });
      posted.swap(posted_);
    }
    for (auto& [entries, event] : posted) {
      if (entries)
        for (const ShardCore::Action& action : gate_.on_durable(*entries)) leave(action);
      if (event) tell(*event);
    }
    if (core_.next_deadline() <= now()) {
      core_.on_deadline(now());
      carry_out();
    }
  }
  void carry_out() {
    for (auto actions = core_.take_actions(); !actions.empty(); actions = core_.take_actions())
      for (const ShardCore::Action& action : actions) {
        if (const auto* append = std::get_if<AppendLog>(&action)) {
          gate_.on_appended();
          storage_.take(*append);
        } else if (const auto* snapshot = std::get_if<BeginSnapshot>(&action)) {
          ++begun_;
          storage_.take(*snapshot);
        } else if (const auto* part = std::get_if<ShardCore::SnapshotPart>(&action)) {
          storage_.take_part(part->part.index, part->part.bytes);
        } else if (gate_.pass(action)) {
          leave(action);
        }
      }
  }
  void leave(const ShardCore::Action& action) {
    const auto* send = std::get_if<SendMessage>(&action);
    if (send == nullptr) return;
    if (std::holds_alternative<PushAck>(send->message)) acknowledged_ = true;
    if (const auto* report = std::get_if<SettleReport>(&send->message))
      post({}, MessageReceived{kCoordinator, SettleConfirmed{JobId(1), report->number}});
    if (send->tag != 0) post({}, MessageAcked{send->peer, send->tag});
  }

  const Options& options_;
  ShardCore core_;
  CommitGate<ShardCore::Action> gate_;
  Push push_;
  bool acknowledged_ = false;
  std::uint64_t begun_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::optional<std::uint64_t>, std::optional<ShardCore::Event>>> posted_;
  StorageThread storage_;  // last: its thread calls the others
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      options.json = true;
    } else if (i + 1 < argc && argument == "--parameters") {
      options.parameters = std::strtoull(argv[++i], nullptr, 10);
    } else if (i + 1 < argc && argument == "--folder") {
      options.folder = argv[++i];
    } else {
      fmt::print(stderr, "usage: bench_durability [--json] [--parameters N] [--folder DIR]\n");
      return 64;
    }
  }
  options.folder /= "shard";
  std::filesystem::remove_all(options.folder);
  const ShardOptions shard;
  double snapshot_seconds = 0;
  std::vector<double> calm, busy;
  std::size_t push_bytes = 0;
  {
    Result<LogStorage> storage = LogStorage::open(options.folder);
    if (!storage.ok()) return fmt::print(stderr, "{}\n", storage.error().message), 1;
    Bench bench(options, std::move(storage).value(), ShardCore(shard, RandomStream(2)));
    bench.begin();
    // The process ends when the next one is due: no log is longer.
    while (bench.begun() <= kSnapshots) {
      const auto before = Clock::now();
      const bool is_busy = bench.begun() > bench.done();
      const double seconds = bench.push();
      (is_busy ? busy : calm).push_back(seconds);
      if (is_busy) snapshot_seconds += seconds_since(before);
    }
    push_bytes = bench.push_bytes();
  }
  const auto begin = Clock::now();
  Result<LogStorage> storage = LogStorage::open(options.folder);
  std::optional<StoredLog> stored = storage.ok() ? storage->take_stored() : std::nullopt;
  if (!stored || !stored->snapshot) return fmt::print(stderr, "there is no snapshot\n"), 1;
  const double read_seconds = seconds_since(begin);
  RecoveredShard recovered;
  recovered.start = start_of(options.parameters, false);
  recovered.entries = std::move(stored->entries);
  RecoveredShard::Snapshot& snapshot = recovered.snapshot.emplace();
  snapshot.head = stored->snapshot->head;
  for (auto& [index, bytes] : stored->snapshot->parts) snapshot.parts.push_back({index, std::move(bytes)});
  const std::size_t entries = recovered.entries.size();
  Result<ShardCore> core = ShardCore::recover(shard, RandomStream(3), std::move(recovered));
  if (!core.ok()) return fmt::print(stderr, "{}\n", core.error().message), 1;
  const double seconds = seconds_since(begin);
  const double megabytes = static_cast<double>(stored->bytes) / 1e6;
  std::filesystem::remove_all(options.folder);
  const auto ms = [](const std::vector<double>& values, double part) {
    return 1e3 * percentile(values, part);
  };
  if (options.json) {
    fmt::print(
        "{{\"parameters\": {}, \"push_bytes\": {}, \"ack_p50_ms\": {:.3f}, \"ack_p99_ms\": {:.3f}, "
        "\"pushes_within_snapshot\": {}, \"snapshot_ack_p50_ms\": {:.3f}, \"snapshot_ack_p99_ms\": {:.3f}, "
        "\"snapshot_seconds\": {:.2f}, \"read_bytes\": {}, \"log_entries\": {}, \"read_seconds\": {:.2f}, "
        "\"recovery_seconds\": {:.2f}, \"recovery_mb_per_s\": {:.0f}}}\n",
        options.parameters, push_bytes, ms(calm, 0.5), ms(calm, 0.99), busy.size(), ms(busy, 0.5),
        ms(busy, 0.99), snapshot_seconds / kSnapshots, stored->bytes, entries, read_seconds, seconds,
        megabytes / seconds);
    return 0;
  }
  fmt::print("{} parameters, pushes of {} bytes, one every {} ms, `log`\n", options.parameters, push_bytes,
             kPushEvery.count());
  fmt::print("acknowledged after         p50 {:7.2f} ms, p99 {:7.2f} ms ({} pushes)\n", ms(calm, 0.5),
             ms(calm, 0.99), calm.size());
  fmt::print(
      "while a snapshot is taken  p50 {:7.2f} ms, p99 {:7.2f} ms ({} pushes in {} snapshots of {:.2f} s)\n",
      ms(busy, 0.5), ms(busy, 0.99), busy.size(), kSnapshots, snapshot_seconds / kSnapshots);
  fmt::print("recovery: {:.2f} s ({:.2f} s of them to read {:.0f} MB), {} log entries: {:.0f} MB/s\n",
             seconds, read_seconds, megabytes, entries, megabytes / seconds);
}
