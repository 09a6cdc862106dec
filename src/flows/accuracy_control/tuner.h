#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// Everything that tuning may change.
struct TunedSettings {
  std::shared_ptr<Quantizer> quantizer;
  QuantizePt2eOptions options;
};

/// One value of a parameter.
struct ParameterValue {
  std::string label;
  std::function<void(TunedSettings&)> apply;
};

/// A parameter and the values to try.
struct ParameterGrid {
  std::string name;
  std::vector<ParameterValue> values;
};

/// NNCF's grids (hyperparameter_tuner/param_grid.py), in its order, as far as they apply to the settings: SmoothQuant
/// when it is on, propagation rule and preset of quantizers that have them, range estimators, fast or accurate bias
/// correction.
std::vector<ParameterGrid> parameter_grids(const TunedSettings& settings);

/// The value chosen for a parameter that was changed.
struct TunedChoice {
  std::string parameter, value;
};

/// Finds the best value of one parameter after another, with those found before. Values that score exactly like the
/// settings so far replace nothing.
/// @param start_score of the settings as they are
/// @param score       higher is better; not a number: this combination cannot be used
std::vector<TunedChoice> tune(TunedSettings& settings, double start_score, const std::vector<ParameterGrid>& grids,
                              const std::function<double(const TunedSettings&)>& score);

}  // namespace tsquant
