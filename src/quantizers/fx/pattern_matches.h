#pragma once

#include <functional>
#include <vector>

#include "quantizers/fx/operator_sites.h"
#include "tsquant/fx/backend_config.h"

namespace tsquant::fx {

/// Operators that a backend computes as one.
struct PatternMatch {
  const BackendPatternConfig* config = nullptr;
  std::vector<int64_t> nodes;  ///< in the order of execution
};

/// Asks whether one operator may run inside another before it.
using MayFuse = std::function<bool(int64_t producer, int64_t consumer)>;
/// The patterns that hold for an operator.
using BackendOf = std::function<const BackendConfig&(int64_t node)>;

/// A number in a traced graph, which stands there as a tensor without axes.
bool is_number(const GraphView& view, const ViewEdge& edge);

/// The matches of a graph, each operator in one at most; from the last operator to the first, and at each the longest
/// pattern that ends there. The results of all operators of a pattern but the last one have one reader.
std::vector<PatternMatch> find_matches(const GraphView& view, const std::vector<OperatorSite>& sites,
                                       const BackendOf& backend_of, const MayFuse& may_fuse);

}  // namespace tsquant::fx
