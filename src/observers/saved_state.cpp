#include "observers/saved_state.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "tsquant/error.h"

namespace tsquant {

void require_saved(bool fine, const std::string& fault) {
  if (fine) return;
  throw Error(ErrorCode::kCalibration, "the statistics file is damaged: " + fault, "", "collect the statistics again");
}

bool are_counts(const at::Tensor& values) { return (at::isfinite(values) & values.ge(0)).all().item<bool>(); }

SavedState::SavedState(const std::vector<at::Tensor>& tensors, size_t count) : tensors_(tensors) {
  require_saved(tensors.size() == count,
                fmt::format("an observer has {} tensors instead of {}", tensors.size(), count));
}

at::Tensor SavedState::at(size_t index, c10::ScalarType type, int64_t dims) const {
  const at::Tensor& tensor = tensors_.at(index);
  const bool fits = tensor.defined() && tensor.layout() == at::kStrided && tensor.scalar_type() == type;
  require_saved(fits && tensor.dim() == dims,
                fmt::format("tensor {} of an observer is not {} with {} dimensions", index, c10::toString(type), dims));
  return tensor.contiguous();
}

at::Tensor SavedState::counters(size_t index) const {
  const at::Tensor counters = at(index, at::kLong, 1);
  require_saved(counters.numel() == 3 && are_counts(counters), "the counters of an observer are wrong");
  return counters;
}

}  // namespace tsquant
