#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace tsquant {

/// Looks at what `Observer::set_state` was given: it comes from a file. Each tensor is taken by its place, type and
/// number of dimensions.
class SavedState {
 public:
  /// @throws Error kCalibration when it has another number of tensors
  SavedState(const std::vector<at::Tensor>& tensors, size_t count);

  /// @throws Error kCalibration for a tensor of another type or number of dimensions, or one that is not dense
  at::Tensor at(size_t index, c10::ScalarType type, int64_t dims) const;
  /// The three counters of an observer: int64 [3], none negative. @throws Error kCalibration
  at::Tensor counters(size_t index) const;

 private:
  const std::vector<at::Tensor>& tensors_;
};

/// @throws Error kCalibration: "the statistics file is damaged: <fault>"
void require_saved(bool fine, const std::string& fault);

/// Whether all values are finite and at least 0.
bool are_counts(const at::Tensor& values);

}  // namespace tsquant
