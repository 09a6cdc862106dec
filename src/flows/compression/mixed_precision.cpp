#include "flows/compression/mixed_precision.h"

#include <ATen/ATen.h>

#include "compression/sensitivity.h"
#include "flows/compression/layer_inputs.h"

namespace tsquant {

namespace {

double score_of(const WeightLayer& layer, SensitivityMetric metric) {
  if (metric == SensitivityMetric::kWeightQuantizationError) {
    return sensitivity(layer.weight, output_axis(layer), metric);
  }
  const bool measured = layer.inputs && layer.inputs->statistics().samples > 0;
  return measured ? sensitivity(layer.weight, output_axis(layer), metric, &layer.inputs->statistics())
                  : kLowestSensitivity;
}

}  // namespace

SensitivityMetric metric_of(const CompressPt2eOptions& options) {
  if (options.sensitivity_metric) return *options.sensitivity_metric;
  return options.dataset ? SensitivityMetric::kMaxActivationVariance : SensitivityMetric::kWeightQuantizationError;
}

void assign_mixed_precision(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options, RankGroup& ranks,
                            Report& report) {
  if (options.ratio == 1) return;
  std::vector<WeightLayer*> candidates;
  std::vector<double> scores;
  std::vector<int64_t> sizes;
  for (WeightLayer& layer : layers) {
    if (!layer.ratio_defining() || layer.in_float) continue;
    candidates.push_back(&layer);
    sizes.push_back(layer.weight.numel());
  }
  const auto measure = [&](size_t i) {
    const double score = score_of(*candidates[i], metric_of(options));
    return LayerResult{{at::tensor({score}, at::kDouble)}};
  };
  ranks.share(sizes, measure, [&](size_t i, const LayerResult& result) {
    candidates[i]->record.score = result.tensors.at(0).item<double>();
    scores.push_back(candidates[i]->record.score);
  });
  if (candidates.empty()) {
    report.warnings.emplace_back("ratio has no effect: no weight counts for it");
    return;
  }
  const auto primary = assign_precision(scores, sizes, options.ratio);
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!primary[i]) use_backup(*candidates[i]);
  }
}

}  // namespace tsquant
