#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

#include "graph/shared_weight.h"
#include "numerics/qparams.h"
#include "tsquant/model.h"

namespace tsquant {

/// What a quantize or dequantize operator of the reference form says.
struct AffineNode {
  torch::jit::Value* input = nullptr;  ///< quantize: the float tensor before an eventual clamp
  bool per_channel = false;
  double scale = 1;  ///< per tensor
  int64_t zero_point = 0;
  at::Tensor scales, zero_points;  ///< per channel: float32; int64, or float32 where they need not be codes
  int64_t axis = 0;
  int64_t quant_min = -128, quant_max = 127;
  c10::ScalarType dtype = c10::kChar;  ///< kChar or kByte
};

/// Inserts aten::quantize_per_tensor / _per_channel at the graph's insert point and returns its result. LibTorch's
/// operators saturate at the limits of the dtype; fewer levels need a clamp of the float tensor before. fp8 parameters
/// give tsquant::quantize_fp8, dynamic ones aten::quantize_per_tensor_dynamic.
/// @param rank number of dimensions of `x`, -1 when unknown; needed for fewer levels per channel
torch::jit::Value* insert_quantize(torch::jit::Graph& graph, torch::jit::Value* x, const QParams& q, int64_t rank);

/// Whether `insert_quantize` can express these parameters.
bool can_insert_quantize(const QParams& q, int64_t rank);

/// Inserts the operator that turns codes with these parameters back into floats.
torch::jit::Value* insert_dequantize(torch::jit::Graph& graph, torch::jit::Value* x, const QParams& q);

/// The kind of that operator, and its arguments after the codes (of fp8, and of the first of the operators that
/// floating-point zero points take: float_zero_points.h).
std::string dequantize_kind(const QParams& q);
std::vector<torch::jit::Value*> dequantize_arguments(torch::jit::Graph& graph, const QParams& q);

/// The integer tensor of LibTorch (qint8 or quint8) with these codes.
at::Tensor make_quantized(const at::Tensor& codes, const QParams& q);

/// Reads a quantize operator whose parameters are constants; nullopt otherwise.
c10::optional<AffineNode> read_quantize(const Model& model, const torch::jit::Node* node);

/// Whether nothing but aten::dequantize reads the codes that a node gives.
bool only_dequantized(const torch::jit::Node* node);

/// What aten::quantize_per_tensor_dynamic says.
struct DynamicNode {
  torch::jit::Value* input = nullptr;
  c10::ScalarType dtype = c10::kByte;  ///< kChar or kByte
  bool reduce_range = false;           ///< half of the codes
  int64_t quant_min = 0, quant_max = 255;
};
c10::optional<DynamicNode> read_dynamic_quantize(const Model& model, const torch::jit::Node* node);

/// Parameters of a quantized tensor.
AffineNode read_quantized(const at::Tensor& tensor);

/// The dequantize operators of one quantized parameter.
struct QuantizedParameter {
  at::Tensor tensor;
  std::vector<ParameterUse> uses;
};

/// Quantized parameters and constants of the graph that aten::dequantize reads, each once, in order of use.
std::vector<QuantizedParameter> quantized_parameters(const Model& model);

}  // namespace tsquant
