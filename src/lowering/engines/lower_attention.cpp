#include <algorithm>
#include <cmath>

#include "graph/mutation.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/engines/attention_pattern.h"
#include "lowering/engines/row_builders.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

constexpr size_t kMostMasks = 4;  // of torch_ext/kernels/softmax_rows.h

/// A number of the graph as a float.
Value* as_float(LoweringContext& context, Node* position, Value* number) {
  const auto constant = constant_of(context.model(), number);
  if (constant && constant->isScalar()) return context.constant(position, constant->toScalar().toDouble());
  if (const auto parameter = param_of(context.model(), number)) {
    return context.constant(position, parameter->tensor.item().toDouble());
  }
  if (number->type()->kind() == c10::TypeKind::FloatType) return number;
  const torch::jit::WithInsertPoint guard(position);
  return context.graph().insert(c10::aten::Float, {number});
}

/// The factor of the query; of the fused operator that is its size.
Value* factor_of(LoweringContext& context, Node* position, const AttentionPattern& pattern) {
  if (pattern.factor != nullptr) return as_float(context, position, pattern.factor);
  if (pattern.key_is_transposed) return context.constant(position, 1.0);
  const torch::jit::WithInsertPoint guard(position);
  Value* size = context.graph().insert(c10::aten::size, {pattern.query, -1});
  return context.graph().insert(c10::aten::sqrt, {size});
}

Value* key_of(LoweringContext& context, Node* position, const AttentionPattern& pattern) {
  if (pattern.key_is_transposed) return pattern.key;
  Value* key = context.insert(position, "aten::transpose",
                              {pattern.key, context.constant(position, -2), context.constant(position, -1)}, nullptr);
  context.set_codes(key, CodeParams(context.params_of(pattern.key)));
  return key;
}

Value* masks_of(LoweringContext& context, Node* position, const AttentionPattern& pattern) {
  std::vector<Value*> masks;
  // The pattern was read from the last one to the first.
  for (auto mask = pattern.masks.rbegin(); mask != pattern.masks.rend(); ++mask) {
    masks.push_back(mask->is_grouped ? context.insert(position, "aten::squeeze",
                                                      {mask->value, context.constant(position, 0)}, nullptr)
                                     : mask->value);
  }
  Node* list = context.graph().createList(c10::TensorType::get(), masks);
  list->insertBefore(position);
  return list->output();
}

void append_optional(LoweringContext& context, Node* position, const c10::optional<CodeParams>& params,
                     std::vector<Value*>& inputs) {
  if (params) return append_params(context, position, *params, inputs);
  inputs.push_back(context.constant(position, c10::IValue()));
  inputs.push_back(context.constant(position, c10::IValue()));
}

Work work_of(const LoweringContext& context, const AttentionPattern& pattern, const FusedOutput& output) {
  Work work;
  if (pattern.columns > 0) work.multiply_adds = pattern.keys * (pattern.size + pattern.columns) / pattern.columns;
  const double largest = 255 * context.params_of(pattern.value).scale;
  work.magnitude = largest;
  // A weight that rounds the other way.
  if (pattern.weight_params && output.quantized()) {
    work.tie += std::ceil(pattern.weight_params->scale * largest / output.params.scale);
  }
  return work;
}

/// Why the operator cannot take the place of the pattern; empty: it can.
std::string attention_obstacle(const MutationAnalysis& mutation, const AttentionPattern& pattern) {
  if (pattern.masks.size() > kMostMasks) return "the kernel takes fewer masks";
  const bool written = std::any_of(pattern.masks.begin(), pattern.masks.end(), [&](const AttentionPattern::Mask& mask) {
    return mutation.is_written_later(mask.value);
  });
  return written ? "its mask is changed in place" : "";
}

bool lower_one_attention(LoweringContext& context, const EngineRow& row, const MutationAnalysis& mutation, Node* last) {
  const auto pattern = find_attention(context, last);
  if (!pattern) return false;
  FusedOutput output = follow_output(context, pattern->result);
  if (!output.quantized() || output.clamps()) {  // bounds stay behind a float result
    output = FusedOutput();
    output.last = pattern->result;
  }
  if (!context.may_lower(last, output.result())) return false;
  const std::string obstacle = attention_obstacle(mutation, *pattern);
  if (!obstacle.empty()) {
    context.refuse(last, obstacle);
    return false;
  }
  const std::string kernel = output.quantized() ? row.kernel : row.float_kernel;
  std::vector<Value*> inputs = {pattern->query,
                                key_of(context, last, *pattern),
                                pattern->value,
                                masks_of(context, last, *pattern),
                                factor_of(context, last, *pattern),
                                context.constant(last, pattern->divides || !pattern->key_is_transposed)};
  append_optional(context, last, pattern->query_params, inputs);
  append_optional(context, last, pattern->weight_params, inputs);
  if (output.quantized()) append_params(context, last, output.params, inputs);
  Value* result = context.insert(last, kernel, inputs, last);
  context.set_work(result, work_of(context, *pattern, output));
  for (const Node* node : pattern->inner) context.record(node, "fused into " + kernel);
  context.record(last, kernel);
  replace_output(context, output, result, kernel);
  context.destroy(last);
  return true;
}

}  // namespace

// softmax(dequantize(%q) x dequantize(%k) * c + %mask) x dequantize(%v)
//   ->   tsquant::attention(%q, %k, %v, [%mask], c, ...)
// with or without a quantizer behind the scaled query and behind the softmax. What else reads the scores or the weights
// keeps the operators as they are.
bool lower_attention(LoweringContext& context) {
  const EngineRow* row = context.engine().find("attention");
  if (row == nullptr) return false;
  const auto ends =
      nodes_of_kind(context.graph().block(), {"aten::matmul", "aten::bmm", "aten::_scaled_dot_product_attention"});
  if (ends.empty()) return false;
  const MutationAnalysis mutation(context.model().graph());
  std::vector<Node*> found;
  for (Node* last : ends) {
    if (find_attention(context, last)) found.push_back(last);
  }
  bool changed = false;
  for (Node* last : found) changed |= lower_one_attention(context, *row, mutation, last);
  if (changed) context.remove_dead_code();
  return changed;
}

}  // namespace tsquant
