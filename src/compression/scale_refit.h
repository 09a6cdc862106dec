#pragma once

#include "compression/code_panels.h"
#include "compression/stored_scales.h"

namespace tsquant {

struct RefitOptions {
  c10::ScalarType scale_type = c10::kFloat;  ///< kFloat or kHalf, see StoredScales
};

/// Lowers tr((W - Q) H (W - Q)^T) by the scales alone; codes and zero points stay. With c_k the levels of group k in a
/// row, Q = sum of s_k c_k, and the best scales solve A s = b with A_kl = c_k H_kl c_l^T and b_k = c_k (W H)_k^T: the
/// normal equations, one system per row. Their solution is rounded to scales that can be stored, and then single scales
/// move as far as that helps, which is all that coarse formats of scales allow.
///
/// A row whose error would not fall keeps its scales. They stay above 0 where the format asks for it. Costs about
/// outputs * inputs^2 * 3/2 multiplications, and as many as these / inputs * groups^2 / 6 for the systems.
/// @param weight [outputs, inputs]
/// @param start of the same shape, groups along axis 1 or one scale per output; all formats
/// @param hessian float32 [inputs, inputs], damped_hessian's or as it is
/// @param errors the objective before and after; may be null
/// @throws Error kInvalidArgument as CodePanels, check_hessian and StoredScales
CompressedWeight refit_scales(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& hessian,
                              const RefitOptions& options = {}, StepErrors* errors = nullptr);

/// The same, panel by panel.
class ScaleRefit {
 public:
  /// @param q of the weight
  ScaleRefit(const QParams& q, const at::Tensor& hessian, const RefitOptions& options);

  /// @param panel measured
  StepErrors run(CodePanel& panel) const;

 private:
  void solve_rows(CodePanel& panel, int64_t first, int64_t rows, at::Tensor& steps) const;

  at::Tensor hessian_;
  StoredScales stored_;
};

}  // namespace tsquant
