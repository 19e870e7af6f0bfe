// The codec's kernels and their launches: compiled by nvcc for devices, and for the emulated one by the
// tests' compiler (test/fakecuda/launch.h comes first there).
#include "cuda/codec/kernels.h"
#include "cuda/codec/merge.cuh"
#include "cuda/codec/select.cuh"
#include "cuda/codec/shape.cuh"
#include "cuda/codec/write.cuh"

namespace nanduti::device {
namespace {

/// Of plain kernels, whose threads take a block or a group each.
constexpr unsigned kPlainThreads = 32;

unsigned plain_blocks(unsigned threads) { return (threads + kPlainThreads - 1) / kPlainThreads; }

}  // namespace

cudaError_t can_run() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&select_fast));
}

cudaError_t select(const SelectArguments& arguments, unsigned blocks, Form form, cudaStream_t stream) {
  if (blocks == 0) return cudaSuccess;
  return form == Form::kFast
             ? NANDUTI_LAUNCH(select_fast, blocks, kThreads, stream, arguments)
             : NANDUTI_LAUNCH(select_plainly, plain_blocks(blocks), kPlainThreads, stream, arguments, blocks);
}

cudaError_t shape_groups(const ShapeArguments& arguments, unsigned groups, Form form, cudaStream_t stream) {
  if (groups == 0) return cudaSuccess;
  return form == Form::kFast ? NANDUTI_LAUNCH(shape_groups_fast, groups, kThreads, stream, arguments)
                             : NANDUTI_LAUNCH(shape_groups_plainly, plain_blocks(groups), kPlainThreads,
                                              stream, arguments, groups);
}

cudaError_t place_groups(const ShapedGroup* shaped, unsigned groups, const Payload& payload, Form form,
                         cudaStream_t stream) {
  return form == Form::kFast ? NANDUTI_LAUNCH(place_groups_fast, 1, kThreads, stream, shaped, groups, payload)
                             : NANDUTI_LAUNCH(place_groups_plainly, 1, 1, stream, shaped, groups, payload);
}

cudaError_t clear_payload(const Payload& payload, unsigned blocks, Form form, cudaStream_t stream) {
  return form == Form::kFast ? NANDUTI_LAUNCH(clear_payload_fast, blocks, kThreads, stream, payload)
                             : NANDUTI_LAUNCH(clear_payload_plainly, 1, kPlainThreads, stream, payload);
}

cudaError_t write_groups(const WriteArguments& arguments, Form form, cudaStream_t stream) {
  if (arguments.groups == 0) return cudaSuccess;
  return form == Form::kFast
             ? NANDUTI_LAUNCH(write_groups_fast, arguments.groups, kThreads, stream, arguments)
             : NANDUTI_LAUNCH(write_groups_plainly, plain_blocks(arguments.groups), kPlainThreads, stream,
                              arguments);
}

cudaError_t list_groups(const PlannedGroup* planned, const ShapedGroup* shaped, const std::uint64_t* bodies,
                        CodedGroup* coded, unsigned groups, cudaStream_t stream) {
  if (groups == 0) return cudaSuccess;
  return NANDUTI_LAUNCH(list_groups_of_payload, (groups + kThreads - 1) / kThreads, kThreads, stream, planned,
                        shaped, bodies, coded, groups);
}

cudaError_t check_groups(const MergeArguments& arguments, unsigned groups, Form form, cudaStream_t stream) {
  if (groups == 0) return cudaSuccess;
  return form == Form::kFast ? NANDUTI_LAUNCH(check_groups_fast, groups, kThreads, stream, arguments)
                             : NANDUTI_LAUNCH(check_groups_plainly, plain_blocks(groups), kPlainThreads,
                                              stream, arguments, groups);
}

cudaError_t merge_groups(const MergeArguments& arguments, unsigned groups, Form form, cudaStream_t stream) {
  if (groups == 0) return cudaSuccess;
  return form == Form::kFast ? NANDUTI_LAUNCH(merge_groups_fast, groups, kThreads, stream, arguments)
                             : NANDUTI_LAUNCH(merge_groups_plainly, plain_blocks(groups), kPlainThreads,
                                              stream, arguments, groups);
}

}  // namespace nanduti::device
