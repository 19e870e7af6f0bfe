#include "test/simt/grid.h"

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/random.h"
#include "test/simt/fibre.h"
#include "test/simt/shared_memory.h"
#include "test/simt/source_place.h"
#include "test/simt/tsan_order.h"

namespace nanduti::simt {
namespace {

std::string text_of(const uint3& index) { return fmt::format("({}, {}, {})", index.x, index.y, index.z); }

std::uint64_t volume(const dim3& shape) { return std::uint64_t{shape.x} * shape.y * shape.z; }

uint3 index_in(const dim3& shape, std::uint64_t number) {
  return {static_cast<unsigned>(number % shape.x), static_cast<unsigned>(number / shape.x % shape.y),
          static_cast<unsigned>(number / shape.x / shape.y)};
}

/// What a thread waits for, with others that wait for the same.
struct Waiting {
  bool whole_block = false;  // else lanes of its warp:
  WarpOperation operation = WarpOperation::kSynchronise;
  unsigned mask = 0;
  std::source_location at;
  std::uint64_t value = 0;
  unsigned argument = 0;
};

struct Thread {
  Place place;
  Fibre* fibre = nullptr;
  std::optional<Waiting> waiting;
  std::uint64_t result = 0;
};

/// One block after the other, on the same fibres.
class Device {
 public:
  Device(const std::string& kernel, const LaunchShape& shape, const RunOptions& options,
         const std::function<void()>& body);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Result<Traffic> run();

  /// For the time that a thread of the grid does our work.
  class Inside {
   public:
    explicit Inside(Device& device) : own_(device.tsan_.enter_host()) {}
    ~Inside() { TsanOrder::leave_host(own_); }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    void* own_;
  };

  // For the thread that runs.
  [[nodiscard]] const Place& place() const { return threads_[current_].place; }
  [[nodiscard]] unsigned lane() const { return static_cast<unsigned>(current_ % kWarpSize); }
  [[noreturn]] void fail(const std::string& what, std::source_location at);
  void synchronise_block(std::source_location at);
  std::uint64_t operate_in_warp(Waiting waiting);
  void* shared_memory(const SharedLayout& layout, std::source_location at);
  void on_host(const std::function<void()>& action);
  void before_shared_access();
  void before_atomic(const void* address, std::size_t bytes, std::source_location at);
  void before_global_access(const void* address, std::size_t bytes, bool stores, std::source_location at);

 private:
  void begin_block(std::uint64_t number);
  void run_block();
  [[nodiscard]] std::size_t choose();
  void make_ready(std::size_t thread);
  void wait(Waiting waiting);
  void arrived_at_barrier();
  [[nodiscard]] std::string check_mask(const Waiting& waiting) const;
  void arrived_in_warp(std::size_t warp);
  void release(const std::vector<std::size_t>& threads);
  void end_thread();
  [[nodiscard]] std::string deadlock() const;
  void note_fault_here(const std::string& what, std::source_location at);
  void stop_if_failed();
  void note_fault(std::string what) {
    if (!fault_) fault_ = std::move(what);
  }

