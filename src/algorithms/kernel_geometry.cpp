#include "algorithms/kernel_geometry.h"

#include <algorithm>
#include <string>

#include "graph/params.h"

namespace tsquant {

namespace {

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }
int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

c10::optional<c10::IValue> argument(const Model& model, const torch::jit::Node* node, const std::string& name) {
  const auto index = node->schema().argumentIndexWithName(name);
  return index ? constant_of(model, node->input(*index)) : c10::nullopt;
}

/// An integer list argument with one number per axis; a single number stands for all axes.
bool read_list(const Model& model, const torch::jit::Node* node, const std::string& name, size_t axes,
               std::vector<int64_t>& list) {
  const auto value = argument(model, node, name);
  if (!value || !value->isIntList()) return false;
  list = value->toIntVector();
  if (list.size() == 1) list.assign(axes, list.front());
  return list.size() == axes;
}

bool read_padding(const Model& model, const torch::jit::Node* node, KernelGeometry& geometry) {
  const auto value = argument(model, node, "padding");
  if (!value || !value->isString()) return read_list(model, node, "padding", geometry.spatial(), geometry.padding);
  geometry.padding.assign(geometry.spatial(), 0);
  if (value->toStringRef() == "valid") return true;
  geometry.same = value->toStringRef() == "same";
  for (size_t axis = 0; axis < geometry.spatial(); ++axis) {
    geometry.padding[axis] = geometry.dilation[axis] * (geometry.kernel[axis] - 1) / 2;
  }
  return geometry.same;
}

}  // namespace

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

c10::optional<KernelGeometry> kernel_geometry(const Model& model, const torch::jit::Node* node,
                                              const at::Tensor& weight) {
  const std::string kind = node->kind().toQualString();
  KernelGeometry geometry;
  if (kind == "aten::linear") return weight.dim() == 2 ? c10::make_optional(geometry) : c10::nullopt;
  geometry.transposed = kind.rfind("aten::conv_transpose", 0) == 0;
  const bool convolution = kind == "aten::conv1d" || kind == "aten::conv2d" || kind == "aten::conv3d";
  if ((!geometry.transposed && !convolution) || weight.dim() < 3 || !node->maybeSchema()) return c10::nullopt;
  geometry.kernel = weight.sizes().slice(2).vec();
  const size_t axes = geometry.spatial();
  const auto groups = argument(model, node, "groups");
  if (!groups || !groups->isInt()) return c10::nullopt;
  geometry.groups = groups->toInt();
  geometry.output_padding.assign(axes, 0);
  const bool known = read_list(model, node, "stride", axes, geometry.stride) &&
                     read_list(model, node, "dilation", axes, geometry.dilation) &&
                     read_padding(model, node, geometry) &&
                     (!geometry.transposed || read_list(model, node, "output_padding", axes, geometry.output_padding));
  return known ? c10::make_optional(std::move(geometry)) : c10::nullopt;
}

}  // namespace tsquant
