#include "test/simt/fibre.h"

#include <exception>
#include <utility>

#include <boost/context/fiber.hpp>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(NANDUTI_SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace nanduti::simt {
namespace {

/// Ends a body.
struct Cancelled {};

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// Memory with a guard page below.
class Stack {
 public:
  Stack()
      : guard_(::mmap(nullptr, page_bytes() + Fibre::kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {
    NANDUTI_CHECK(guard_ != MAP_FAILED && ::mprotect(guard_, page_bytes(), PROT_NONE) == 0);
  }
  ~Stack() { ::munmap(guard_, page_bytes() + Fibre::kStackBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  [[nodiscard]] std::byte* bottom() const { return static_cast<std::byte*>(guard_) + page_bytes(); }

 private:
  void* guard_;
};

/// For Boost, which gives a stack back that is not its own.
struct BorrowedStack {
  std::byte* bottom;
  [[nodiscard]] boost::context::stack_context allocate() const {
    boost::context::stack_context context;
    context.sp = bottom + Fibre::kStackBytes;
    context.size = Fibre::kStackBytes;
    return context;
  }
  void deallocate(boost::context::stack_context&) const {}
};

}  // namespace

/// AddressSanitizer has to hear before and after each switch which stack is next, ThreadSanitizer which
/// thread.
struct Fibre::Impl {
  Stack stack;
  boost::context::fiber inside;   // where it goes on, while it is suspended
  boost::context::fiber outside;  // where resume() was called, while it runs
  std::function<void()> body;
  std::exception_ptr thrown;
  bool ended = true;
  bool begun = false;
  bool cancelled = false;
  bool last = false;  // there will be no other body
#if defined(__SANITIZE_ADDRESS__)
  void* outside_fake = nullptr;
  void* inside_fake = nullptr;
  const void* outside_bottom = nullptr;
  std::size_t outside_bytes = 0;
#endif
#if defined(NANDUTI_SIMT_TSAN)
  void* tsan_inside = __tsan_create_fiber(0);
  void* tsan_outside = nullptr;
#endif

  void go_inside() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&outside_fake, stack.bottom(), kStackBytes);
#endif
#if defined(NANDUTI_SIMT_TSAN)
    tsan_outside = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_inside, 1);
#endif
    inside = std::move(inside).resume();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(outside_fake, nullptr, nullptr);
#endif
  }
  void leave_inside() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(last ? nullptr : &inside_fake, outside_bottom, outside_bytes);
#endif
#if defined(NANDUTI_SIMT_TSAN)
    __tsan_switch_to_fiber(tsan_outside, 1);
#endif
  }
  void arrive_inside() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(inside_fake, &outside_bottom, &outside_bytes);
#endif
  }
  void go_outside() {
    leave_inside();
    outside = std::move(outside).resume();
    arrive_inside();
  }

  boost::context::fiber live(boost::context::fiber&& from) {
    outside = std::move(from);
    arrive_inside();
    while (!last) {
      try {
        body();
      } catch (const Cancelled&) {
      } catch (...) {
        thrown = std::current_exception();
      }
      body = {};
      ended = true;
      go_outside();
    }
    leave_inside();
    return std::move(outside);
  }
};

Fibre::Fibre() : impl_(std::make_unique<Impl>()) {
  impl_->inside = boost::context::fiber(
      std::allocator_arg, BorrowedStack{impl_->stack.bottom()},
      [impl = impl_.get()](boost::context::fiber&& from) { return impl->live(std::move(from)); });
}

Fibre::~Fibre() {
  cancel();
  impl_->last = true;
  impl_->go_inside();
#if defined(NANDUTI_SIMT_TSAN)
  __tsan_destroy_fiber(impl_->tsan_inside);
#endif
}

void Fibre::start(std::function<void()> body) {
  NANDUTI_CHECK(ended());
  impl_->body = std::move(body);
  impl_->ended = impl_->begun = impl_->cancelled = false;
}

void Fibre::resume() {
  NANDUTI_CHECK(!ended());
  impl_->begun = true;
  impl_->go_inside();
  if (impl_->thrown) std::rethrow_exception(std::exchange(impl_->thrown, nullptr));
}

void Fibre::suspend() {
  impl_->go_outside();
  if (impl_->cancelled) throw Cancelled();
}

void Fibre::cancel() {
  if (ended()) return;
  impl_->cancelled = true;
  if (impl_->begun)
    impl_->go_inside();
  else
    impl_->ended = true;
}

bool Fibre::ended() const { return impl_->ended; }

}  // namespace nanduti::simt