  std::string kernel_;
  LaunchShape shape_;
  RandomStream random_;
  Schedule schedule_;
  const std::function<void()>& body_;
  std::vector<std::unique_ptr<Fibre>> fibres_;
  std::vector<Thread> threads_;
  std::vector<std::size_t> ready_;  // threads that may run; sorted but for kRandom
  std::size_t current_ = 0;
  std::size_t ended_ = 0;
  std::size_t at_barrier_ = 0;
  SharedMemory shared_;
  Traffic traffic_;
  std::optional<std::string> fault_;
  TsanOrder tsan_;
};

thread_local Device* running = nullptr;
/// Those that no grid uses: to make one takes three calls of the system, and a small grid is done in less.
thread_local std::vector<std::unique_ptr<Fibre>> idle_fibres;
/// Never destroyed: a device of a test may outlive any static object.
MemoryCheck& memory_check() {
  static auto* const check = new MemoryCheck();
  return *check;
}

Device& device() {
  NANDUTI_CHECK(running != nullptr, "this is for threads of a grid that runs");
  return *running;
}

Device::Device(const std::string& kernel, const LaunchShape& shape, const RunOptions& options,
               const std::function<void()>& body)
    : kernel_(kernel),
      shape_(shape),
      random_(options.seed),
      schedule_(options.schedule),
      body_(body),
      threads_(volume(shape.block)) {
  while (fibres_.size() < threads_.size()) {
    if (idle_fibres.empty()) {
      fibres_.push_back(std::make_unique<Fibre>());
    } else {
      fibres_.push_back(std::move(idle_fibres.back()));
      idle_fibres.pop_back();
    }
  }
  tsan_.begin_grid(threads_.size());
}

Device::~Device() {
  for (std::unique_ptr<Fibre>& fibre : fibres_) {
    fibre->cancel();
    idle_fibres.push_back(std::move(fibre));
  }
}

Result<Traffic> Device::run() {
  const std::uint64_t blocks = volume(shape_.grid);
  std::vector<std::uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule_ == Schedule::kReverse) std::reverse(order.begin(), order.end());
  if (schedule_ == Schedule::kRandom)
    for (std::size_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
  for (const std::uint32_t number : order) {
    begin_block(number);
    run_block();
    if (fault_) return make_error(ErrorCode::kRefused, "kernel {}: {}", kernel_, *fault_);
  }
  return traffic_;
}

void Device::begin_block(std::uint64_t number) {
  shared_.clear();
  ended_ = at_barrier_ = 0;
  ready_.clear();
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    Thread& thread = threads_[i];
    thread.place = {index_in(shape_.block, i), index_in(shape_.grid, number), shape_.block, shape_.grid};
    thread.waiting.reset();
    thread.fibre = fibres_[i].get();
    thread.fibre->start([this] {
      tsan_.begin_thread();
      body_();
      tsan_.end_thread();
      const Inside inside(*this);
      end_thread();
    });
    ready_.push_back(i);
  }
  tsan_.begin_block();
}

void Device::run_block() {
  while (ended_ < threads_.size() && !fault_) {
    if (ready_.empty()) {
      note_fault(deadlock());
      break;
    }
    current_ = choose();
    try {
      threads_[current_].fibre->resume();
    } catch (...) {
      for (Thread& thread : threads_) thread.fibre->cancel();
      throw;
    }
  }
  for (Thread& thread : threads_) thread.fibre->cancel();
  tsan_.end_block();
  const std::string overrun = shared_.overrun();
  if (!fault_ && !overrun.empty())
    note_fault(fmt::format("block {} has written behind the shared memory of {}",
                           text_of(threads_[0].place.block_index), overrun));
}

/// Takes it out of those that may run.
std::size_t Device::choose() {
  std::size_t at = 0;
  if (schedule_ == Schedule::kReverse) at = ready_.size() - 1;
  if (schedule_ == Schedule::kRandom) {
    at = random_.below(ready_.size());
    std::swap(ready_[at], ready_.back());
    at = ready_.size() - 1;
  }
  const std::size_t thread = ready_[at];
  ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(at));
  return thread;
}

void Device::make_ready(std::size_t thread) {
  if (schedule_ == Schedule::kRandom)
    ready_.push_back(thread);
  else
    ready_.insert(std::lower_bound(ready_.begin(), ready_.end(), thread), thread);
}

void Device::fail(const std::string& what, std::source_location at) {
  {
    const Inside inside(*this);
    note_fault_here(what, at);
    tsan_.done_on_host();
  }
  stop_if_failed();
  std::abort();
}

void Device::note_fault_here(const std::string& what, std::source_location at) {
  note_fault(fmt::format("{}: {}, by thread {} of block {}", name(at), what, text_of(place().thread_index),
                         text_of(place().block_index)));
}

/// For the thread that runs; from outside of Inside.
void Device::stop_if_failed() {
  if (!fault_) return;
  tsan_.heard_of_host();
  threads_[current_].fibre->suspend();  // it is cancelled
}

// ---- waiting for each other ----

/// Also who comes last stops here: others are then as likely to be first.
void Device::wait(Waiting waiting) {
  Thread& thread = threads_[current_];
  const std::size_t group = waiting.whole_block ? 0 : 1 + current_ / kWarpSize;
  tsan_.arrive(group);
  {
    const Inside inside(*this);
    thread.waiting = waiting;
    if (waiting.whole_block) {
      ++at_barrier_;
      arrived_at_barrier();
    } else {
      arrived_in_warp(current_ / kWarpSize);
    }
  }
  thread.fibre->suspend();
  tsan_.leave(group);
}

void Device::synchronise_block(std::source_location at) {
  Waiting waiting;
  waiting.whole_block = true;
  waiting.at = at;
  wait(waiting);
}

