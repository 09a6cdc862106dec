#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include "lowering/reference_nodes.h"
#include "tsquant/model.h"

namespace tsquant {

/// Inserts aten::fake_quantize_per_tensor_affine / _per_channel_affine at the graph's insert point.
torch::jit::Value* insert_fake_quantize(torch::jit::Graph& graph, const AffineNode& a, torch::jit::Value* x);

bool is_fake_quantize(const torch::jit::Node* node);
/// quantized_decomposed::quantize_per_tensor / _per_channel, and the dequantize_ operators.
bool is_decomposed_quantize(const torch::jit::Node* node);
bool is_decomposed_dequantize(const torch::jit::Node* node);

/// Reads one of these operators when its parameters are constants (numbers, or tensors that nothing writes); nullopt
/// otherwise. Those of fake quantizes have the dtype that their levels fit: kChar, kByte, or kInt for neither.
c10::optional<AffineNode> read_fake_quantize(const Model& model, const torch::jit::Node* node);
c10::optional<AffineNode> read_decomposed(const Model& model, const torch::jit::Node* node);

/// The tensor that a chain of quantize, dequantize and clamp operators makes of a parameter, by running the operators;
/// nullopt when the chain starts at something else or has an argument that is no constant.
c10::optional<at::Tensor> run_quantizers(const Model& model, const torch::jit::Value* value);

/// The last operators of such chains, in order of execution.
std::vector<torch::jit::Node*> weight_quantizers(const Model& model);

/// Where that chain reads its parameter: the first operator and 0. User null when there is no such chain.
ParameterUse start_of_chain(const Model& model, torch::jit::Node* last);

}  // namespace tsquant
