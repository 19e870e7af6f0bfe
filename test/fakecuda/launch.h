#pragma once

/// What a source with kernels and launches is compiled after, in place of nvcc.
#include <tuple>

#include "test/fakecuda/fake_device.h"
#include "test/simt/kernel_language.h"

/// As in cuda/runtime/kernel_language.cuh. Arguments are copied, as at a real launch.
#define NANDUTI_LAUNCH(kernel, blocks, threads, stream, ...)                                               \
  ((void)::nanduti::fakecuda::launch(                                                                      \
       #kernel, {{blocks}, {threads}}, stream,                                                             \
       [arguments_of_launch = std::make_tuple(__VA_ARGS__)] { std::apply(kernel, arguments_of_launch); }), \
   cudaGetLastError())
