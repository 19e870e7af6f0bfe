#pragma once

#include <cstdint>
#include <type_traits>

#include <flatbuffers/flatbuffers.h>

namespace nanduti {

/// Whether a vector's elements lie where they may be read in place. FlatBuffers' verifier checks that they
/// lie inside the buffer, not that they are aligned.
template <class T>
bool is_aligned(const flatbuffers::Vector<T>& list) {
  const auto address = reinterpret_cast<std::uintptr_t>(list.Data());
  return list.size() == 0 || address % alignof(std::remove_pointer_t<T>) == 0;
}

}  // namespace nanduti
