#pragma once

#include <vector>

#include "compression/damped_factor.h"
#include "compression/refine_layer.h"

namespace tsquant {

/// H of a layer, damped, and the factor of its inverse.
struct DampedLayer {
  DampedFactor factor;
  at::Tensor hessian;
  double ridge = 0;  ///< what was added to the diagonal
};

/// What the steps of `refine` made of a weight.
struct Climbed {
  CompressedWeight weight;
  double error = 0;                ///< tr((W - Q) H (W - Q)^T), H without damping; only with steps
  std::vector<double> objectives;  ///< the same with damped H: after GPTQ and after each step; empty without steps
};

/// Whether rounds have a sweep of group_descent.
bool uses_groups(Format format, const RefineOptions& options);

/// GPTQ, and `rounds` of coordinate descent, group descent and scale refit, panel by panel.
/// @param weight float32 [outputs, inputs]
/// @param start of it, groups along axis 1
Climbed climb(const at::Tensor& weight, const CompressedWeight& start, const DampedLayer& layer,
              const RefineOptions& options);

}  // namespace tsquant
