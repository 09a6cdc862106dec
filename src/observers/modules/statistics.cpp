#include "observers/modules/statistics.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "observers/histogram.h"
#include "observers/modules/histogram_search_1_13.h"
#include "observers/modules/type_names.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

std::pair<float, float> search(const at::Tensor& counts, const ObserverConfig& config, float min, float max) {
  if (config.histogram_rule == HistogramRule::kTorch1_13) return search_histogram_1_13(counts, min, max);
  const auto exact = counts.to(at::kDouble).contiguous();
  const double* data = exact.data_ptr<double>();
  const auto bins = static_cast<size_t>(exact.numel());
  return Histogram({data, data + bins}, std::vector<int64_t>(bins, 0), min, max).search();
}

}  // namespace

Range observed_range(const torch::jit::Module& observer, const ObserverConfig& config) {
  const at::NoGradGuard no_grad;
  const auto low = observer.attr("min_val").toTensor().detach().to(at::kFloat).reshape({-1});
  const auto high = observer.attr("max_val").toTensor().detach().to(at::kFloat).reshape({-1});
  if (low.numel() != high.numel()) {
    throw Error(ErrorCode::kCalibration,
                fmt::format("{} minima and {} maxima were observed", low.numel(), high.numel()),
                class_name(config.type), "load both from the same state dict");
  }
  const auto untouched = (low == INFINITY).logical_and(high == -INFINITY);
  if (low.numel() == 0 || untouched.all().item<bool>()) return {};
  if (!(low <= high).all().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "the smallest value observed is above the largest one, or NaN",
                class_name(config.type), "check the calibration data for NaN");
  }
  if (config.type != ObserverType::kHistogram) return {low.clone(), high.clone()};
  const auto found =
      search(observer.attr("histogram").toTensor().detach(), config, low.item<float>(), high.item<float>());
  return {at::full({1}, found.first, at::kFloat), at::full({1}, found.second, at::kFloat)};
}

}  // namespace tsquant
