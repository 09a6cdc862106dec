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

double error_by_inputs(const at::Tensor& weight, const at::Tensor& quantized, const at::Tensor& inputs) {
  const auto x = inputs.to(at::kDouble);
  const auto energy_of = [&](const at::Tensor& d) { return at::mm(d, x).square().sum().item<double>(); };
  return relative_error(energy_of(difference_of(weight, quantized)), energy_of(weight.detach().to(at::kDouble)));
}

double error_of_values(const at::Tensor& weight, const at::Tensor& quantized) {
  const auto w = weight.to(at::kFloat);
  const double size = w.square().sum(at::kDouble).item<double>();
  return size > 0 ? (w - quantized.to(at::kFloat)).square().sum(at::kDouble).item<double>() / size : 0;
}

}  // namespace tsquant
