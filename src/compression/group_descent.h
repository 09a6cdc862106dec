#pragma once

#include <vector>

#include "compression/code_panels.h"
#include "compression/stored_scales.h"

namespace tsquant {

/// Larger groups are left alone: work within a group grows with its square.
constexpr int64_t kLargestDescentGroup = 256;

struct GroupDescentOptions {
  bool zero_points = true;  ///< asymmetric integers: also try the neighbours of each zero point
  /// Of scales to try beside the present one: positive and not 1. Where a format stores the same scale for both, the
  /// factor's next power counts, and so on.
  std::vector<double> factors = {0.95, 1.05};
  c10::ScalarType scale_type = c10::kFloat;  ///< kFloat or kHalf, see StoredScales
};

/// Lowers tr((W - Q) H (W - Q)^T) one group at a time: for other scales and zero points of the group its codes are
/// chosen anew by one round of coordinate descent within the group, each code knowing the errors of all others, and
/// what lowers the error of the row most is taken. So scales and zero points move together with codes, which neither
/// coordinate_descent nor refit_scales can do. No row's error rises.
///
/// A sweep needs outputs * inputs^2 multiplications, and outputs * inputs * group_size for each that is tried.
/// @param weight [outputs, inputs]
/// @param start of the same shape, groups along axis 1 or one scale per output; all formats
/// @param hessian float32 [inputs, inputs], damped_hessian's or as it is
/// @param errors the objective before and after; may be null
/// @throws Error kInvalidArgument as CodePanels, check_hessian and StoredScales, and for factors out of their limits
CompressedWeight group_descent(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& hessian,
                               const GroupDescentOptions& options = {}, StepErrors* errors = nullptr);

/// The same, panel by panel.
class GroupDescent {
 public:
  /// @param q of the weight
  /// @throws Error kInvalidArgument for factors out of their limits, and as StoredScales
  GroupDescent(const QParams& q, const at::Tensor& hessian, const GroupDescentOptions& options);

  /// @param panel measured
  StepErrors run(CodePanel& panel) const;

 private:
  struct Trial;

  std::vector<Trial> trials_of(const CodePanel& panel, int64_t group) const;
  void descend(const CodePanel& panel, int64_t group, const at::Tensor& block, Trial& trial) const;
  at::Tensor take_best(CodePanel& panel, int64_t group, const std::vector<Trial>& trials) const;

  at::Tensor hessian_;
  StoredScales stored_;
  std::vector<double> factors_;
  bool move_zero_points_;
  int64_t lowest_zero_, highest_zero_;
};

}  // namespace tsquant
