#pragma once

#include <string>
#include <vector>

#include "evaluation/operator_times.h"
#include "evaluation/runnable.h"

namespace tsquant {

struct BenchmarkOptions {
  int threads = 1;        ///< LibTorch's intra-op threads while measuring; restored afterwards
  double seconds = 5;     ///< measure for about this long in total; at least 20 rounds, at most 2000
  int64_t rounds = 0;     ///< exact number of rounds; 0: by `seconds`
  bool optimize = false;  ///< freeze float models and run LibTorch's optimize_for_inference on them first
  bool explain = false;   ///< as `profile`, with what the table of costs predicts
  bool profile = false;   ///< afterwards time every operator, in rounds of their own
};

struct BenchmarkResult {
  std::string model;
  double median_ms = 0, min_ms = 0;
  double ratio_to_first = 1;  ///< median of this model / median of the first model; below 1 is faster
  bool optimized = false;     ///< optimize_for_inference was applied
  int64_t rounds = 0;
  std::vector<OperatorTime> operators;  ///< with `profile` or `explain`, the slowest first
  std::vector<double> limit_ms;         ///< with `profile`, of `operators`, see OperatorLimits; negative: unknown
  std::vector<double> predicted_ms;     ///< with `explain`, of `operators`; negative where the table says nothing
  std::string rates;                    ///< with `explain`, the instruction set whose row of the table was used
};

/// Times the models in turn, one run each per round, so that changes of the machine's clock hit all alike.
std::vector<BenchmarkResult> benchmark(std::vector<Runnable> models, const Sample& sample,
                                       const BenchmarkOptions& options);

}  // namespace tsquant
