#include "flows/accuracy_control/tuner.h"

#include <fmt/format.h>

#include <cmath>

#include "tsquant/error.h"

namespace tsquant {

namespace {

struct NamedBound {
  std::string label;
  StatisticsCollectorParameters parameters;
};

std::vector<NamedBound> bounds(StatisticsType extreme, AggregatorType aggregator, const std::string& label) {
  std::vector<NamedBound> result{{label, {extreme, aggregator}}};
  for (double probability : {1e-3, 1e-4}) {
    StatisticsCollectorParameters quantile{StatisticsType::kQuantile, AggregatorType::kMean};
    quantile.quantile_outlier_prob = probability;
    result.push_back({fmt::format("quantile {:g}", probability), quantile});
  }
  return result;
}

ParameterGrid smooth_quant_grid() {
  ParameterGrid grid{"smooth_quant_matmul", {}};
  for (double alpha : {0.15, 0.25, 0.5, 0.75, 0.95}) {
    grid.values.push_back(
        {fmt::format("{:g}", alpha), [alpha](TunedSettings& s) { s.options.smooth_quant_params.matmul = alpha; }});
  }
  return grid;
}

/// Values of an option of the quantizer; none when it does not have the option.
ParameterGrid quantizer_grid(const Quantizer& quantizer, const std::string& option,
                             const std::vector<std::string>& values) {
  ParameterGrid grid{option, {}};
  if (!quantizer.with_option(option, values.front())) return grid;
  for (const auto& value : values) {
    const auto apply = [option, value](TunedSettings& s) {
      if (auto other = s.quantizer->with_option(option, value)) s.quantizer = std::move(other);
    };
    grid.values.push_back({value, apply});
  }
  return grid;
}

std::vector<ParameterGrid> placement_grids(const Quantizer& quantizer) {
  return {quantizer_grid(quantizer, "quantizer_propagation_rule", {"merge_if_all_branches_same"}),
          quantizer_grid(quantizer, "preset", {"performance", "mixed"})};
}

ParameterGrid weights_estimator_grid() {
  RangeEstimatorParameters extrema;
  extrema.min.statistics_type = StatisticsType::kMin;
  extrema.max.statistics_type = StatisticsType::kMax;
  return {"weights_range_estimator_params",
          {{"min .. max", [extrema](TunedSettings& s) { s.options.weights_range_estimator_params = extrema; }}}};
}

ParameterGrid activations_estimator_grid() {
  ParameterGrid grid{"activations_range_estimator_params", {}};
  for (const auto& lower : bounds(StatisticsType::kMin, AggregatorType::kMin, "min")) {
    for (const auto& upper : bounds(StatisticsType::kMax, AggregatorType::kMax, "max")) {
      const RangeEstimatorParameters range{lower.parameters, upper.parameters};
      grid.values.push_back({fmt::format("{} .. {}", lower.label, upper.label),
                             [range](TunedSettings& s) { s.options.activations_range_estimator_params = range; }});
    }
  }
  return grid;
}

ParameterGrid bias_correction_grid() {
  return {"fast_bias_correction",
          {{"true", [](TunedSettings& s) { s.options.fast_bias_correction = true; }},
           {"false", [](TunedSettings& s) { s.options.fast_bias_correction = false; }}}};
}

}  // namespace

std::vector<ParameterGrid> parameter_grids(const TunedSettings& settings) {
  std::vector<ParameterGrid> grids;
  if (settings.options.smooth_quant) grids.push_back(smooth_quant_grid());
  for (auto& grid : placement_grids(*settings.quantizer)) {
    if (!grid.values.empty()) grids.push_back(std::move(grid));
  }
  grids.push_back(weights_estimator_grid());
  grids.push_back(activations_estimator_grid());
  // Without bias correction there is no such step in NNCF's pipeline either.
  if (settings.options.fast_bias_correction) grids.push_back(bias_correction_grid());
  return grids;
}

std::vector<TunedChoice> tune(TunedSettings& settings, double start_score, const std::vector<ParameterGrid>& grids,
                              const std::function<double(const TunedSettings&)>& score) {
  std::vector<TunedChoice> choices;
  double best_score = start_score;
  for (const auto& grid : grids) {
    const TunedSettings start = settings;
    const ParameterValue* best = nullptr;
    for (const auto& value : grid.values) {
      TunedSettings candidate = start;
      double result = std::nan("");
      try {
        value.apply(candidate);
        result = score(candidate);
      } catch (const Error& error) {
        // A combination that the quantizer or this model does not allow is left out, anything else is not ours to
        // judge.
        if (error.code() != ErrorCode::kInvalidArgument && error.code() != ErrorCode::kUnsupportedModel) throw;
      }
      if (std::isnan(result) || result <= best_score) continue;
      best_score = result;
      best = &value;
    }
    if (!best) continue;
    best->apply(settings);
    choices.push_back({grid.name, best->label});
  }
  return choices;
}

}  // namespace tsquant
