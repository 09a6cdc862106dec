#include "passes/attention_source.h"

#include <fmt/format.h>

#include <vector>

namespace tsquant {

const char* encoder_layer_source() {
  return R"(
def encoder_layer(src, embed_dim: int, heads: int, qkv_weight, qkv_bias, proj_weight, proj_bias, use_gelu: bool,
                  norm_first: bool, eps: float, norm_weight_1, norm_bias_1, norm_weight_2, norm_bias_2,
                  ffn_weight_1, ffn_bias_1, ffn_weight_2, ffn_bias_2, mask: Optional[Tensor], mask_type: Optional[int]):
    x = src
    if norm_first:
        x = torch.layer_norm(x, [embed_dim], norm_weight_1, norm_bias_1, eps)
    attended, weights = torch._native_multi_head_attention(
        x, x, x, embed_dim, heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask, False, True, mask_type)
    x = src + attended
    if not norm_first:
        x = torch.layer_norm(x, [embed_dim], norm_weight_1, norm_bias_1, eps)
    h = x
    if norm_first:
        h = torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)
    h = torch.linear(h, ffn_weight_1, ffn_bias_1)
    if use_gelu:
        h = torch.gelu(h)
    else:
        h = torch.relu(h)
    x = x + torch.linear(h, ffn_weight_2, ffn_bias_2)
    if not norm_first:
        x = torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)
    return x
)";
}

// 11 is at::kBool. A mask of booleans says where to look, one of numbers is added to the scores.
const char* attention_product_source() {
  return R"(
def attention_product(query, key, value, mask: Optional[Tensor], dropout_p: float, need_weights: bool,
                      is_causal: bool):
    scores = torch.matmul(query / torch.sqrt(query.size(-1)), torch.transpose(key, -2, -1))
    if is_causal:
        visible = torch.ones([query.size(-2), key.size(-2)], dtype=11, device=query.device)
        scores = torch.masked_fill(scores, torch.eq(torch.tril(visible), 0), float('-inf'))
    elif mask is not None:
        if mask.dtype == 11:
            scores = torch.masked_fill(scores, torch.eq(mask, 0), float('-inf'))
        else:
            scores = scores + mask
    weights = torch.softmax(scores, -1)
    return torch.matmul(weights, value), weights
)";
}

namespace {

// True in the mask hides a key. Type 1 is a mask of keys, [batch, keys]; type 2 is one of all scores, which the CPU
// kernel also takes with the shape of type 1; type 0, [queries, keys], fits the scores as it is.
constexpr const char* kAttend = R"(
def attend(q, k, v, head_size: int, heads: int, mask: Optional[Tensor], need_weights: bool, average_weights: bool,
           mask_type: Optional[int]):
    hidden = mask
    if hidden is not None and mask_type is not None:
        if mask_type == 1:
            hidden = torch.unsqueeze(torch.unsqueeze(hidden, 1), 2)
        elif mask_type == 2:
            if hidden.dim() == 2:
                hidden = torch.unsqueeze(torch.unsqueeze(hidden, 1), 2)
    if need_weights:
        scores = torch.matmul(q / torch.sqrt(head_size), torch.transpose(k, -2, -1))
        if hidden is not None:
            scores = torch.masked_fill(scores, torch.ne(hidden, 0), float('-inf'))
        weights = torch.softmax(scores, -1)
        context = torch.matmul(weights, v)
        if average_weights:
            weights = torch.sum(weights, [1]) / heads
    else:
        visible: Optional[Tensor] = None
        if hidden is not None:
            visible = torch.eq(hidden, 0)
        context, weights = torch._scaled_dot_product_attention(q, k, v, visible, 0.0, False, False)
    return context, weights
)";

constexpr const char* kMultiHeadSource = R"(
def multi_head_attention(query, key, value, embed_dim: int, heads: int, qkv_weight, qkv_bias, proj_weight, proj_bias,
                         mask: Optional[Tensor], need_weights: bool, average_weights: bool, mask_type: Optional[int],
                         {arguments}):
{projections}
    head_size = embed_dim // heads
    q = torch.transpose(torch.unflatten(q, -1, [heads, head_size]), 1, 2)
    k = torch.transpose(torch.unflatten(k, -1, [heads, head_size]), 1, 2)
    v = torch.transpose(torch.unflatten(v, -1, [heads, head_size]), 1, 2)
    context, weights = attend(q, k, v, head_size, heads, mask, need_weights, average_weights, mask_type)
    context = torch.flatten(torch.transpose(context, 1, 2), 2)
    return torch.linear(context, proj_weight, proj_bias), weights
)";

}  // namespace

std::string multi_head_attention_source(const std::string& groups) {
  const std::vector<std::string> results = {"q", "k", "v"}, inputs = {"query", "key", "value"};
  std::vector<std::string> arguments, projections;
  size_t first = 0;
  for (size_t group = 0; group < groups.size(); ++group) {
    const size_t size = groups[group] - '0';
    arguments.push_back(fmt::format("weight_{0}, bias_{0}", group));
    const std::string linear = fmt::format("torch.linear({}, weight_{}, bias_{})", inputs[first], group, group);
    const auto begin = results.begin() + static_cast<std::ptrdiff_t>(first);
    const std::string targets = fmt::format("{}", fmt::join(begin, begin + static_cast<std::ptrdiff_t>(size), ", "));
    projections.push_back(size == 1 ? fmt::format("    {} = {}", targets, linear)
                                    : fmt::format("    {} = torch.chunk({}, {}, -1)", targets, linear, size));
    first += size;
  }
  return kAttend + fmt::format(kMultiHeadSource, fmt::arg("arguments", fmt::join(arguments, ", ")),
                               fmt::arg("projections", fmt::join(projections, "\n")));
}

}  // namespace tsquant
