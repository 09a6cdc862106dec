#pragma once

#include <string>

namespace tsquant {

/// TorchScript source of what LibTorch's fused attention operators compute. The functions take the arguments of the
/// operator; flags are arguments too and vanish when they are constants in the graph.

/// `encoder_layer`: aten::_transformer_encoder_layer_fwd.
const char* encoder_layer_source();

/// `attention_product`: aten::_scaled_dot_product_attention with both results.
const char* attention_product_source();

/// `multi_head_attention`: aten::_native_multi_head_attention, followed by a weight and a bias for every group of equal
/// arguments. `groups` says which of query, key and value are equal: "3" all of them, "12" key and value, "21" query
/// and key, "111" none; one linear layer projects each group.
std::string multi_head_attention_source(const std::string& groups);

}  // namespace tsquant
