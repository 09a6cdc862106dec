#pragma once

#include <vector>

#include "quantizers/openvino/qconfig.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// What happens to quantizers that meet at a branch.
struct MergeDecision {
  bool merge = false;      ///< place a quantizer with `above` over the branches
  QConfigList above;       ///< its candidates, best first
  std::vector<bool> keep;  ///< by branch: the branch quantizer stays, below the new one
};

/// Applies the rule to the candidate lists of all branches. A rule that finds no common list keeps every branch.
MergeDecision decide_merge(QuantizerPropagationRule rule, const std::vector<const QConfigList*>& branches);

}  // namespace tsquant::openvino
