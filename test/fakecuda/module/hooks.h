#pragma once

#include <cstdint>

/// What libnanduti_cuda_emulated.so has beside the module's own functions, for tests of those that open it.
extern "C" {
/// fakecuda::fail_call(), with CUDA's number of the error.
void nanduti_fakecuda_fail_call(const char* function, std::uint64_t nth, int error);
/// fakecuda::has_failures_left().
bool nanduti_fakecuda_has_failures_left();
/// Bytes that a kernel has loaded so far.
std::uint64_t nanduti_fakecuda_loaded(const char* kernel);
/// How much is still there, of fakecuda::leaks().
std::uint64_t nanduti_fakecuda_leaks();
}
