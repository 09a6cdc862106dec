#pragma once

#include <c10/util/Optional.h>

#include "compression/compressed_weight.h"
#include "compression/coordinate_descent.h"

namespace tsquant {

struct LowRankOptions {
  int64_t rank = 8;           ///< at least 1; more than the smaller dimension of the weight counts as that
  bool int8_adapters = true;  ///< both matrices in INT8_ASYM, one scale per row
  /// Then quantize W - B A instead of W, and compute the adapters once more; kept when that lowers the error.
  bool alternate = false;
  DescentOptions descent = {};  ///< of that
};

/// A matrix of a low-rank correction as it is applied.
struct Adapter {
  at::Tensor values;                      ///< float32
  c10::optional<CompressedWeight> codes;  ///< what they are the values of, with int8_adapters
};

/// y = x Q^T + (x A^T) B^T, the best of its rank.
struct LowRankCorrection {
  CompressedWeight weight;  ///< Q: the given one, or that of `alternate`
  Adapter a;                ///< [rank, inputs]
  Adapter b;                ///< [outputs, rank]
  double error_before = 0;  ///< relative_output_error without the correction
  double error_after = 0;
  bool alternated = false;  ///< whether Q is another one
};

/// The correction of rank r that minimises tr(E H E^T) with E = W - Q - B A: B has the r largest principal components
/// of the output error (W - Q) H (W - Q)^T, and A = B^T (W - Q). It is the solution of QERA (arXiv:2410.06040), B A =
/// SVD_r((W - Q) H^1/2) H^-1/2, without a root or an inverse of H, so that a singular H needs no damping. With int8
/// adapters A is fitted to the rounded B before it is rounded.
/// @param weight [outputs, inputs]
/// @param compressed of the same shape, groups along axis 1 or one scale per output; all formats
/// @param hessian float32 [inputs, inputs], as InputMoments gives it
/// @throws Error kInvalidArgument as CodePanels and check_hessian, and for options out of their limits
LowRankCorrection correct_low_rank(const at::Tensor& weight, const CompressedWeight& compressed,
                                   const at::Tensor& hessian, const LowRankOptions& options = {});

}  // namespace tsquant
