#include "test/fakecuda/module/hooks.h"

#include "test/fakecuda/fake_device.h"

using namespace nanduti;

void nanduti_fakecuda_fail_call(const char* function, std::uint64_t nth, int error) {
  fakecuda::fail_call(function, nth, static_cast<cudaError_t>(error));
}

bool nanduti_fakecuda_has_failures_left() { return fakecuda::has_failures_left(); }

std::uint64_t nanduti_fakecuda_loaded(const char* kernel) {
  const auto found = fakecuda::traffic().find(kernel);
  return found == fakecuda::traffic().end() ? 0 : found->second.loaded_bytes;
}

std::uint64_t nanduti_fakecuda_leaks() { return fakecuda::leaks().size(); }
