#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "tsquant/model.h"

namespace tsquant {

/// The positions of one input axis that one kernel offset reads: first, first + step, ... (`count` of them).
struct KernelReads {
  int64_t first = 0, step = 1, count = 0;
};

/// How a layer's outputs read its inputs. A linear layer has no spatial axes: each position reads itself.
struct KernelGeometry {
  bool transposed = false;
  bool same = false;  ///< convolution with padding="same"
  int64_t groups = 1;
  std::vector<int64_t> kernel, stride, padding, output_padding, dilation;  ///< one per spatial axis

  size_t spatial() const { return kernel.size(); }
  /// Size of an output axis for `size` input positions.
  int64_t output_size(size_t axis, int64_t size) const;
  /// What kernel offset `offset` of an axis reads of `size` input positions, padding left out.
  KernelReads reads(size_t axis, int64_t offset, int64_t size) const;
  /// Each output position reads exactly the input position with the same index.
  bool pointwise() const;
};

/// Geometry of aten::conv1d/2d/3d, aten::conv_transpose1d/2d/3d and aten::linear; nullopt for other nodes and when an
/// argument is computed by the graph.
c10::optional<KernelGeometry> kernel_geometry(const Model& model, const torch::jit::Node* node,
                                              const at::Tensor& weight);

}  // namespace tsquant
