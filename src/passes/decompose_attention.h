#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "tsquant/model.h"

namespace tsquant {

/// Spells attention that LibTorch computes in one operator as the layers it consists of, so that each can be quantized,
/// in all blocks of the graph:
/// - `aten::_transformer_encoder_layer_fwd` (nn.TransformerEncoderLayer in evaluation mode) becomes layer norms,
///   attention, two linear layers with relu or gelu, and additions;
/// - `aten::_native_multi_head_attention` (nn.MultiheadAttention in evaluation mode) becomes linear layers around
///   `aten::_scaled_dot_product_attention`, or around products and softmax when the attention weights are read;
/// - `aten::_scaled_dot_product_attention` becomes products and softmax when its second result, the attention weights,
///   is read. Otherwise it stays: it is an operator of the hardware table, which NNCF quantizes as a whole.
///
/// This is what torch.export shows of these modules, and what a trace with gradients enabled holds. Source of the
/// formulas: aten/src/ATen/native/transformers/{attention,transformer}.cpp of LibTorch 1.13.
///
/// Operators that cannot be rewritten stay as they are, with a warning that gives the reason (`attention_obstacle`).
/// Returns whether the graph changed.
bool decompose_attention(Model& model);

/// Why decompose_attention leaves this operator whole; "" for operators that it rewrites and for all others.
std::string attention_obstacle(const Model& model, const torch::jit::Node* node);

}  // namespace tsquant
