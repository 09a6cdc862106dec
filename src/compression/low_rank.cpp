#include "compression/low_rank.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "compression/blocked_cholesky.h"
#include "compression/damped_factor.h"
#include "compression/output_error.h"
#include "compression/principal_components.h"
#include "compression/round_to_nearest.h"
#include "compression/row_panels.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Of the mean of diag H: where outputs outnumber inputs a root of H is needed, and H may be singular.
constexpr double kRootDamping = 1e-8;

/// L with H = L L^T, up to a trace of damping.
at::Tensor root_of(const at::Tensor& hessian) {
  for (double damping = kRootDamping;; damping *= 10) {
    auto matrix = damped_hessian(hessian, damping).to(at::kDouble);
    if (factorize_cholesky(matrix)) return matrix.tril();
    if (damping > 1) {
      throw Error(ErrorCode::kCalibration, "the mean of x^T x is not positive semidefinite", "correct_low_rank",
                  "check the calibration data, or leave the layer out");
    }
  }
}

/// Orthonormal [outputs, rank]: the directions of outputs with the largest error.
at::Tensor main_directions(const at::Tensor& difference, const at::Tensor& hessian, int64_t rank) {
  if (difference.size(0) <= difference.size(1)) {
    const auto products = panel_product(difference, hessian);
    return principal_components(panel_product(products, difference.to(at::kDouble).t()), rank);
  }
  // The same from the smaller of both squares of (W - Q) L.
  const auto error = panel_product(difference.to(at::kDouble), root_of(hessian));
  const auto right = principal_components(panel_product(error.t().contiguous(), error), rank);
  return std::get<0>(at::linalg_qr(panel_product(error, right)));
}

Adapter adapter_of(const at::Tensor& values, bool int8) {
  Adapter result;
  result.values = values.to(at::kFloat).contiguous();
  if (!int8) return result;
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = true;
  result.codes = round_to_nearest(result.values, spec);
  result.values = decompress(*result.codes);
  return result;
}

void check_low_rank(const at::Tensor& weight, const CompressedWeight& compressed, const at::Tensor& hessian,
                    const LowRankOptions& options) {
  const CodePanels panels(weight, compressed, "correct_low_rank");
  check_hessian(hessian, panels.inputs());
  check_descent(options.descent);
  if (options.rank >= 1) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("a correction of rank {}", options.rank), "LowRankOptions",
              "give at least 1");
}

class LowRankFit {
 public:
  LowRankFit(const at::Tensor& weight, const at::Tensor& hessian, const LowRankOptions& options)
      : weight_(weight.detach().to(at::kFloat)),
        hessian_(hessian),
        options_(options),
        energy_(output_error(weight_, {}, hessian_)) {}

  LowRankCorrection run(const CompressedWeight& compressed) const {
    auto result = corrected(compressed);
    if (!options_.alternate) return result;
    const auto rest = weight_ - at::mm(result.b.values, result.a.values);
    auto second = corrected(coordinate_descent(rest, compressed, hessian_, options_.descent));
    if (!(second.error_after < result.error_after)) return result;
    second.error_before = result.error_before;
    second.alternated = true;
    return second;
  }

 private:
  LowRankCorrection corrected(const CompressedWeight& compressed) const {
    const SingleThreadGuard deterministic;
    LowRankCorrection result;
    result.weight = compressed;
    const auto difference = weight_ - decompress(compressed);
    const int64_t rank = std::min({options_.rank, weight_.size(0), weight_.size(1)});
    result.b = adapter_of(main_directions(difference, hessian_, rank), options_.int8_adapters);
    // Least squares for the rounded B, whatever H is.
    const auto inverse = at::linalg_pinv(result.b.values.to(at::kDouble));
    result.a = adapter_of(at::mm(inverse, difference.to(at::kDouble)), options_.int8_adapters);
    result.error_before = relative(difference, {});
    result.error_after = relative(difference, at::mm(result.b.values, result.a.values));
    return result;
  }

  double relative(const at::Tensor& difference, const at::Tensor& correction) const {
    const double error = output_error(difference, correction, hessian_);
    return energy_ > 0 ? std::max(error, 0.0) / energy_ : 0;
  }

  at::Tensor weight_, hessian_;
  const LowRankOptions& options_;
  double energy_;
};

}  // namespace

LowRankCorrection correct_low_rank(const at::Tensor& weight, const CompressedWeight& compressed,
                                   const at::Tensor& hessian, const LowRankOptions& options) {
  check_low_rank(weight, compressed, hessian, options);
  return LowRankFit(weight, hessian, options).run(compressed);
}

}  // namespace tsquant
