#include "compression/column_scale.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "compression/layer_matrix.h"
#include "compression/scale_search.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void check_column_scale(const std::vector<at::Tensor>& weights, const ColumnScaleOptions& options) {
  if (weights.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no weights share the column scale", "find_column_scale",
                "give one or more");
  }
  if (options.steps >= 1 && options.rows >= 1 && options.worth > 0 && options.worth <= 1) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} steps on {} rows, worth it from {}", options.steps, options.rows, options.worth),
              "ColumnScaleOptions", "give at least one step and row, and a share above 0 and at most 1");
}

/// log sqrt(x); what was never seen counts as the smallest value that was.
at::Tensor half_log(const at::Tensor& squares) {
  const auto live = squares > 0;
  if (!live.any().item<bool>()) return at::zeros_like(squares);
  return at::where(live, squares, squares.masked_select(live).min()).log() / 2;
}

class ColumnScaleSearch {
 public:
  ColumnScaleSearch(const std::vector<at::Tensor>& weights, const QuantizationSpec& spec, const at::Tensor& mean_square,
                    const ColumnScaleOptions& options)
      : importance_(mean_square.to(at::kFloat)) {
    at::Tensor squares = at::zeros({mean_square.numel()}, at::kDouble);
    int64_t outputs = 0;
    for (const auto& weight : weights) {
      const LayerMatrix whole(weight, spec, "find_column_scale");
      whole.check_channels(mean_square.numel());
      squares += whole.weight().square().sum(0, /*keepdim=*/false, at::kDouble);
      outputs += weight.size(0);
      const int64_t stride = std::max<int64_t>(1, weight.size(0) / options.rows);
      matrices_.emplace_back(whole.weight().slice(0, 0, c10::nullopt, stride).contiguous(), spec, "find_column_scale");
      energy_ += (matrices_.back().weight().square() * importance_).sum(at::kDouble).item<double>();
    }
    inputs_ = half_log(mean_square.to(at::kDouble));
    columns_ = half_log(squares / static_cast<double>(outputs));
  }

  ColumnScale run(int steps, double worth) const {
    ColumnScale best;
    best.scale = at::ones({importance_.numel()});
    best.error = best.error_without = error_of(best.scale);
    const auto consider = [&](const at::Tensor& logs) {
      const at::Tensor scale = (logs - logs.mean()).exp().to(at::kFloat);
      const double error = error_of(scale);
      if (error < best.error && error < worth * best.error_without) {
        best.scale = scale;
        best.error = error;
      }
    };
    for (int step = 1; step <= steps; ++step) consider(inputs_ * (static_cast<double>(step) / steps));
    for (int step = -steps; step < steps; ++step) {
      consider((inputs_ - columns_) / 2 + (inputs_ + columns_) * (static_cast<double>(step) / (2 * steps)));
    }
    return best;
  }

 private:
  double error_of(const at::Tensor& scale) const {
    double error = 0;
    for (const LayerMatrix& matrix : matrices_) {
      const auto found = search_scales(matrix.weight() * scale, matrix.spec(), importance_ / scale.square());
      const at::Tensor difference = matrix.weight() - decompress(found) / scale;
      error += (difference.square() * importance_).sum(at::kDouble).item<double>();
    }
    return energy_ > 0 ? error / energy_ : 0;
  }

  const SingleThreadGuard deterministic_;
  at::Tensor importance_;
  at::Tensor inputs_, columns_;  ///< logarithms of m and n
  std::vector<LayerMatrix> matrices_;
  double energy_ = 0;
};

}  // namespace

ColumnScale find_column_scale(const std::vector<at::Tensor>& weights, const QuantizationSpec& spec,
                              const at::Tensor& mean_square, const ColumnScaleOptions& options) {
  check_column_scale(weights, options);
  return ColumnScaleSearch(weights, spec, mean_square, options).run(options.steps, options.worth);
}

}  // namespace tsquant
