#pragma once

#include <memory>
#include <vector>

#include "quantizers/openvino/propagation_solver.h"

namespace tsquant::openvino {

/// A quantizer of the result.
struct SetupPoint {
  int id = 0;
  PointKind kind = PointKind::kActivation;
  int node = 0;
  int port = -1;  ///< activations: -1 after the node, else before this argument; weights: -1
  std::shared_ptr<const QConfigList> configs;  ///< candidates
  QConfig chosen;                              ///< the one in use
  IdList quantized_nodes;
  StopReason stop = StopReason::kStart;

  const QConfig& config() const { return chosen; }
};

/// NNCF's quantizer setup.
struct Setup {
  std::vector<SetupPoint> points;                ///< ascending by id
  std::vector<std::vector<int>> unified_groups;  ///< ids, ascending; at least two each

  SetupPoint* find(int id);
  void discard(std::vector<int> ids);
};

/// An operator whose weight may be quantized, with its candidates.
struct WeightedNode {
  int node = 0;
  std::shared_ptr<const QConfigList> configs;
};

/// Removes quantizers that make no sense: on integer model inputs, and in front of element-wise operators whose other
/// operand is a constant.
/// @param finished quantizers in the order in which they stopped
/// @return operator sites that lost their only quantizer to the second rule
std::vector<int> filter_travellers(PropagationState& state, const std::vector<int>& finished);

/// Chooses one configuration per quantizer, drops quantizers that repeat the one above them and adds the weights.
/// @param weighted in node order; without ignored nodes
Setup make_setup(PropagationState& state, const std::vector<WeightedNode>& weighted);

}  // namespace tsquant::openvino
