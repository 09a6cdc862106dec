#include "compression/output_error.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "compression/damped_factor.h"
#include "compression/layer_error.h"
#include "compression/row_panels.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr int64_t kErrorRows = 256;

}  // namespace

at::Tensor output_errors(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian) {
  if (weight.dim() != 2 || (values.defined() && values.sizes() != weight.sizes())) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("the error of a weight of shape [{}] with values of shape [{}]", fmt::join(weight.sizes(), ", "),
                    values.defined() ? fmt::to_string(fmt::join(values.sizes(), ", ")) : ""),
        "", "give matrices of one shape");
  }
  check_hessian(hessian, weight.size(1));
  const auto result = at::empty({weight.size(0)}, at::kDouble);
  for_each_panel(panels_of(weight.size(0), kErrorRows), [&](int64_t panel) {
    const int64_t first = panel * kErrorRows, rows = std::min(kErrorRows, weight.size(0) - first);
    auto difference = weight.detach().narrow(0, first, rows).to(at::kFloat);
    if (values.defined()) difference = difference - values.narrow(0, first, rows).to(at::kFloat);
    const auto products = at::mm(difference, hessian).to(at::kDouble).mul_(difference);
    result.narrow(0, first, rows).copy_(products.sum(1));
  });
  return result;
}

double output_error(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian) {
  const auto errors = output_errors(weight, values, hessian);
  const SingleThreadGuard deterministic;
  return errors.sum().item<double>();
}

double relative_output_error(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian) {
  return relative_error(std::max(output_error(weight, values, hessian), 0.0), output_error(weight, {}, hessian));
}

}  // namespace tsquant
