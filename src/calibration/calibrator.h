#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "graph/tap_runner.h"
#include "numerics/qparams.h"
#include "tsquant/annotation.h"
#include "tsquant/dataset.h"
#include "tsquant/graph_view.h"
#include "tsquant/observer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// Statistics by point id.
struct StatTable {
  std::map<int64_t, std::unique_ptr<Observer>> observers;
  int64_t samples = 0;
  /// Remarks for the report: fewer samples than asked for, weights that could not be read, infinite values.
  std::vector<std::string> warnings;
};

/// Statistics that an algorithm wants from the same run.
struct ExtraTap {
  TapPoint point;
  Observer* observer = nullptr;  ///< owned by the algorithm
  std::string node;              ///< for error messages
};

struct CalibrationOptions {
  int64_t subset_size = 300;
  bool batchwise = false;
  Progress progress = {};
  RangeEstimatorParameters activations_range_estimator = {};  ///< unset fields: the default of each tensor
  RangeEstimatorParameters weights_range_estimator = {};
  std::vector<ExtraTap> extra_taps = {};
};

/// Runs the samples through the model and feeds an observer at every annotated point; weight points are read once.
/// @throws Error kDataset (empty data set, sample that does not fit), kInvalidArgument (subset_size < 1),
///         kCalibration (NaN or Inf in the inputs or weights, NaN at a point; names the place), kCancelled
/// Infinite values that the model itself makes from finite inputs, such as attention masks, are left out of the ranges
/// and reported in `warnings`.
StatTable calibrate(const Model& model, const GraphView& view, const Annotations& annotations, const Dataset& dataset,
                    const CalibrationOptions& options);

using QParamTable = std::map<int64_t, QParams>;

/// Turns statistics into parameters; the members of a unified group get the same ones. Points that no sample reached
/// (a branch that was never taken) get no entry.
QParamTable compute_qparams(const Annotations& annotations, const StatTable& stats);

}  // namespace tsquant
