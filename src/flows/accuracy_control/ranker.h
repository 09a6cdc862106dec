#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "flows/accuracy_control/evaluator.h"
#include "flows/accuracy_control/quantizer_groups.h"
#include "flows/prepared_model.h"

namespace tsquant {

/// Makes quantized models in which some groups are float. May be used from several threads: LibTorch registers the
/// types of every copy in one shared table, so models are made one at a time.
class VariantMaker {
 public:
  VariantMaker(const PreparedModel& prepared, const QuantizePt2eOptions& options, RestoreMode restore_mode)
      : prepared_(prepared), options_(options), restore_mode_(restore_mode) {}

  QuantizedModel make(const std::vector<const QuantizerGroup*>& reverted) const;
  /// Frees the graphs of a model that lost; models would otherwise pile up in that table.
  void drop(QuantizedModel& model) const;
  /// The ids that restore_mode removes when this group is reverted.
  std::set<int64_t> removed_points(const QuantizerGroup& group) const;
  const PreparedModel& prepared() const { return prepared_; }

 private:
  const PreparedModel& prepared_;
  const QuantizePt2eOptions& options_;
  RestoreMode restore_mode_;
  mutable std::mutex mutex_;
};

/// A group and what reverting it alone scores.
struct RankedGroup {
  const QuantizerGroup* group = nullptr;
  double score = 0;
};

/// Scores each group by a model in which it is reverted in addition to `reverted`. Worst first, so that the best is at
/// the back; the order does not depend on the number of workers.
/// @throws Error kCancelled when `progress` returns false; the first error of the lowest group
std::vector<RankedGroup> rank_groups(const VariantMaker& maker, const Evaluator& evaluator,
                                     const MetricResults& reference, const std::vector<int64_t>& indices,
                                     const std::vector<const QuantizerGroup*>& groups,
                                     const std::vector<const QuantizerGroup*>& reverted, int64_t workers,
                                     const Progress& progress);

/// What limits the number of workers.
struct Machine {
  int64_t cores, free_bytes;
};
Machine this_machine();

/// NNCF's rule (accuracy_control/algorithm.py): enough workers to hide the conversion behind the validation, limited by
/// cores and memory; 1 when converting takes less than a second.
int64_t default_ranking_workers(double conversion_seconds, double validation_seconds, int64_t validation_samples,
                                int64_t ranking_samples, int64_t model_bytes, const Machine& machine);

}  // namespace tsquant
