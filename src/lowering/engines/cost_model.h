#pragma once

#include <map>
#include <string>

#include "lowering/engines/cost_rates.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

/// What pays in float: quantizers (numbers of their results in the reference form) and the operators that they serve.
struct FloatIslands {
  std::map<size_t, std::string> quantizers;      ///< with the reason
  std::map<std::string, std::string> operators;  ///< by stable name
  bool empty() const { return quantizers.empty(); }
};

/// Finds the islands of a lowered graph (operators that are connected by codes, with the conversions at their edges)
/// that take longer than their float originals on at least one of the targets.
FloatIslands find_float_islands(LoweringContext& context, const std::vector<CostRates>& targets);

/// Takes these quantizers out of the reference form. Returns whether the graph changed.
bool leave_in_float(Model& reference, const FloatIslands& islands);

/// Writes into the records of these operators that they are float, and why.
void explain_islands(const FloatIslands& islands, Report& report);

}  // namespace tsquant
