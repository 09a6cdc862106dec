#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tsquant {

/// How a tensor lies in memory, without its sizes.
struct MemoryLayout {
  /// Dimensions from the outermost to the innermost in memory. Where a dimension of one element leaves a choice, the
  /// memory format that LibTorch suggests for the tensor decides.
  std::vector<int64_t> order;
  /// The tensor fills a storage of its own without gaps, as the result of an operator that computes does; views (of
  /// rows, say) may not.
  bool whole = true;

  /// The format of LibTorch that this is: dense or channels-last; none for other orders.
  c10::optional<at::MemoryFormat> format() const;
};

MemoryLayout layout_of(const at::Tensor& tensor);

}  // namespace tsquant
