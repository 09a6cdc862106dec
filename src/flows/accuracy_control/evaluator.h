#pragma once

#include <cstdint>
#include <vector>

#include "tsquant/quantize_with_accuracy_control.h"

namespace tsquant {

/// One full validation of a model.
struct MetricResults {
  double metric = 0;  ///< minus infinity when the validation function returned NaN
  /// Per sample; one of the two is filled, see Evaluator::by_outputs.
  std::vector<double> values;
  std::vector<std::vector<at::Tensor>> outputs;
  double seconds = 0;
};

/// NMSE = sum (r - a)^2 / sum r^2, averaged over the output tensors (NNCF's rank_functions.normalized_mse). Without
/// signal it is 0 for equal tensors and infinite otherwise. @throws Error kInvalidArgument when shapes differ
double normalized_mse(const std::vector<at::Tensor>& reference, const std::vector<at::Tensor>& approximate);

/// Indices of the `count` largest errors, ascending; ties go to the later sample as in NNCF's subset selection. NaN is
/// the largest error.
std::vector<int64_t> largest_errors(const std::vector<double>& errors, int64_t count);

/// Calls the validation function and knows what it returns. After the first `validate` it is only read, so several
/// threads may use it.
class Evaluator {
 public:
  Evaluator(const Dataset& data, const ValidationFn& function, const RankingFn& ranking_fn)
      : data_(data), function_(function), ranking_fn_(ranking_fn) {}

  /// Runs all samples. The first call decides whether samples are compared by metrics or by outputs.
  /// @throws Error kInvalidArgument: a wrong number of values or outputs; ranking_fn given but metrics returned
  MetricResults validate(const Model& model);

  /// True: samples are compared by their outputs; false: by their metrics.
  bool by_outputs() const { return by_outputs_; }

  /// The samples on which two models differ most.
  std::vector<int64_t> select_subset(const MetricResults& reference, const MetricResults& approximate,
                                     int64_t count) const;

  /// How good a model is on some samples; higher is better. The metric, or minus the mean error of the outputs.
  double score(const Model& model, const MetricResults& reference, const std::vector<int64_t>& indices) const;

 private:
  enum class Source { kFunction, kSingleSamples, kModel };

  ValidationResult call(const Model& model, const std::vector<int64_t>& indices) const;
  void decide(const Model& model, const ValidationResult& result);
  std::vector<std::vector<at::Tensor>> collect_outputs(const Model& model, const std::vector<int64_t>& indices) const;
  std::vector<double> collect_values(const Model& model) const;
  double error(const std::vector<at::Tensor>& reference, const std::vector<at::Tensor>& approximate) const;

  const Dataset& data_;
  const ValidationFn& function_;
  const RankingFn& ranking_fn_;
  bool decided_ = false, by_outputs_ = false;
  Source source_ = Source::kFunction;  ///< where the values or outputs of single samples come from
};

}  // namespace tsquant
