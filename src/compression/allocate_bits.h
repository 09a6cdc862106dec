#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tsquant {

/// One way to store a layer: a format and group size.
struct BitChoice {
  int64_t bytes = 0;  ///< of codes, scales and zero points
  double error = 0;   ///< comparable between layers: not relative to the layer's own size unless layers count equally
};

struct BitAllocation {
  std::vector<size_t> choices;  ///< for each layer the place of its choice
  int64_t bytes = 0;
  double error = 0;
  bool optimal = false;  ///< whether no better allocation exists; false: none was found within the limit of the search
};

/// Chooses for each layer, so that the sum of errors is as small as a budget of bytes allows. Of the convex hull of
/// each layer's choices the steps with the most error saved per byte are taken as long as they fit (the allocation that
/// Lagrange's multiplier gives); what remains of the budget goes to the single changes that save most. A search with
/// the multiplier's bound then looks for something better: it proves the optimum for few layers, and ends at
/// `most_nodes` for many, where the gap is less than one step of one layer.
/// @param layers at least one choice each, in any order
/// @param budget in bytes
/// @param most_nodes of the search; 0: no search
/// @throws Error kInvalidArgument for a layer without choices, negative bytes, an error that is negative or not finite,
///         and when even the smallest choices are larger than the budget
BitAllocation allocate_bits(const std::vector<std::vector<BitChoice>>& layers, int64_t budget,
                            int64_t most_nodes = 200000);

}  // namespace tsquant
