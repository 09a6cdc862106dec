#pragma once

#include <vector>

#include "lowering/engines/lowering_context.h"

namespace tsquant {

/// softmax(query * factor x key + masks) x value, as one operator computes it.
struct AttentionPattern {
  torch::jit::Value *query = nullptr, *key = nullptr, *value = nullptr;  ///< codes
  torch::jit::Value* factor = nullptr;                                   ///< a number, or a tensor of one; null: none
  bool divides = false;                                                  ///< by the factor
  bool key_is_transposed = true;  ///< [..., size, keys], as the second operand of a product; else [..., keys, size]
  /// Added to the scores; the last one first.
  struct Mask {
    torch::jit::Value* value;
    bool is_grouped;  ///< [1, groups, 1, queries, keys], where the scores' first dimension is a number of such groups
  };
  std::vector<Mask> masks;
  c10::optional<CodeParams> query_params;      ///< of a quantizer behind the factor
  c10::optional<CodeParams> weight_params;     ///< of a quantizer behind the softmax
  double size = 0, keys = 0, columns = 0;      ///< on the probe sample
  std::vector<const torch::jit::Node*> inner;  ///< operators that are part of it, other than the last product
  torch::jit::Value* result = nullptr;         ///< float, before any quantizer
};

/// Recognizes attention by its last product (matmul or bmm), or by aten::_scaled_dot_product_attention. Nothing in
/// between may be read by others; query, key and value must be codes.
c10::optional<AttentionPattern> find_attention(const LoweringContext& context, const torch::jit::Node* last);

}  // namespace tsquant
