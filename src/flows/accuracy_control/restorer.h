#pragma once

#include <functional>
#include <vector>

#include "flows/accuracy_control/evaluator.h"
#include "flows/accuracy_control/ranker.h"

namespace tsquant {

/// The user's limit, relative to the metric of the float model.
struct DropLimit {
  double initial_metric = 0, max_drop = 0.01;
  DropType type = DropType::kAbsolute;

  /// How much worse a metric is; not positive when it is not worse.
  double drop(double metric) const;
  /// Drops that equal the limit up to rounding meet it: 0.90 - 0.89 is a little more than 0.01 in binary.
  bool met(double metric) const;
};

/// The best model of a search so far.
struct BestModel {
  QuantizedModel model;
  double metric = 0;
  std::vector<const QuantizerGroup*> reverted;
};

struct RestoreSettings {
  int64_t max_num_iterations = 0, ranking_subset_size = 300, workers = 1;
  Progress progress = {};
  /// Called whenever a better model was found.
  std::function<void(const BestModel&)> on_better = {};
};

struct RestoreOutcome {
  std::vector<RevertedGroup> steps;
  double rank_seconds = 0, restore_seconds = 0;
};

/// Greedy search (NNCF's QuantizationAccuracyRestorer): revert the group with the highest score, validate, go on while
/// it gets better; one worse step is forgiven, a second one in a row is undone and the rest is ranked again from there.
/// Replaces `best` by every better model; stops at the limit, after max_num_iterations, or when no group is left.
RestoreOutcome restore_accuracy(const VariantMaker& maker, const std::vector<QuantizerGroup>& groups,
                                Evaluator& evaluator, const DropLimit& limit, const MetricResults& reference,
                                const MetricResults& quantized, const RestoreSettings& settings, BestModel& best);

}  // namespace tsquant
