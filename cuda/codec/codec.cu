// The codec's kernels, for devices.
#include "cuda/codec/select.cuh"
