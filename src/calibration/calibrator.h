#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "numerics/qparams.h"
#include "observers/distinct_values.h"
#include "run/tap_runner.h"
#include "tsquant/annotation.h"
#include "tsquant/dataset.h"
#include "tsquant/graph_view.h"
#include "tsquant/observer.h"
#include "tsquant/progress.h"
#include "tsquant/range_estimator.h"

namespace tsquant {

class StatisticsCache;     // statistics_cache.h
class StatisticsExchange;  // tsquant/distributed.h

/// Statistics by point id.
struct StatTable {
  std::map<int64_t, std::unique_ptr<Observer>> observers;
  std::map<int64_t, DistinctValues> distinct;  ///< of activations that this process saw, not of saved statistics
  int64_t samples = 0;                         ///< -1: not counted
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
  bool inplace = true;  ///< false: keep all tensors of a sample and reduce them after its run
  Progress progress = {};
  RangeEstimatorParameters activations_range_estimator = {};  ///< unset fields: the default of each tensor
  RangeEstimatorParameters weights_range_estimator = {};
  std::vector<ExtraTap> extra_taps = {};
  WeightPages weight_pages = WeightPages::kKeep;  ///< of weights in a mapped file
  /// Name of this run in statistics files; each run of a flow has its own.
  std::string collection = "activations";
  /// Options that decide what is observed, by name: they explain why statistics of another run do not fit.
  std::map<std::string, std::string> settings = {};
  std::shared_ptr<StatisticsCache> cache = nullptr;        ///< none: statistics are always collected
  std::shared_ptr<StatisticsExchange> exchange = nullptr;  ///< none: this process alone
};

/// Runs the samples through the model and feeds an observer at every annotated point; weight points are read once.
///
/// With a cache, the states of all activation observers, extra ones included, are read instead when they were collected
/// from the same model, samples and settings: every argument of all used samples is hashed, so the samples are read
/// but not run. With an exchange each process runs its share of the samples, and all get the statistics that one
/// process would have collected, bit for bit (sharded_run.h).
/// @throws Error kDataset (empty data set, sample that does not fit), kInvalidArgument (subset_size < 1),
///         kCalibration (NaN or Inf in the inputs or weights, NaN at a point; names the place; statistics or ranks that
///         do not match), kCancelled
/// Infinite values that the model itself makes from finite inputs, such as attention masks, are left out of the ranges
/// and reported in `warnings`.
StatTable calibrate(const Model& model, const GraphView& view, const Annotations& annotations, const Dataset& dataset,
                    const CalibrationOptions& options);

/// How many samples are used: `subset_size`, or all of a smaller data set, which adds a warning.
/// @throws Error kDataset (empty data set), kInvalidArgument (subset_size < 1)
int64_t checked_sample_count(const Dataset& dataset, int64_t subset_size, std::vector<std::string>& warnings);

/// The part of `calibrate` that needs no data: statistics of all weight points that are not in `table` yet.
/// @throws Error kCalibration for weights that are not finite
void observe_weights(const Model& model, const GraphView& view, const Annotations& annotations,
                     const RangeEstimatorParameters& estimator, StatTable& table);

/// Turns statistics into parameters; the members of a unified group get the same ones. Points that no sample reached
/// (a branch that was never taken) get no entry.
QParamTable compute_qparams(const Annotations& annotations, const StatTable& stats);

}  // namespace tsquant
