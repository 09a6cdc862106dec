#pragma once

#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// What an operator that only moves values moves.
enum class Movement {
  kComputes,  ///< it does more than moving, or it moves no floating-point tensor
  kCodes,     ///< values of one quantizer, or of quantizers that share their parameters
  kMixed,     ///< values of quantizers with different parameters
  kFloat,     ///< values that are not quantized
};

/// Where quantized values travel. An edge carries codes when a quantizer stands on it, or when its producer only moves
/// values (a view, a transpose, a concatenation, an element of a list, the result of a branch) and all that it moves
/// are codes with one set of parameters.
class QuantizedValueFlow {
 public:
  QuantizedValueFlow(const GraphView& view, const Annotations& annotations);

  /// The quantizer on the edge itself or behind the moving operators above it; -1 for none. Quantizers that share
  /// their parameters are one.
  int64_t quantizer(int64_t edge) const { return quantizers_[edge]; }
  /// Whether a quantizer stands on this very edge.
  bool is_quantized(int64_t edge) const { return quantized_[edge]; }
  Movement movement(const ViewNode& node) const { return movements_[node.id]; }

 private:
  Movement move(const GraphView& view, const ViewNode& node, int64_t& quantizer) const;

  std::vector<int64_t> quantizers_;
  std::vector<bool> quantized_;
  std::vector<Movement> movements_;
};

}  // namespace tsquant
