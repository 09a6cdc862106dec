#pragma once

#include "tsquant/model.h"

namespace tsquant {

/// nn.TransformerEncoder with a padding mask makes the batch a nested tensor, whose rows have different lengths, for
/// LibTorch's fused layers. No quantizer can stand between them. Where the layers form a chain that ends in a padded
/// tensor again, the batch stays padded and each layer gets the mask:
///
///     n = _nested_tensor_from_mask(x, m)            h = arange(length) >= sum(m, 1)
///     n = _transformer_encoder_layer_fwd(n, ...) -> x = _transformer_encoder_layer_fwd(x, ..., h, 1)
///     y = to_padded_tensor(n, pad)                  y = masked_fill(x, h, pad)[:, :longest row]
///
/// Returns whether the graph changed.
bool pad_nested_rows(Model& model);

}  // namespace tsquant
