#include "observers/distinct_values.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tsquant {

void DistinctValues::observe(const at::Tensor& x) {
  if (count() >= kMany || x.numel() == 0) return;
  const at::Tensor dense = x.to(at::kFloat).contiguous();
  const float* data = dense.data_ptr<float>();
  for (int64_t i = 0; i < dense.numel() && count() < kMany; ++i) {
    ++seen_;
    if (std::find(values_.begin(), values_.end(), data[i]) == values_.end()) values_.push_back(data[i]);
  }
}

}  // namespace tsquant
