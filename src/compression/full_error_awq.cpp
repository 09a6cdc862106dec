#include "compression/full_error_awq.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "compression/layer_matrix.h"
#include "compression/output_error.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void check_column_scale(const std::vector<at::Tensor>& weights, const ColumnScaleOptions& options) {
  if (weights.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no weights share the column scale", "find_column_scale",
                "give one or more");
  }
  if (options.steps >= 1 && options.largest > 0 && std::isfinite(options.largest)) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{} steps to an exponent of {}", options.steps, options.largest),
              "ColumnScaleOptions", "give at least one step to a finite exponent above 0");
}

class ColumnScaleSearch {
 public:
  ColumnScaleSearch(const std::vector<at::Tensor>& weights, const QuantizationSpec& spec, const InputMoments& moments,
                    const ColumnScaleOptions& options)
      : hessian_(moments.hessian()), importance_(moments.mean_square()), options_(options) {
    for (const auto& weight : weights) {
      matrices_.emplace_back(weight, spec, "find_column_scale");
      matrices_.back().check_channels(moments.channels());
      energy_ += output_error(matrices_.back().weight(), {}, hessian_);
    }
  }

  ColumnScale run() const {
    ColumnScale best;
    best.scale = scale_of(0);
    best.error = best.error_without = error_of(best.scale);
    for (int step = 1; step <= options_.steps; ++step) {
      const double exponent = options_.largest * step / options_.steps;
      const auto scale = scale_of(exponent);
      const double error = error_of(scale);
      if (!(error < best.error)) continue;
      best.scale = scale;
      best.error = error;
      best.exponent = exponent;
    }
    return best;
  }

 private:
  /// Channels that were always 0 get the factor of the smallest live one.
  at::Tensor scale_of(double exponent) const {
    const SingleThreadGuard deterministic;
    const auto live = importance_ > 0;
    if (exponent == 0 || !live.any().item<bool>()) return at::ones_like(importance_);
    const auto squares = importance_.to(at::kDouble);
    const auto logs = at::where(live, squares, squares.masked_select(live).min()).log();
    return ((logs - logs.mean()) * (exponent / 2)).exp().to(at::kFloat);
  }

  double error_of(const at::Tensor& scale) const {
    double error = 0;
    for (const LayerMatrix& matrix : matrices_) {
      const auto found =
          search_scales(matrix.weight() * scale, matrix.spec(), importance_ / scale.square(), options_.search);
      error += output_error(matrix.weight(), decompress(found) / scale, hessian_);
    }
    return energy_ > 0 ? error / energy_ : 0;
  }

  at::Tensor hessian_, importance_;
  const ColumnScaleOptions& options_;
  std::vector<LayerMatrix> matrices_;
  double energy_ = 0;
};

}  // namespace

ColumnScale find_column_scale(const std::vector<at::Tensor>& weights, const QuantizationSpec& spec,
                              const InputMoments& moments, const ColumnScaleOptions& options) {
  check_column_scale(weights, options);
  return ColumnScaleSearch(weights, spec, moments, options).run();
}

}  // namespace tsquant
