#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "lowering/reference_nodes.h"

namespace tsquant {

/// Codes as a plain integer tensor, and what they stand for: (codes - zero point) * scale.
struct Codes {
  torch::jit::Value* value = nullptr;  ///< int8 or uint8
  AffineNode affine;                   ///< without scale and zero point where those are dynamic
  torch::jit::Value* dynamic_scale = nullptr;
  torch::jit::Value* dynamic_zero_point = nullptr;

  bool is_dynamic() const { return dynamic_scale != nullptr; }
};

/// Plain operators of LibTorch at the graph's insert point that compute with codes. Rounding is to the nearest, ties to
/// even. What is rounded is clamped before it becomes an integer, so that values beyond all codes saturate.

/// float32 -> codes, bit for bit those of LibTorch's quantize: clamp(round(x * (1 / scale)) + zero_point, min, max).
torch::jit::Value* insert_quantize_arithmetic(torch::jit::Graph& graph, const AffineNode& a, torch::jit::Value* x);

/// The same with scale and zero point of the tensor as it is at run time (aten::_choose_qparams_per_tensor).
Codes insert_dynamic_quantize_arithmetic(torch::jit::Graph& graph, const DynamicNode& dynamic);

/// codes -> float32: (float(codes) - zero_point) * scale.
torch::jit::Value* insert_dequantize_arithmetic(torch::jit::Graph& graph, const Codes& codes);

/// codes - zero point, as int64.
/// @param channels the shape in which zero points of an axis broadcast over the codes; not read per tensor
torch::jit::Value* insert_centred(torch::jit::Graph& graph, const Codes& codes, at::IntArrayRef channels = {});

/// Casts a tensor.
torch::jit::Value* insert_cast(torch::jit::Graph& graph, torch::jit::Value* x, c10::ScalarType dtype);

/// round(x * factor), x of float64, which holds whole numbers of up to 53 bits.
torch::jit::Value* insert_rescaled(torch::jit::Graph& graph, torch::jit::Value* x, torch::jit::Value* factor);

/// Whole numbers of the scale of `out` -> its codes: clamp(x + zero_point, min, max).
/// @param relu negative numbers become zero: the zero point is the smallest code
torch::jit::Value* insert_codes(torch::jit::Graph& graph, torch::jit::Value* x, const AffineNode& out, bool relu);

}  // namespace tsquant
