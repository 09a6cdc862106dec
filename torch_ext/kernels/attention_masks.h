#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/softmax_rows.h"

namespace tsquant::kernels {

/// What is added to scores.
class AttentionMasks {
 public:
  /// @param sizes of the scores, [..., queries, keys]
  /// @throws c10::Error for more masks than kMostMasks, or one that is not of floats or does not broadcast
  AttentionMasks(at::TensorList masks, at::IntArrayRef sizes);

  /// Sets the masks of rows of scores, from a query on.
  void point(int64_t matrix, int64_t first, ScoreRows& rows) const;

 private:
  std::vector<int64_t> batch_;
  std::vector<at::Tensor> masks_;  // with as many dimensions as the scores, the last as long as theirs and dense
};

}  // namespace tsquant::kernels
