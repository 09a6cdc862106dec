#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tsquant {

/// How the weight of a layer lies in its tensor: [output channels, input channels / groups, kernel...], and that of a
/// transposed convolution: [input channels, output channels / groups, kernel...].
struct WeightLayout {
  bool transposed = false;
  int64_t groups = 1;

  int64_t output_axis() const { return transposed ? 1 : 0; }
  int64_t input_axis() const { return transposed ? 0 : 1; }
  /// Of the layer. @param weight sizes of the weight
  int64_t output_channels(at::IntArrayRef weight) const;
  int64_t input_channels(at::IntArrayRef weight) const;
  /// Every input channel is a group of its own.
  bool depthwise(at::IntArrayRef weight) const { return groups > 1 && groups == input_channels(weight); }

  /// The weight as [output channels, everything that one of them reads].
  at::Tensor rows(const at::Tensor& weight) const;
  /// The weight of these sizes that has these rows.
  at::Tensor from_rows(const at::Tensor& rows, at::IntArrayRef weight) const;
};

/// The positions of one input axis that one kernel offset reads: first, first + step, ... (`count` of them).
struct KernelReads {
  int64_t first = 0, step = 1, count = 0;
};

/// How a layer's outputs read its inputs. A linear layer has no spatial axes: each position reads itself.
struct KernelGeometry : WeightLayout {
  bool same = false;                                                       ///< convolution with padding="same"
  std::vector<int64_t> kernel, stride, padding, output_padding, dilation;  ///< one per spatial axis

  size_t spatial() const { return kernel.size(); }
  /// Size of an output axis for `size` input positions.
  int64_t output_size(size_t axis, int64_t size) const;
  /// What kernel offset `offset` of an axis reads of `size` input positions, padding left out.
  KernelReads reads(size_t axis, int64_t offset, int64_t size) const;
  /// Each output position reads exactly the input position with the same index.
  bool pointwise() const;
};

}  // namespace tsquant
