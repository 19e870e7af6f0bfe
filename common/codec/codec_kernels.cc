#include "common/codec/codec_kernels.h"

namespace nanduti {

std::vector<const CodecKernels*> available_kernels() { return {&plain_kernels()}; }

const CodecKernels& best_kernels() {
  static const CodecKernels& best = *available_kernels().back();
  return best;
}

}  // namespace nanduti
