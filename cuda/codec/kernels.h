#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "common/codec/block_layout.h"

/// The codec's kernels, as the host launches them: what they take, and what they do. Pointers are the
/// device's. Each has a plain form, one thread for a block or a group, which is slow and its oracle.
namespace nanduti::device {

enum class Form : std::uint8_t { kFast, kPlain };

/// cudaSuccess if the kernels were compiled for the device that is set.
cudaError_t can_run();

// ---- encoding: select, shape_groups, place_groups, clear_payload, write_groups ----

/// What select() writes and shape_groups() reads: of each block, the values that may be sent.
struct Candidates {
  const unsigned* slots;  ///< per block: where its values begin in the next two
  unsigned* indices;      ///< within the block, ascending
  float* values;          ///< of the residual, progress included
  unsigned* selected;     ///< per block: how many there are
  unsigned* nonzeros;     ///< per block: values that are not zero
};

struct SelectArguments {
  float* residual;         ///< shape [size], aligned to 16 bytes
  const float* progress;   ///< likewise, or null: nothing is added
  std::uint64_t size;      ///< of all blocks; the last one may be shorter
  const unsigned* wanted;  ///< per block: at most so many
  Candidates candidates;
};

/// A group before its values are known: EncodingPlan, for the device.
struct PlannedGroup {
  unsigned begin;  ///< first value; begins a block
  unsigned size;
  unsigned first_block;
  unsigned blocks;
  unsigned slot;  ///< where its candidates begin; there is room for as many as are allowed
  unsigned usual_bits;
  unsigned usual_code;  ///< ValueCode
};

/// A group whose values are known: how it is written.
struct ShapedGroup {
  GroupEntry entry;
  unsigned count;   ///< values in the list
  float middle;     ///< of two bits: larger magnitudes are high
  unsigned unused;  ///< aligns the next
  std::uint64_t body_bytes;
};

/// Values of a group that are sent; both as PlannedGroup::slot says.
struct SentList {
  unsigned* indices;  ///< within the group, ascending
  float* values;      ///< before they are quantised
};

struct ShapeArguments {
  const float* residual;
  const PlannedGroup* planned;
  Candidates candidates;
  SentList sent;
  ShapedGroup* shaped;
};

/// Aligned to 16 bytes, and what stands where.
struct Payload {
  unsigned* words;
  std::uint64_t* bodies;  ///< per group: the byte at which its body begins
  std::uint64_t* bytes;   ///< of the whole payload
};

struct WriteArguments {
  float* residual;
  const PlannedGroup* planned;
  const ShapedGroup* shaped;
  SentList sent;
  Payload payload;
  unsigned groups;
  PayloadHeader header;
};

/// residual += progress, then the largest magnitudes of each block, of equal ones the lower index, never a
/// zero (common/codec/README.md, "What is sent").
cudaError_t select(const SelectArguments& arguments, unsigned blocks, Form form, cudaStream_t stream);
/// From each block's candidates to the list of what a group sends, its entry and the size of its body.
cudaError_t shape_groups(const ShapeArguments& arguments, unsigned groups, Form form, cudaStream_t stream);
/// Where bodies begin, and the payload's size.
cudaError_t place_groups(const ShapedGroup* shaped, unsigned groups, const Payload& payload, Form form,
                         cudaStream_t stream);
/// As many bytes as the payload takes become zero, and up to 15 more. `blocks`: how many of threads do it.
inline constexpr unsigned kFoursPerClearingBlock = 1024;  ///< of 16 bytes
cudaError_t clear_payload(const Payload& payload, unsigned blocks, Form form, cudaStream_t stream);
/// The payload, and error feedback: residual -= what a receiver will decode.
cudaError_t write_groups(const WriteArguments& arguments, Form form, cudaStream_t stream);

// ---- decoding: check_groups, merge_groups ----

/// A group of a payload whose header and directory are checked.
struct CodedGroup {
  GroupEntry entry;
  unsigned begin;  ///< first value
  unsigned size;
  unsigned unused;  ///< aligns the next
  std::uint64_t body;
};

struct MergeArguments {
  const unsigned* words;  ///< the payload; there is a word more than it takes
  const CodedGroup* groups;
  unsigned* failed;  ///< 0; not 0 if the payload is none that an encoder writes
  float* target;
  float factor;
};

/// The groups of a payload that was made here: shape (groups) all.
cudaError_t list_groups(const PlannedGroup* planned, const ShapedGroup* shaped, const std::uint64_t* bodies,
                        CodedGroup* coded, unsigned groups, cudaStream_t stream);
/// Sets `failed` where bodies are not what entries say, or values are none.
cudaError_t check_groups(const MergeArguments& arguments, unsigned groups, Form form, cudaStream_t stream);
/// If nothing has failed: target += factor * values, each product and sum rounded by itself.
cudaError_t merge_groups(const MergeArguments& arguments, unsigned groups, Form form, cudaStream_t stream);

}  // namespace nanduti::device
