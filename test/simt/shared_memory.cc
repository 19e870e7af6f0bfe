#include "test/simt/shared_memory.h"

#include <cstdint>
#include <cstring>

#include "test/simt/source_place.h"

namespace nanduti::simt {
namespace {

constexpr std::size_t kCanaryBytes = 16;
constexpr int kCanary = 0xA5;
constexpr std::size_t kArenaBytes = 2 * kSharedBytesMax;
constexpr std::size_t kAlignment = 64;
/// Never written, and no number that a kernel counts with: float32 NaN.
constexpr int kPoison = 0xFF;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

SharedMemory::SharedMemory()
    : bytes_(kArenaBytes + kAlignment),
      begin_(-reinterpret_cast<std::uintptr_t>(bytes_.data()) & (kAlignment - 1)) {
  clear();
}

void SharedMemory::clear() {
  std::memset(bytes_.data(), kPoison, bytes_.size());
  declarations_.clear();
  declared_ = used_ = 0;
}

void* SharedMemory::declare(const SharedLayout& layout, std::source_location at, std::string& wrong) {
  std::byte* const begin = bytes_.data() + begin_;
  for (const Declaration& known : declarations_)
    if (same_place(known.at, at) && known.type == layout.type && known.bytes == layout.bytes)
      return begin + known.offset;
  declared_ = rounded_up(declared_, layout.alignment) + layout.bytes;
  if (declared_ > kSharedBytesMax) {
    wrong = fmt::format("{} bytes of shared memory, of which a block has {}", declared_, kSharedBytesMax);
    return nullptr;
  }
  const std::size_t offset = rounded_up(used_, layout.alignment);
  used_ = offset + layout.bytes + kCanaryBytes;
  if (used_ > kArenaBytes) {
    wrong = "more arrays in shared memory than the emulator has room for";
    return nullptr;
  }
  declarations_.push_back({at, layout.type, offset, layout.bytes});
  std::memset(begin + offset + layout.bytes, kCanary, kCanaryBytes);
  return begin + offset;
}

std::string SharedMemory::overrun() const {
  const std::byte* const begin = bytes_.data() + begin_;
  for (const Declaration& declaration : declarations_) {
    const std::byte* const canary = begin + declaration.offset + declaration.bytes;
    for (std::size_t i = 0; i < kCanaryBytes; ++i)
      if (canary[i] != static_cast<std::byte>(kCanary)) return name(declaration.at);
  }
  return {};
}

bool SharedMemory::contains(const void* address) const {
  const auto* const byte = static_cast<const std::byte*>(address);
  return byte >= bytes_.data() && byte < bytes_.data() + bytes_.size();
}

}  // namespace nanduti::simt
