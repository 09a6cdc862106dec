#include "numerics/groups.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>

#include "numerics/row_loops.h"
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

Range row_range(const at::Tensor& x, int64_t rows) {
  constexpr int64_t kValuesPerTask = 1 << 16;
  const int64_t size = x.numel() / rows;
  auto low = at::empty({rows}, at::kFloat), high = at::empty({rows}, at::kFloat);
  const auto* values = x.data_ptr<float>();
  auto *lowest = low.data_ptr<float>(), *highest = high.data_ptr<float>();
  at::parallel_for(0, rows, std::max<int64_t>(1, kValuesPerTask / size), [&](int64_t begin, int64_t end) {
    ranges_of_rows(values + begin * size, end - begin, size, lowest + begin, highest + begin);
  });
  return {low, high};
}

Range group_range(const at::Tensor& x, int64_t group_size, int64_t group_axis) {
  const Groups groups(x, group_size, group_axis);
  if (groups.axis == x.dim() - 1 && x.numel() > 0) {
    auto shape = x.sizes().vec();
    shape.back() = groups.count;
    const Range range = row_range(x.detach().to(at::kFloat).contiguous(), x.numel() / groups.size);
    return {range.min.reshape(shape), range.max.reshape(shape)};
  }
  const auto split = groups.split(x.detach().to(at::kFloat));
  return {at::amin(split, {groups.axis + 1}), at::amax(split, {groups.axis + 1})};
}

}  // namespace tsquant