/// A barrier of CUDA counts threads, wherever they are in the code; that they are in different places works
/// by chance only, and is an error here.
void Device::arrived_at_barrier() {
  if (at_barrier_ == 0 || at_barrier_ + ended_ < threads_.size()) return;
  std::vector<std::size_t> all;
  std::optional<std::source_location> place;
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    if (!threads_[i].waiting) continue;
    const std::source_location at = threads_[i].waiting->at;
    if (place && !same_place(*place, at))
      return note_fault(
          fmt::format("threads of a block wait at different barriers, {} and {}", name(*place), name(at)));
    place = at;
    all.push_back(i);
  }
  if (ended_ > 0)
    return note_fault(fmt::format("{} of {} threads have ended without the barrier at {}", ended_,
                                  threads_.size(), name(*place)));
  at_barrier_ = 0;
  release(all);
}

std::uint64_t Device::operate_in_warp(Waiting waiting) {
  {
    const Inside inside(*this);
    const std::string wrong = check_mask(waiting);
    if (!wrong.empty()) note_fault_here(wrong, waiting.at);
  }
  stop_if_failed();
  const std::size_t self = current_;
  wait(waiting);
  return threads_[self].result;
}

/// What is wrong with it; empty: nothing.
std::string Device::check_mask(const Waiting& waiting) const {
  const std::size_t first = current_ - lane();
  if ((waiting.mask >> lane() & 1) == 0) return "a lane that is not in its own mask";
  for (unsigned i = 0; i < kWarpSize; ++i) {
    if ((waiting.mask >> i & 1) == 0) continue;
    if (first + i >= threads_.size())
      return fmt::format("the mask names lane {}, which the block does not have", i);
    if (threads_[first + i].fibre->ended()) return fmt::format("the mask names lane {}, which has ended", i);
  }
  if (waiting.operation == WarpOperation::kShuffle && (waiting.mask >> waiting.argument & 1) == 0)
    return fmt::format("the value of lane {} is asked for, which is not in the mask", waiting.argument);
  return {};
}

void Device::arrived_in_warp(std::size_t warp) {
  const Waiting& of = *threads_[current_].waiting;
  std::vector<std::size_t> lanes;
  for (unsigned i = 0; i < kWarpSize; ++i) {
    if ((of.mask >> i & 1) == 0) continue;
    const Thread& other = threads_[warp * kWarpSize + i];
    if (!other.waiting || other.waiting->whole_block || other.waiting->mask != of.mask) return;
    if (!same_place(other.waiting->at, of.at) || other.waiting->operation != of.operation)
      return note_fault(fmt::format("lanes of a warp wait for each other in different places, {} and {}",
                                    name(of.at), name(other.waiting->at)));
    lanes.push_back(warp * kWarpSize + i);
  }
  unsigned ballot = 0, bits = 0;
  std::uint32_t sum = 0, maximum = 0;
  for (const std::size_t thread : lanes) {
    const std::uint64_t value = threads_[thread].waiting->value;
    if (value != 0) ballot |= 1u << (thread % kWarpSize);
    sum += static_cast<std::uint32_t>(value);
    maximum = std::max(maximum, static_cast<std::uint32_t>(value));
    bits |= static_cast<unsigned>(value);
  }
  for (const std::size_t thread : lanes) {
    Thread& to = threads_[thread];
    switch (of.operation) {
      case WarpOperation::kSynchronise:
        break;
      case WarpOperation::kShuffle:
        to.result = threads_[warp * kWarpSize + to.waiting->argument].waiting->value;
        break;
      case WarpOperation::kBallot:
        to.result = ballot;
        break;
      case WarpOperation::kSum:
        to.result = sum;
        break;
      case WarpOperation::kMaximum:
        to.result = maximum;
        break;
      case WarpOperation::kOr:
        to.result = bits;
        break;
    }
  }
  release(lanes);
}

void Device::release(const std::vector<std::size_t>& threads) {
  for (const std::size_t thread : threads) {
    threads_[thread].waiting.reset();
    make_ready(thread);
  }
}

void Device::end_thread() {
  ++ended_;
  arrived_at_barrier();
}

