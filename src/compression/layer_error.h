#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant {

/// How far a layer with quantized weights is from the float one, before and after an algorithm: the squared error of
/// its outputs relative to their square, on the data that the algorithm was given.
struct OutputError {
  double before = 0;  ///< with plain rounding, or with what the algorithm was given to improve
  double after = 0;
};

/// tr(D H D^T): the mean square of the outputs of a layer with the weights D, up to the factor of H.
/// @param d [out_features, in_features]
/// @param hessian [in_features, in_features], E[x x^T] up to a factor, symmetric
double output_energy(const at::Tensor& d, const at::Tensor& hessian);

/// Energy of an error relative to that of the weight: 0 when both are 0, infinity when only the second is.
double relative_error(double error, double total);

/// tr(D H D^T) / tr(W H W^T) with D = quantized - weight.
double error_by_hessian(const at::Tensor& weight, const at::Tensor& quantized, const at::Tensor& hessian);

/// The square of the outputs D X, summed.
/// @param d [out_features, in_features] @param inputs X, [in_features, samples]
double energy_by_inputs(const at::Tensor& d, const at::Tensor& inputs);

/// tr(D H D^T) / tr(W H W^T) with H = X X^T.
/// @param inputs X, [in_features, samples]
double error_by_inputs(const at::Tensor& weight, const at::Tensor& quantized, const at::Tensor& inputs);

/// ||D||^2, where nothing is known of the inputs.
double energy_of_values(const at::Tensor& d);

/// ||W - Q||^2 / ||W||^2, where nothing is known of the inputs; 0 for a weight of zeros.
double error_of_values(const at::Tensor& weight, const at::Tensor& quantized);

}  // namespace tsquant
