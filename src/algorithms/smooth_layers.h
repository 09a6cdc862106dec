#pragma once

#include <memory>
#include <string>
#include <vector>

#include "observers/range_estimators.h"
#include "tsquant/algorithm_parameters.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// A layer whose input can be smoothed.
struct SmoothLayer {
  const ViewNode* node = nullptr;
  const ViewEdge* input = nullptr;
  const ViewEdge* weight = nullptr;
  double alpha = 0;
  int64_t axis = -1;   ///< channel axis of the input, counted from the end
  int64_t groups = 1;  ///< of a convolution
};

/// Layers that read one tensor with channels on the same axis.
struct SmoothGroup {
  torch::jit::Value* value = nullptr;
  const ViewNode* producer = nullptr;
  int64_t output_port = 0;
  int64_t axis = -1;
  std::vector<SmoothLayer> layers;
  std::unique_ptr<RangeEstimatorObserver> maxima;  ///< largest magnitude of each channel
  size_t cluster = 0;  ///< groups with the same number share a weight and need the same scale
};

/// The layers that SmoothQuant works on, grouped by the tensor they read, in execution order.
/// @param warnings receives layers that have to be left out
std::vector<SmoothGroup> find_smooth_groups(const Model& model, const GraphView& view,
                                            const SmoothQuantParameters& parameters,
                                            std::vector<std::string>& warnings);

}  // namespace tsquant
