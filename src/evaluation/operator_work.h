#pragma once

#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

#include "lowering/engines/cost_rates.h"

namespace tsquant {

/// What one call of an operator computes, as far as it can be told from its arguments.
struct OperatorWork {
  double values = 0;                 ///< thousands of elements of its results
  double multiply_adds = 0;          ///< thousands; 0 for operators that form no sums of products
  double channel_multiply_adds = 0;  ///< the same of depthwise convolutions, which are not among the others

  OperatorWork& operator+=(const OperatorWork& other);
};

/// Products that one value of the result of a call is the sum of.
struct Products {
  double per_value = 0;
  bool depthwise = false;
  double weight_bytes = 0;  ///< of a packed layer, whose weight is not among the tensors of the call
};

/// Reads layers' weights in aten:: operators and packed layers (`tsquant::conv`, `tsquant::linear`). Convolutions are
/// told by name, so those that LibTorch rewrote for oneDNN count as operators without products.
Products products_of_call(const std::string& name, c10::ArrayRef<const c10::IValue> inputs);

/// @param outputs what the call returned
OperatorWork work_of_call(const Products& products, const std::vector<c10::IValue>& outputs);

/// Whether an operator gives the same memory another shape, or says something about a tensor.
bool only_moves(const std::string& name);

/// Milliseconds that the table of costs (see CostRates) expects.
/// @param unit seconds of 1,000 multiply-adds of LibTorch's float convolution, see measure_unit()
/// @return a negative number for operators that the table says nothing of: those that only move values, and kernels for
///         compressed weights
double predicted_ms(const std::string& name, const OperatorWork& work, const CostRates& rates, double unit);

}  // namespace tsquant