/// Who waits where.
std::string Device::deadlock() const {
  std::map<std::tuple<std::string, bool, unsigned>, std::size_t> places;
  for (const Thread& thread : threads_)
    if (thread.waiting)
      ++places[{name(thread.waiting->at), thread.waiting->whole_block, thread.waiting->mask}];
  std::string text = fmt::format("deadlock in block {}: ", text_of(threads_[0].place.block_index));
  for (const auto& [key, count] : places) {
    const auto& [at, whole_block, mask] = key;
    text += whole_block ? fmt::format("{} threads wait at the barrier {}; ", count, at)
                        : fmt::format("{} wait for the lanes {:#x} at {}; ", count, mask, at);
  }
  return text + fmt::format("{} have ended", ended_);
}

// ---- memory ----

void* Device::shared_memory(const SharedLayout& layout, std::source_location at) {
  void* place = nullptr;
  {
    const Inside inside(*this);
    std::string wrong;
    place = shared_.declare(layout, at, wrong);
    if (!wrong.empty()) note_fault_here(wrong, at);
  }
  stop_if_failed();
  return place;
}

void Device::on_host(const std::function<void()>& action) {
  {
    const Inside inside(*this);
    action();
    tsan_.done_on_host();
  }
  tsan_.heard_of_host();
}

void Device::before_shared_access() {
  if (schedule_ != Schedule::kRandom) return;
  bool stops = false;
  {
    const Inside inside(*this);
    stops = random_.chance(1.0 / 16);
    if (stops) make_ready(current_);
  }
  if (stops) threads_[current_].fibre->suspend();
}

void Device::before_atomic(const void* address, std::size_t bytes, std::source_location at) {
  if (shared_.contains(address)) return before_shared_access();
  before_global_access(address, bytes, false, at);
  before_global_access(address, bytes, true, at);
}

void Device::before_global_access(const void* address, std::size_t bytes, bool stores,
                                  std::source_location at) {
  {
    const Inside inside(*this);
    (stores ? traffic_.stored_bytes : traffic_.loaded_bytes) += bytes;
    const std::size_t alignment = std::min<std::size_t>(bytes, 16);
    std::string wrong;
    if (std::has_single_bit(bytes) && reinterpret_cast<std::uintptr_t>(address) % alignment != 0)
      wrong = fmt::format("an access of {} bytes that is not aligned to them", bytes);
    else if (memory_check())
      wrong = memory_check()(address, bytes);
    if (!wrong.empty()) note_fault_here(wrong, at);
  }
  stop_if_failed();
}

}  // namespace

Result<Traffic> run_grid(const std::string& kernel, const LaunchShape& shape, const RunOptions& options,
                         const std::function<void()>& thread) {
  const auto wrong = [&](const std::string& what) {
    return make_error(ErrorCode::kInvalidArgument, "kernel {}: {}", kernel, what);
  };
  const std::uint64_t threads = volume(shape.block);
  if (threads == 0 || threads > kBlockThreadsMax || shape.block.z > 64)
    return wrong(fmt::format("a block of {} x {} x {} threads", shape.block.x, shape.block.y, shape.block.z));
  if (volume(shape.grid) == 0 || shape.grid.x > 0x7FFFFFFFu || shape.grid.y > 65535 || shape.grid.z > 65535)
    return wrong(fmt::format("a grid of {} x {} x {} blocks", shape.grid.x, shape.grid.y, shape.grid.z));
  NANDUTI_CHECK(running == nullptr, "a kernel that launches a kernel");
  struct Running {
    explicit Running(Device* device) { running = device; }
    ~Running() { running = nullptr; }
  };
  Device device(kernel, shape, options, thread);
  const Running until_the_end(&device);
  return device.run();
}

const Place& place() { return device().place(); }
unsigned lane() { return device().lane(); }
void fail(const std::string& what, std::source_location at) { device().fail(what, at); }
void synchronise_block(std::source_location at) { device().synchronise_block(at); }
std::uint64_t operate_in_warp(WarpOperation operation, unsigned mask, std::uint64_t value, unsigned argument,
                              std::source_location at) {
  return device().operate_in_warp({false, operation, mask, at, value, argument});
}
void* shared_memory(const SharedLayout& layout, std::source_location at) {
  return device().shared_memory(layout, at);
}
void before_shared_access() { device().before_shared_access(); }
void on_host(const std::function<void()>& action) { device().on_host(action); }
void before_atomic(const void* address, std::size_t bytes, std::source_location at) {
  device().before_atomic(address, bytes, at);
}
void set_memory_check(MemoryCheck check) { memory_check() = std::move(check); }
void before_global_access(const void* address, std::size_t bytes, bool stores, std::source_location at) {
  device().before_global_access(address, bytes, stores, at);
}

}  // namespace nanduti::simt
