#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nanduti::fakecuda {

/// Memory as a device's is: to the host its addresses are no memory, except while the device works. An
/// allocation begins as all ones (NaN), ends at a page's end, up to 15 bytes, and is followed by a page that
/// nobody may touch; its addresses are not given again for long. Whoever touches it from the host ends the
/// process, with what it touched on stderr. One thread; one object in a process.
class DeviceMemory {
 public:
  /// Addresses, not memory.
  static constexpr std::size_t kArenaBytes = std::size_t{256} << 30;

  DeviceMemory();
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Null if there is no room, or for 0 bytes. Aligned to 16 bytes.
  void* allocate(std::size_t bytes);
  /// False if nothing that is allocated begins there.
  bool release(void* begin);

  /// For the time that the device works: its memory can be touched.
  class Opened {
   public:
    explicit Opened(DeviceMemory& memory) : memory_(memory) { memory_.open(); }
    ~Opened() { memory_.close(); }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

   private:
    DeviceMemory& memory_;
  };

  /// What is wrong with touching [address, address + bytes) from the device; empty: nothing.
  [[nodiscard]] std::string check(const void* address, std::size_t bytes) const;
  /// Whether the address is one of the device's, allocated or not.
  [[nodiscard]] bool is_device_address(const void* address) const;
  /// For people: what the address is, "byte 3 of an allocation of 16 bytes".
  [[nodiscard]] std::string describe(const void* address) const;
  /// Sizes of what is allocated, in the order of allocation.
  [[nodiscard]] std::vector<std::size_t> allocated() const;

 private:
  struct Allocation {
    std::size_t bytes = 0;
    std::byte* pages = nullptr;  // around it
    std::size_t page_bytes = 0;
    std::uint64_t number = 0;
  };
  void open();
  void close();
  void protect(const Allocation& allocation, bool accessible) const;
  /// The allocation that begins at or before the address; null: none.
  [[nodiscard]] const std::pair<std::byte* const, Allocation>* before(const void* address) const;

  std::byte* arena_;
  std::size_t used_ = 0;
  std::uint64_t next_number_ = 1;
  int open_ = 0;
  std::map<std::byte*, Allocation> allocations_;  // by where they begin
};

}  // namespace nanduti::fakecuda
