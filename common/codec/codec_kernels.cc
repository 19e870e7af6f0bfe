#include "common/codec/codec_kernels.h"

namespace nanduti {

std::vector<const CodecKernels*> available_kernels() {
  std::vector<const CodecKernels*> all = {&plain_kernels()};
  for (const CodecKernels* kernels : {avx2_kernels(), avx512_kernels()})
    if (kernels != nullptr) all.push_back(kernels);
  return all;
}

const CodecKernels& best_kernels() {
  static const CodecKernels& best = *available_kernels().back();
  return best;
}

}  // namespace nanduti
