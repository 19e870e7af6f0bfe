#include "test/fakecuda/module/hooks.h"

#include "test/fakecuda/fake_device.h"

void nanduti_fakecuda_fail_call(const char* function, std::uint64_t nth, int error) {
  nanduti::fakecuda::fail_call(function, nth, static_cast<cudaError_t>(error));
}

std::uint64_t nanduti_fakecuda_leaks() { return nanduti::fakecuda::leaks().size(); }
