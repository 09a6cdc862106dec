#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "observers/range_estimators.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// A producer and the only reader of its result.
struct AlignmentPair {
  const ViewNode* producer = nullptr;
  const ViewNode* addition = nullptr;  ///< of a constant, between the two; mostly null
  size_t addend = 0;                   ///< input of `addition` that holds the constant
  const ViewNode* consumer = nullptr;
  const ViewEdge* between = nullptr;                ///< what the consumer reads
  int64_t axis = -1;                                ///< of the channels, counted from the end
  std::unique_ptr<RangeEstimatorObserver> extrema;  ///< of each channel
};

/// The pairs that channel alignment works on, in execution order.
std::vector<AlignmentPair> find_alignment_pairs(const Model& model, const GraphView& view);

}  // namespace tsquant
