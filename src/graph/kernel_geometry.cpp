#include "graph/kernel_geometry.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tsquant {

namespace {

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }
int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

}  // namespace

int64_t WeightLayout::output_channels(at::IntArrayRef weight) const {
  return transposed ? weight[1] * groups : weight[0];
}

int64_t WeightLayout::input_channels(at::IntArrayRef weight) const {
  return transposed ? weight[0] : weight[1] * groups;
}

at::Tensor WeightLayout::rows(const at::Tensor& weight) const {
  if (!transposed) return weight.flatten(1);
  return weight.unflatten(0, {groups, -1}).transpose(1, 2).flatten(0, 1).flatten(1);
}

at::Tensor WeightLayout::from_rows(const at::Tensor& rows, at::IntArrayRef weight) const {
  if (!transposed) return rows.reshape(weight);
  return rows.reshape({groups, weight[1], weight[0] / groups, -1}).transpose(1, 2).reshape(weight);
}

int64_t KernelGeometry::output_size(size_t axis, int64_t size) const {
  const int64_t extent = dilation[axis] * (kernel[axis] - 1);
  if (transposed) return (size - 1) * stride[axis] - 2 * padding[axis] + extent + output_padding[axis] + 1;
  return same ? size : floor_div(size + 2 * padding[axis] - extent - 1, stride[axis]) + 1;
}

KernelReads KernelGeometry::reads(size_t axis, int64_t offset, int64_t size) const {
  // Output o of a convolution reads o * stride + shift; input i of a transposed one adds to i * stride + shift.
  const int64_t shift = offset * dilation[axis] - padding[axis];
  const int64_t other = transposed ? output_size(axis, size) : size;  // the axis whose borders cut
  const int64_t indices = transposed ? size : output_size(axis, size);
  const int64_t low = std::max<int64_t>(0, ceil_div(-shift, stride[axis]));
  const int64_t high = std::min(indices - 1, floor_div(other - 1 - shift, stride[axis]));
  KernelReads result;
  result.count = std::max<int64_t>(0, high - low + 1);
  result.first = transposed ? low : low * stride[axis] + shift;
  result.step = transposed ? 1 : stride[axis];
  return result;
}

bool KernelGeometry::pointwise() const {
  for (size_t axis = 0; axis < spatial(); ++axis) {
    if (kernel[axis] != 1 || stride[axis] != 1 || padding[axis] != 0) return false;
    if (transposed && output_padding[axis] != 0) return false;
  }
  return true;
}

}  // namespace tsquant
