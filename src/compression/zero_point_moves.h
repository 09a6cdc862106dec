#pragma once

#include "compression/code_panels.h"

namespace tsquant {

/// Moves zero points of asymmetric integers by one where that lowers tr((W - Q) H (W - Q)^T), codes and scales fixed:
/// all values of the group then change by the scale. By t, the error of a row changes by t^2 G_kk - 2 t S_k, with S_k
/// the sum of D = (W - Q) H over the group and G the sums of H over pairs of groups, so that only these are needed.
class ZeroPointMoves {
 public:
  /// @param q of the weight; other formats have nothing to move
  /// @param hessian float32 [inputs, inputs]
  ZeroPointMoves(const QParams& q, const at::Tensor& hessian, int64_t group_size);

  /// Changes zero points, levels and products of a measured panel.
  void run(CodePanel& panel) const;

 private:
  /// One move for each row where it helps; how far values move, [groups, rows], gets what it does.
  bool try_group(CodePanel& panel, int64_t group, at::Tensor& sums, at::Tensor& moved) const;

  bool has_zero_points_;
  int64_t lowest_, highest_;
  at::Tensor group_rows_;   ///< float32 [groups, inputs]: H summed over the rows of a group
  at::Tensor group_cells_;  ///< G, float64 [groups, groups]
};

}  // namespace tsquant
