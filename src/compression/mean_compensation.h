#pragma once

#include "compression/compressed_weight.h"

namespace tsquant {

/// (W - Q) E[x], float32 [outputs]: added to the bias, it takes the mean error from each output of y = x W^T + bias;
/// what remains of the squared error is that of the inputs' covariance, never more.
/// @param weight [outputs, inputs], floating point
/// @param values Q of the same shape
/// @param mean E[x], [inputs], as InputMoments gives it
/// @throws Error kInvalidArgument when shapes do not fit; kCalibration for NaN or infinite results
at::Tensor mean_compensation(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& mean);

}  // namespace tsquant
