#include "lowering/compressed/broadcast_scale.h"

#include <ATen/ATen.h>

#include "numerics/groups.h"

namespace tsquant {

namespace {

/// The axis of the weight that is split into groups.
int64_t group_axis_of(const at::Tensor& scale, at::IntArrayRef shape, at::IntArrayRef groups) {
  const auto fits = [&](size_t axis) {
    for (size_t i = 0; i < groups.size(); ++i) {
      if (scale.size(static_cast<int64_t>(i)) != (i == axis + 1 ? 1 : groups[i])) return false;
    }
    return groups[axis] * groups[axis + 1] == shape[axis];
  };
  size_t axis = shape.size() - 1;
  while (axis > 0 && !fits(axis)) --axis;
  return static_cast<int64_t>(axis);
}

}  // namespace

BroadcastScale broadcast_scale(const CompressedWeight& weight) {
  const QParams& q = weight.qparams;
  at::Tensor scale = q.scale.to(at::kFloat);
  if (q.tensor_scale.defined()) scale = scale * q.tensor_scale;
  if (q.group_size > 0) {
    const Groups groups(weight.codes, q.group_size, q.group_axis);
    return {groups.broadcast(scale), groups.split(weight.codes).sizes().vec()};
  }
  std::vector<int64_t> shape(static_cast<size_t>(weight.codes.dim()), 1);
  if (q.per_channel) shape[static_cast<size_t>(q.axis)] = scale.numel();
  return {scale.reshape(shape), weight.codes.sizes().vec()};
}

void set_scale(QParams& q, const at::Tensor& scale, at::IntArrayRef shape, at::IntArrayRef groups) {
  if (groups != shape) {
    q.group_axis = group_axis_of(scale, shape, groups);
    q.group_size = groups[static_cast<size_t>(q.group_axis) + 1];
    q.scale = scale.squeeze(q.group_axis + 1);
    return;
  }
  q.per_channel = scale.numel() > 1;
  for (int64_t i = 0; i < scale.dim(); ++i) {
    if (scale.size(i) > 1) q.axis = i;
  }
  q.scale = scale.reshape({-1});
}

}  // namespace tsquant
