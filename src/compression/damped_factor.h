#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant {

struct DampingOptions {
  double damping = 0.01;  ///< of the mean of H's diagonal, added to all of it; above 0
  double largest = 100;   ///< as far as the damping may grow; at least `damping`
  bool act_order = true;  ///< columns of large H_jj first; false: as they are
};

/// What GPTQ needs of H = E[x^T x]: the upper triangular U with H^-1 = U^T U for the damped H.
struct DampedFactor {
  at::Tensor upper;      ///< U, float32 [n, n]
  at::Tensor order;      ///< int64 [n]: row and column i of U belong to column order[i] of the weight
  double damping = 0;    ///< with which H was positive definite
  int64_t attempts = 0;  ///< dampings tried
  int64_t dead = 0;      ///< columns with H_jj = 0: no input was ever other than 0
};

/// Damps H, tenfold more each time that it is not positive definite, and factorizes its inverse by one Cholesky
/// decomposition of H with rows and columns in reverse, in float64. A singular H, of few rows or with dead columns,
/// needs no more than the damping.
/// @param hessian float32 [n, n], symmetric, as InputMoments gives it
/// @throws Error kInvalidArgument for options out of their limits and another shape; kCalibration for NaN or infinite
///         values, and when even the largest damping is not enough: such a matrix is no mean of x^T x
DampedFactor damped_factor(const at::Tensor& hessian, const DampingOptions& options = {});

/// What a damping adds to the diagonal: the mean of live columns' H_jj times it; the mean is 1 when there are none.
double damping_ridge(const at::Tensor& hessian, double damping);

/// H + damping_ridge I. @throws Error as damped_factor
at::Tensor damped_hessian(const at::Tensor& hessian, double damping);

/// @param inputs columns of the weight
/// @throws Error kInvalidArgument when H is not float32 [inputs, inputs]; kCalibration for NaN, infinite values, or a
///         negative diagonal
void check_hessian(const at::Tensor& hessian, int64_t inputs);

}  // namespace tsquant
