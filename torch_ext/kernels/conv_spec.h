#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/conv_geometry.h"

namespace tsquant::kernels {

/// What a convolution computes, independent of the input's shape and scale. A linear layer is a convolution with a
/// 1x1 kernel. The clamp is a fused relu, relu6 or hardtanh.
struct ConvSpec {
  at::Tensor weight;  ///< int8 codes, zero point 0: [out, in/groups, k...]; transposed: [in, out/groups, k...]
  at::Tensor scales;  ///< float32, one per output channel (or one for all before checked())
  at::Tensor bias;    ///< float32, one per output channel; may be undefined
  std::vector<int64_t> stride, padding, dilation, output_padding;
  int64_t groups = 1;
  bool transposed = false;
  double clamp_min = -std::numeric_limits<double>::infinity();
  double clamp_max = std::numeric_limits<double>::infinity();

  int64_t spatial_dims() const { return weight.dim() - 2; }
  int64_t out_channels() const { return transposed ? weight.size(1) * groups : weight.size(0); }
  int64_t in_channels() const { return transposed ? weight.size(0) : weight.size(1) * groups; }

  /// Products that one value of the result is the sum of; of a transposed convolution with strides the mean.
  double multiply_adds() const;
  bool is_depthwise() const { return groups > 1 && groups == in_channels() && groups == out_channels(); }

  /// Checks every field, as the values may come from a damaged file, and brings the tensors to dense ones. Throws
  /// c10::Error.
  ConvSpec checked() const;

  /// The sizes for one input: batch, channels, spatial... Of a checked spec. Throws when the input is smaller than the
  /// kernel or anything is too large for the offsets of the kernels.
  ConvGeometry geometry(at::IntArrayRef input) const;
};

/// Per output channel of one phase: the sum of the weight codes and the sum of their magnitudes.
struct WeightSums {
  std::vector<double> plain, magnitude;
};
WeightSums weight_sums(const int8_t* weight, const ConvGeometry& geometry, const Phase& phase);

}  // namespace tsquant::kernels
