#pragma once

#include "compression/code_panels.h"

namespace tsquant {

struct DescentOptions {
  int sweeps = 1;            ///< over all columns, at least 1; ends earlier when no code changes
  int64_t block_size = 128;  ///< columns whose changes are multiplied together, at least 1; the result hardly differs
};

/// Lowers tr((W - Q) H (W - Q)^T) one code at a time, scales and zero points fixed. With D = (W - Q) H the best value
/// of column j is t = Q_j + D_j / H_jj; its nearest level is taken, and D -= (Q_j' - Q_j) H_j. No change raises the
/// error of its row; a row that rounding in float32 would let rise is left as it was. Columns with H_jj = 0 keep their
/// codes. Source: QuantEase (arXiv:2309.01885), CDQuant (arXiv:2406.17542). A sweep needs outputs * inputs^2
/// multiplications, and the first D as many.
/// @param weight [outputs, inputs]
/// @param start of the same shape, groups along axis 1 or one scale per output; all formats
/// @param hessian float32 [inputs, inputs], damped_hessian's or as it is
/// @param errors the objective before and after; may be null
/// @throws Error kInvalidArgument as CodePanels and check_hessian, and for options out of their limits
CompressedWeight coordinate_descent(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& hessian,
                                    const DescentOptions& options = {}, StepErrors* errors = nullptr);

/// The same for one panel, whose `products` it needs.
StepErrors descend_panel(CodePanel& panel, const at::Tensor& hessian, const GroupCodec& codec,
                         const DescentOptions& options);

/// @throws Error kInvalidArgument
void check_descent(const DescentOptions& options);

}  // namespace tsquant
