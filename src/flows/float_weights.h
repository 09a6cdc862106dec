#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "tsquant/model.h"

namespace tsquant {

/// A matrix, or a tensor of more axes, of floating-point values that operators of the graph read as it is.
struct FloatWeight {
  int64_t bytes = 0;
  const void* data = nullptr;     ///< tells tensors from further names of the same one
  std::set<std::string> readers;  ///< kinds of operators: "aten::einsum"
};

/// Those of a model, by their state-dict names.
std::map<std::string, FloatWeight> float_weights(const Model& model);

/// Every tensor counted once.
int64_t total_bytes(const std::map<std::string, FloatWeight>& weights);

/// "12345 bytes as floats, read by aten::einsum, aten::add (proj, pos)": the first names, the largest first.
std::string describe(const std::map<std::string, FloatWeight>& weights);

/// A warning when a quantized model is larger than the float one because operators without quantizers, such as the
/// fused encoder layers of LibTorch, keep reading the float values beside the codes.
c10::optional<std::string> warn_if_larger(const Model& model, int64_t float_bytes, int64_t quantized_bytes);

}  // namespace tsquant
