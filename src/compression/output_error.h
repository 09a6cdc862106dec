#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant {

/// (W - Q) H (W - Q)^T of each row: with H = E[x^T x] the mean squared error of each output. Products are computed in
/// float32, panel by panel on several threads, and added in float64.
/// @param weight, values W and Q [outputs, inputs]; the latter undefined: 0, which gives the outputs' mean square
/// @param hessian float32 [inputs, inputs]
/// @returns float64 [outputs]
/// @throws Error kInvalidArgument when the shapes differ
at::Tensor output_errors(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian);

/// Their sum, tr((W - Q) H (W - Q)^T).
double output_error(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian);

/// The same divided by the sum of the outputs' mean squares; 0 when both are 0.
double relative_output_error(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian);

}  // namespace tsquant
