// Memory layout of dense tensors: the SIMD loops walk the storage in order, whatever the strides are called.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace tsquant::decomposed {

/// The tensor itself when its elements fill a block of memory without gaps or overlaps, else a copy that keeps the
/// order of its dimensions in memory. at::empty_like gives such a tensor the same strides.
inline at::Tensor dense(const at::Tensor& tensor) {
  return tensor.is_non_overlapping_and_dense() ? tensor : tensor.clone(at::MemoryFormat::Preserve);
}

/// A dense tensor seen along one axis: memory is [outer, channels, inner].
struct AxisLayout {
  int64_t outer = 1, channels = 1, inner = 1;
};

inline AxisLayout layout_along(const at::Tensor& tensor, int64_t axis) {
  std::vector<int64_t> order(tensor.dim());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return tensor.stride(a) > tensor.stride(b); });
  AxisLayout layout;
  layout.channels = tensor.size(axis);
  bool before = true;
  for (const int64_t d : order) {
    if (d == axis) {
      before = false;
    } else {
      (before ? layout.outer : layout.inner) *= tensor.size(d);
    }
  }
  return layout;
}

}  // namespace tsquant::decomposed
