#include "numerics/groups.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "tsquant/error.h"

namespace tsquant {

Groups::Groups(const at::Tensor& x, int64_t group_size, int64_t group_axis) : size(group_size) {
  axis = group_axis < 0 ? group_axis + x.dim() : group_axis;
  if (axis < 0 || axis >= x.dim()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("group_axis is {}, but the tensor has {} dimensions", group_axis, x.dim()), "",
                "give an existing axis");
  }
  if (size < 1 || x.size(axis) % size != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} values along axis {} are no whole number of groups of {}", x.size(axis), axis, size),
                "", "choose a group size that divides the axis, or one scale per channel");
  }
  count = x.size(axis) / size;
}

at::Tensor Groups::split(const at::Tensor& x) const {
  auto shape = x.sizes().vec();
  shape[axis] = size;
  shape.insert(shape.begin() + axis, count);
  return x.reshape(shape);
}

at::Tensor Groups::join(const at::Tensor& groups) const { return groups.flatten(axis, axis + 1); }

Range group_range(const at::Tensor& x, int64_t group_size, int64_t group_axis) {
  const Groups groups(x, group_size, group_axis);
  const auto split = groups.split(x.detach().to(at::kFloat));
  return {at::amin(split, {groups.axis + 1}), at::amax(split, {groups.axis + 1})};
}

}  // namespace tsquant
