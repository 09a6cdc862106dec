#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "evaluation/operator_work.h"

namespace tsquant {

/// What the calls of one operator on tensors of the same shapes cost, per run of the model.
struct OperatorTime {
  std::string name;    ///< with namespace: "aten::conv2d", "tsquant::conv"
  std::string shapes;  ///< of the tensors that it reads: "1x3x224x224 64x3x7x7"
  double calls = 0;
  double ms = 0;              ///< with the operators that it calls in turn
  double megabytes = 0;       ///< of the tensors that it reads and writes, 10^6 bytes, with the codes of packed layers
  OperatorWork work;          ///< of the calls of one run
  bool is_quantized = false;  ///< as is_quantized_operator; else it stayed float
};

/// Times every operator that a model calls itself, as LibTorch's dispatcher sees them; operators inside of operators
/// count for the outer one. Control flow, reading attributes and lists take time, too, but are no operators.
/// @param run runs the model once; called `rounds` times (at least once)
/// @return the slowest first
std::vector<OperatorTime> time_operators(const std::function<void()>& run, int64_t rounds);

}  // namespace tsquant
