#include "test/fakecuda/device_memory.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/check.h"

namespace nanduti::fakecuda {
namespace {

constexpr std::size_t kAlignment = 16;
constexpr std::size_t kPageBytes = 4096;
constexpr int kPoison = 0xFF;
/// Slack behind an allocation whose size is no multiple of the alignment.
constexpr int kCanary = 0xA5;

const DeviceMemory* watched = nullptr;
struct sigaction handler_before;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

void on_fault(int signal, siginfo_t* info, void* context) {
  if (watched != nullptr && watched->is_device_address(info->si_addr)) {
    const std::string text =
        fmt::format("the host touched device memory: {}\n", watched->describe(info->si_addr));
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
    ::_exit(139);
  }
  if ((handler_before.sa_flags & SA_SIGINFO) != 0 && handler_before.sa_sigaction != nullptr)
    return handler_before.sa_sigaction(signal, info, context);
  if ((handler_before.sa_flags & SA_SIGINFO) == 0 && handler_before.sa_handler != SIG_DFL &&
      handler_before.sa_handler != SIG_IGN)
    return handler_before.sa_handler(signal);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

DeviceMemory::DeviceMemory()
    : arena_(static_cast<std::byte*>(
          ::mmap(nullptr, kArenaBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
  NANDUTI_CHECK(static_cast<void*>(arena_) != MAP_FAILED && watched == nullptr);
  watched = this;
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  NANDUTI_CHECK(::sigaction(SIGSEGV, &action, &handler_before) == 0);
}

DeviceMemory::~DeviceMemory() {
  ::sigaction(SIGSEGV, &handler_before, nullptr);
  watched = nullptr;
  ::munmap(arena_, kArenaBytes);
}

void* DeviceMemory::allocate(std::size_t bytes) {
  Allocation allocation;
  allocation.bytes = bytes;
  if (allocations_.empty() && used_ > kArenaBytes / 2) used_ = 0;
  if (bytes == 0 || bytes > kArenaBytes / 2) return nullptr;
  const std::size_t data_bytes = rounded_up(bytes, kAlignment);
  allocation.page_bytes = rounded_up(data_bytes, kPageBytes);
  if (used_ + allocation.page_bytes + kPageBytes > kArenaBytes) return nullptr;
  allocation.pages = arena_ + used_;
  used_ += allocation.page_bytes + kPageBytes;
  allocation.number = next_number_++;
  protect(allocation, true);
  std::memset(allocation.pages, kPoison, allocation.page_bytes);
  std::byte* const begin = allocation.pages + allocation.page_bytes - data_bytes;
  std::memset(begin + bytes, kCanary, data_bytes - bytes);
  protect(allocation, open_ > 0);
  allocations_.emplace(begin, allocation);
  return begin;
}

bool DeviceMemory::release(void* begin) {
  const auto found = allocations_.find(static_cast<std::byte*>(begin));
  if (found == allocations_.end()) return false;
  const Allocation& allocation = found->second;
  protect(allocation, true);
  const std::byte* const end = allocation.pages + allocation.page_bytes;
  for (const std::byte* at = found->first + allocation.bytes; at < end; ++at)
    NANDUTI_CHECK(*at == static_cast<std::byte>(kCanary), "something was written behind {}", describe(begin));
  ::madvise(allocation.pages, allocation.page_bytes, MADV_DONTNEED);
  protect(allocation, false);
  allocations_.erase(found);
  return true;
}

void DeviceMemory::protect(const Allocation& allocation, bool accessible) const {
  NANDUTI_CHECK(::mprotect(allocation.pages, allocation.page_bytes,
                           accessible ? PROT_READ | PROT_WRITE : PROT_NONE) == 0);
}

void DeviceMemory::open() {
  if (open_++ > 0) return;
  for (const auto& [begin, allocation] : allocations_) protect(allocation, true);
}

void DeviceMemory::close() {
  if (--open_ > 0) return;
  for (const auto& [begin, allocation] : allocations_) protect(allocation, false);
}

const std::pair<std::byte* const, DeviceMemory::Allocation>* DeviceMemory::before(const void* address) const {
  auto after = allocations_.upper_bound(static_cast<std::byte*>(const_cast<void*>(address)));
  if (after == allocations_.begin()) return nullptr;
  return &*std::prev(after);
}

std::string DeviceMemory::check(const void* address, std::size_t bytes) const {
  const auto* const found = before(address);
  if (found != nullptr) {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(address) - found->first);
    if (offset <= found->second.bytes && bytes <= found->second.bytes - offset) return {};
  }
  return fmt::format("an access of {} bytes to {}", bytes, describe(address));
}

bool DeviceMemory::is_device_address(const void* address) const {
  const auto* const byte = static_cast<const std::byte*>(address);
  return byte >= arena_ && byte < arena_ + kArenaBytes;
}

std::string DeviceMemory::describe(const void* address) const {
  if (!is_device_address(address)) return "memory of the host";
  const auto* const found = before(address);
  const auto* const byte = static_cast<const std::byte*>(address);
  if (found == nullptr || byte >= found->second.pages + found->second.page_bytes + kPageBytes)
    return "device memory that is not allocated";
  const auto& [begin, allocation] = *found;
  const auto offset = static_cast<std::size_t>(byte - begin);
  if (offset < allocation.bytes)
    return fmt::format("byte {} of allocation {} of {} bytes", offset, allocation.number, allocation.bytes);
  return fmt::format("{} bytes behind the end of allocation {} of {} bytes", offset - allocation.bytes,
                     allocation.number, allocation.bytes);
}

std::vector<std::size_t> DeviceMemory::allocated() const {
  std::vector<std::size_t> sizes;
  for (const auto& [begin, allocation] : allocations_) sizes.push_back(allocation.bytes);
  return sizes;
}

}  // namespace nanduti::fakecuda
