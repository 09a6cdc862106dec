#include "numerics/large_output.h"

#include <ATen/ATen.h>
#include <sys/mman.h>

namespace tsquant {

at::Tensor large_output(at::IntArrayRef shape, c10::ScalarType type) {
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  auto output = at::empty(shape, at::TensorOptions(type));
  const auto begin = reinterpret_cast<uintptr_t>(output.data_ptr()), end = begin + output.nbytes();
  // Only those that lie in the output as a whole. Refusals change nothing but the time.
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage, last = end / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  return output;
}

}  // namespace tsquant
