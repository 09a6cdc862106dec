#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant {

/// Orthonormal eigenvectors [n, count] of the largest eigenvalues of a symmetric positive semidefinite matrix, the
/// largest first: by subspace iteration from a fixed start until their share of the trace stands still to 1e-10, which
/// for few of many takes a fraction of a whole decomposition's time. The bits do not depend on the number of threads.
/// @param matrix float64 [n, n]
/// @param count 1 to n
at::Tensor principal_components(const at::Tensor& matrix, int64_t count);

}  // namespace tsquant
