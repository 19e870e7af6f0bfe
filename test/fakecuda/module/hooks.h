#pragma once

#include <cstdint>

/// What libnanduti_cuda_emulated.so has beside the module's own functions, for tests of those that open it.
extern "C" {
/// fakecuda::fail_call(), with CUDA's number of the error.
void nanduti_fakecuda_fail_call(const char* function, std::uint64_t nth, int error);
/// fakecuda::has_failures_left().
bool nanduti_fakecuda_has_failures_left();
/// fakecuda::reset(), where nothing of the device is held.
void nanduti_fakecuda_reset();
/// Of fakecuda::crossed().
std::uint64_t nanduti_fakecuda_to_device();
std::uint64_t nanduti_fakecuda_to_host();
/// How much is still there, of fakecuda::leaks().
std::uint64_t nanduti_fakecuda_leaks();
}
