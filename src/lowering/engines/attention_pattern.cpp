#include "lowering/engines/attention_pattern.h"

#include "graph/params.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

using Sizes = std::vector<int64_t>;

bool is_tensor(const Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }

class Finder {
 public:
  Finder(const LoweringContext& context, const Node* last) : context_(context), block_(last->owningBlock()) {}

  c10::optional<AttentionPattern> find(const Node* last) {
    const bool found = last->kind() == c10::Symbol::fromQualString("aten::_scaled_dot_product_attention")
                           ? read_fused(last)
                           : read_last_product(last);
    if (!found || !read_sizes()) return c10::nullopt;
    pattern_.result = last->output(0);
    return pattern_;
  }

 private:
  const Sizes* sizes_of(const Value* value) const {
    const auto number = context_.original_of(value);
    const auto& sizes = context_.reference().sizes;
    return number && sizes[*number] ? &*sizes[*number] : nullptr;
  }

  /// The operator that computes a value which nothing else reads; null for others.
  const Node* inner(const Value* value) const {
    return value->uses().size() == 1 && value->node()->owningBlock() == block_ ? value->node() : nullptr;
  }

  bool equals(const Value* value, double expected) const { return equals_number(context_.model(), value, expected); }

  bool is_product(const Node* node) const {
    const std::string op = op_of(node);
    return node->kind().is_aten() && (op == "matmul" || op == "bmm") && node->inputs().size() == 2;
  }

  /// A number, or a tensor of one.
  bool is_number(const Value* value) const {
    if (!is_tensor(value)) return value->type()->isSubtypeOf(*c10::NumberType::get());
    if (const auto parameter = param_of(context_.model(), value)) return parameter->tensor.dim() == 0;
    const Sizes* sizes = sizes_of(value);
    return sizes != nullptr && sizes->empty();
  }

  /// x of x * c, c * x and x / c, with c as the factor; null for others.
  const Value* scaled(const Node* node) {
    const std::string op = op_of(node);
    if (!node->kind().is_aten() || (op != "mul" && op != "div") || node->inputs().size() != 2) return nullptr;
    const size_t at = op == "mul" && is_number(node->input(0)) ? 1 : 0;
    if (pattern_.factor != nullptr || !is_number(node->input(1 - at)) || is_number(node->input(at))) return nullptr;
    pattern_.factor = const_cast<Value*>(node->input(1 - at));
    pattern_.divides = op == "div";
    pattern_.inner.push_back(node);
    return node->input(at);
  }

  bool add_mask(const Value* value, bool is_grouped) {
    if (!is_tensor(value) || is_number(value) || pattern_.factor != nullptr) return false;
    pattern_.masks.push_back({const_cast<Value*>(value), is_grouped});
    return true;
  }

  // %q, or quantize(dequantize(%q) * c), or dequantize(%q) * c
  bool read_query(const Value* value) {
    Value* codes = context_.codes_of(value);
    if (codes == nullptr) {
      const Node* node = inner(value);
      const Value* unscaled = node != nullptr ? scaled(node) : nullptr;
      pattern_.query = unscaled != nullptr ? context_.codes_of(unscaled) : nullptr;
      return pattern_.query != nullptr;
    }
    pattern_.query = codes;
    if (pattern_.factor != nullptr) return true;
    const auto params = quantizer_params(context_, codes->node());
    if (!params || inner(codes) == nullptr || inner(value) == nullptr) return true;
    const AttentionPattern before = pattern_;
    const Node* product = inner(codes->node()->input(0));
    const Value* unscaled = product != nullptr ? scaled(product) : nullptr;
    Value* earlier = unscaled != nullptr ? context_.codes_of(unscaled) : nullptr;
    if (earlier == nullptr) {
      pattern_ = before;
      return true;
    }
    pattern_.query = earlier;
    pattern_.query_params = *params;
    return true;
  }

  bool read_first_product(const Node* node) {
    size_t first = 0;
    if (node->kind() == c10::aten::baddbmm) {
      if (!equals(node->input(3), 1) || !equals(node->input(4), 1) || !add_mask(node->input(0), false)) return false;
      first = 1;
    } else if (!is_product(node)) {
      return false;
    }
    pattern_.inner.push_back(node);
    pattern_.key = context_.codes_of(node->input(first + 1));
    return pattern_.key != nullptr && read_query(node->input(first));
  }

  /// Goes on at the scores that `value` is computed from. Leaves the pattern as it was when there are none.
  bool read_scores(const Value* value) {
    const Node* node = inner(value);
    if (node == nullptr || !node->kind().is_aten()) return false;
    const AttentionPattern before = pattern_;
    if (read_first_product(node) || read_sum(node, before) || read_grouped_sum(node, before)) return true;
    pattern_ = before;
    const Value* unscaled = scaled(node);
    if (unscaled != nullptr && read_scores(unscaled)) return true;
    pattern_ = before;
    return false;
  }

