#include "compression/group_rows.h"

#include <ATen/ATen.h>

#include "numerics/groups.h"

namespace tsquant {

GroupRows::GroupRows(const at::Tensor& weight, const QParams& q)
    : shape_(weight.sizes().vec()), weight_shape_(weight.sizes().vec()) {
  std::vector<int64_t> shared;
  if (q.group_size > 0) {
    const Groups groups(weight, q.group_size, q.group_axis);
    shape_ = groups.split(weight).sizes().vec();
    shared = {groups.axis + 1};
    for (int64_t i = 0; i < static_cast<int64_t>(shape_.size()); ++i) {
      if (i != groups.axis + 1) order_.push_back(i);
    }
  } else {
    if (q.per_channel) order_.push_back(q.axis);
    for (int64_t i = 0; i < weight.dim(); ++i) {
      if (!q.per_channel || i != q.axis) shared.push_back(i);
    }
  }
  order_.insert(order_.end(), shared.begin(), shared.end());
  rows_ = q.scale.numel();
}

at::Tensor GroupRows::rows_of(const at::Tensor& x) const {
  return x.reshape(shape_).permute(order_).reshape({rows_, -1}).contiguous();
}

at::Tensor GroupRows::from_rows(const at::Tensor& rows) const {
  std::vector<int64_t> permuted, inverse(order_.size());
  for (size_t i = 0; i < order_.size(); ++i) {
    permuted.push_back(shape_[order_[i]]);
    inverse[order_[i]] = static_cast<int64_t>(i);
  }
  return rows.reshape(permuted).permute(inverse).reshape(weight_shape_).contiguous();
}

}  // namespace tsquant
