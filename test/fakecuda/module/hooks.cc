#include "test/fakecuda/module/hooks.h"

#include "test/fakecuda/fake_device.h"

using namespace nanduti;

void nanduti_fakecuda_fail_call(const char* function, std::uint64_t nth, int error) {
  fakecuda::fail_call(function, nth, static_cast<cudaError_t>(error));
}

bool nanduti_fakecuda_has_failures_left() { return fakecuda::has_failures_left(); }

void nanduti_fakecuda_reset() { fakecuda::reset(); }

std::uint64_t nanduti_fakecuda_to_device() { return fakecuda::crossed().to_device; }
std::uint64_t nanduti_fakecuda_to_host() { return fakecuda::crossed().to_host; }

std::uint64_t nanduti_fakecuda_leaks() { return fakecuda::leaks().size(); }