  // %scores + %mask
  bool read_sum(const Node* node, const AttentionPattern& before) {
    pattern_ = before;
    if (!is_tensor_sum(context_, node)) return false;
    for (const size_t at : {size_t{0}, size_t{1}}) {
      pattern_ = before;
      pattern_.inner.push_back(node);
      if (add_mask(node->input(1 - at), false) && read_scores(node->input(at))) return true;
    }
    return false;
  }

  // view(view(%scores, [n, groups, heads, queries, keys]) + %mask, [n * groups, heads, queries, keys])
  bool read_grouped_sum(const Node* node, const AttentionPattern& before) {
    pattern_ = before;
    const Node* sum = is_view(node) ? inner(node->input(0)) : nullptr;
    if (sum == nullptr || !is_tensor_sum(context_, sum)) return false;
    for (const size_t at : {size_t{0}, size_t{1}}) {
      pattern_ = before;
      const Node* view = inner(sum->input(at));
      if (view == nullptr || !is_view(view) || !is_group_mask(view, node->output(), sum->input(1 - at))) continue;
      pattern_.inner.push_back(sum);
      if (add_mask(sum->input(1 - at), true) && read_scores(view->input(0))) return true;
    }
    return false;
  }

  bool is_view(const Node* node) const { return node->kind() == c10::aten::view || node->kind() == c10::aten::reshape; }

  bool is_group_mask(const Node* view, const Value* outer, const Value* mask) const {
    const Sizes *scores = sizes_of(view->input(0)), *again = sizes_of(outer);
    const Sizes *apart = sizes_of(view->output()), *added = sizes_of(mask);
    if (!scores || !again || !apart || !added) return false;
    if (*scores != *again || scores->size() != 4 || apart->size() != 5 || added->size() != 5) return false;
    const int64_t groups = (*added)[1];
    return groups > 1 && *added == Sizes{1, groups, 1, (*scores)[2], (*scores)[3]} &&
           *apart == Sizes{(*scores)[0] / groups, groups, (*scores)[1], (*scores)[2], (*scores)[3]};
  }

  bool read_softmax(const Node* node) {
    if (node->kind() != c10::aten::softmax || !node->input(2)->mustBeNone()) return false;
    const Sizes* sizes = sizes_of(node->output());
    const bool last = equals(node->input(1), -1) ||
                      (sizes != nullptr && equals(node->input(1), static_cast<double>(sizes->size()) - 1));
    pattern_.inner.push_back(node);
    return last && read_scores(node->input(0));
  }

  bool read_last_product(const Node* last) {
    if (!is_product(last)) return false;
    pattern_.value = context_.codes_of(last->input(1));
    const Node* weights = inner(last->input(0));
    if (pattern_.value == nullptr || weights == nullptr) return false;
    if (is_dequantizer(weights)) {
      const Node* quantizer = inner(weights->input(0));
      pattern_.weight_params = quantizer != nullptr ? quantizer_params(context_, quantizer) : c10::nullopt;
      if (!pattern_.weight_params) return false;
      weights = inner(quantizer->input(0));
    }
    return weights != nullptr && read_softmax(weights);
  }

  // aten::_scaled_dot_product_attention(%query, %key, %value, %mask, dropout, need_weights, is_causal)
  bool read_fused(const Node* node) {
    if (node->inputs().size() != 7 || !node->output(1)->uses().empty() || !equals(node->input(4), 0)) return false;
    const auto causal = constant_of(context_.model(), node->input(6));
    if (!causal || !causal->isBool() || causal->toBool() || !node->input(3)->mustBeNone()) return false;
    pattern_.query = context_.codes_of(node->input(0));
    pattern_.key = context_.codes_of(node->input(1));
    pattern_.value = context_.codes_of(node->input(2));
    pattern_.key_is_transposed = false;
    return pattern_.query != nullptr && pattern_.key != nullptr && pattern_.value != nullptr;
  }

  bool read_sizes() {
    const Sizes *query = sizes_of(pattern_.query), *key = sizes_of(pattern_.key), *value = sizes_of(pattern_.value);
    if (!query || !key || !value || query->size() < 2 || key->size() < 2 || value->size() < 2) return false;
    pattern_.size = static_cast<double>(query->back());
    pattern_.keys = static_cast<double>((*value)[value->size() - 2]);
    pattern_.columns = static_cast<double>(value->back());
    return true;
  }

  const LoweringContext& context_;
  const torch::jit::Block* block_;
  AttentionPattern pattern_;
};

}  // namespace

c10::optional<AttentionPattern> find_attention(const LoweringContext& context, const Node* last) {
  return Finder(context, last).find(last);
}

}  // namespace tsquant
