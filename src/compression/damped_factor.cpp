#include "compression/damped_factor.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "compression/blocked_cholesky.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr const char* kAdvice = "check the calibration data and the model before this layer, or leave the layer out";

void check_damping(const DampingOptions& options) {
  if (options.damping > 0 && options.largest >= options.damping && std::isfinite(options.largest)) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("a damping of {} that may grow to {}", options.damping, options.largest), "DampingOptions",
              "give a damping above 0 and a finite limit that is not below it");
}

at::Tensor order_of(const at::Tensor& hessian, bool by_size) {
  if (!by_size) return at::arange(hessian.size(0), at::kLong);
  return std::get<1>(at::sort(hessian.diagonal(), /*stable=*/true, /*dim=*/0, /*descending=*/true));
}

}  // namespace

void check_hessian(const at::Tensor& hessian, int64_t inputs) {
  if (hessian.dim() != 2 || hessian.size(0) != inputs || hessian.size(1) != inputs || inputs == 0 ||
      hessian.scalar_type() != at::kFloat) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a Hessian of type {} and shape [{}] for {} inputs", c10::toString(hessian.scalar_type()),
                            fmt::join(hessian.sizes(), ", "), inputs),
                "", "give float32 [inputs, inputs] from the inputs of this layer");
  }
  if (!at::isfinite(hessian).all().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "the mean of x^T x has NaN or infinite values", "", kAdvice);
  }
  if ((hessian.diagonal() < 0).any().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "the mean of x^T x has a negative diagonal", "", kAdvice);
  }
}

double damping_ridge(const at::Tensor& hessian, double damping) {
  const SingleThreadGuard deterministic;
  const auto diagonal = hessian.diagonal().to(at::kDouble);
  const auto live = (diagonal > 0).sum().item<int64_t>();
  return damping * (live > 0 ? diagonal.sum().item<double>() / static_cast<double>(live) : 1);
}

at::Tensor damped_hessian(const at::Tensor& hessian, double damping) {
  check_hessian(hessian, hessian.dim() > 0 ? hessian.size(0) : 0);
  auto result = hessian.clone(at::MemoryFormat::Contiguous);
  result.diagonal().add_(damping_ridge(hessian, damping));
  return result;
}

// With P the reversal and P H P = M M^T, H = R R^T with R = P M P upper triangular, and U = R^-1 = P M^-1 P.
DampedFactor damped_factor(const at::Tensor& hessian, const DampingOptions& options) {
  check_damping(options);
  check_hessian(hessian, hessian.dim() > 0 ? hessian.size(0) : 0);
  DampedFactor result;
  result.order = order_of(hessian, options.act_order);
  result.dead = (hessian.diagonal() == 0).sum().item<int64_t>();
  const auto reversed = result.order.flip({0});
  for (result.damping = options.damping;; result.damping *= 10) {
    ++result.attempts;
    auto matrix = hessian.index_select(0, reversed).index_select(1, reversed).to(at::kDouble);
    matrix.diagonal().add_(damping_ridge(hessian, result.damping));
    if (factorize_cholesky(matrix)) {
      result.upper = inverse_of_lower(matrix).flip({0, 1});
      return result;
    }
    if (result.damping * 10 > options.largest) break;
  }
  throw Error(ErrorCode::kCalibration,
              fmt::format("no damping up to {} makes the mean of x^T x positive definite", result.damping), "",
              kAdvice);
}

}  // namespace tsquant
