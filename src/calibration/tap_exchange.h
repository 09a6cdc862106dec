#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tsquant {

class StatisticsExchange;

/// What one tap saw once.
struct TapCall {
  int64_t sample = 0;
  size_t tap = 0;
  std::vector<at::Tensor> summary;  ///< float32, float64 and int64 tensors
};

/// The calls of all ranks in the order of the samples; within a sample in the order they were made. The tensors may
/// share memory and must be copied when they are kept.
std::vector<TapCall> exchange_calls(StatisticsExchange& exchange, const std::vector<TapCall>& mine);

}  // namespace tsquant
