#include "compression/layer_error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace tsquant {

namespace {

/// Columns of the Hessian at a time.
constexpr int64_t kHessianColumns = 512;

at::Tensor difference_of(const at::Tensor& weight, const at::Tensor& quantized) {
  return quantized.detach().to(at::kDouble) - weight.detach().to(at::kDouble);
}

}  // namespace

double output_energy(const at::Tensor& d, const at::Tensor& hessian) {
  const auto values = d.detach().to(at::kDouble), h = hessian.to(at::kDouble);
  double energy = 0;
  for (int64_t column = 0; column < h.size(1); column += kHessianColumns) {
    const int64_t count = std::min(kHessianColumns, h.size(1) - column);
    const auto block = values.narrow(1, column, count), columns = h.narrow(1, column, count);
    // What lies left of the block counts twice, for its mirror image.
    auto product = at::mm(block, columns.narrow(0, column, count));
    if (column > 0) product.addmm_(values.narrow(1, 0, column), columns.narrow(0, 0, column), 1, 2);
    energy += (product * block).sum().item<double>();
  }
  return std::max(energy, 0.0);
}

double relative_error(double error, double total) {
  if (total > 0) return error / total;
  return error > 0 ? std::numeric_limits<double>::infinity() : 0;
}

double error_by_hessian(const at::Tensor& weight, const at::Tensor& quantized, const at::Tensor& hessian) {
  return relative_error(output_energy(difference_of(weight, quantized), hessian), output_energy(weight, hessian));
}

double energy_by_inputs(const at::Tensor& d, const at::Tensor& inputs) {
  return at::mm(d.detach().to(at::kDouble), inputs.to(at::kDouble)).square().sum().item<double>();
}

double error_by_inputs(const at::Tensor& weight, const at::Tensor& quantized, const at::Tensor& inputs) {
  const auto x = inputs.to(at::kDouble);
  return relative_error(energy_by_inputs(difference_of(weight, quantized), x), energy_by_inputs(weight, x));
}

double energy_of_values(const at::Tensor& d) {
  return d.detach().to(at::kFloat).square().sum(at::kDouble).item<double>();
}

double error_of_values(const at::Tensor& weight, const at::Tensor& quantized) {
  const auto w = weight.to(at::kFloat);
  const double size = energy_of_values(w);
  return size > 0 ? energy_of_values(w - quantized.to(at::kFloat)) / size : 0;
}

}  // namespace tsquant
