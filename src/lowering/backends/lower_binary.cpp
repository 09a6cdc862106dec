#include "graph/params.h"
#include "graph/walk.h"
#include "lowering/backends/lowering_state.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

bool has_two_tensors(const Node* node) {
  return node->inputs().size() >= 2 && node->input(0)->type()->isSubtypeOf(*c10::TensorType::get()) &&
         node->input(1)->type()->isSubtypeOf(*c10::TensorType::get());
}

/// The operator's name without the in-place underscore.
std::string base_kind(const Node* node) {
  std::string kind = node->kind().toQualString();
  if (kind.back() == '_') kind.pop_back();
  return kind;
}

void lower_one(Lowering& lowering, Node* node) {
  Value *a = lowering.codes_of(node->input(0)), *b = lowering.codes_of(node->input(1));
  if (a == nullptr && b == nullptr) return;
  if (a == nullptr || b == nullptr) return lowering.refuse(node, "only one of its operands is quantized");
  const FusedOutput output = follow_output(lowering, node->output());
  if (!output.quantized()) return lowering.refuse(node, "its result is used in float");
  const bool sum = base_kind(node) == "aten::add";
  // The bounds of relu6 and clamp are applied to the codes afterwards.
  const bool relu = output.low && *output.low == 0;
  const bool clamp = output.clamps() && !(relu && !output.high);
  Value* scale = lowering.constant(node, output.params.scale);
  Value* zero_point = lowering.constant(node, output.params.zero_point);
  Value* result = nullptr;
  std::string kernel;
  if (sum && lowering.own_kernels()) {
    kernel = "tsquant::add";
    result = lowering.insert(node, kernel, {a, b, lowering.constant(node, relu), scale, zero_point}, node);
  } else {
    kernel = std::string(sum ? "quantized::add" : "quantized::mul") + (relu ? "_relu" : "");
    result = lowering.insert(node, kernel, {a, b, scale, zero_point}, node);
  }
  if (clamp) result = insert_clamp(lowering, node, result, output.params, output.low, output.high);
  lowering.record(node, kernel);
  replace_output(lowering, output, result, kernel);
  lowering.destroy(node);
}

}  // namespace

bool is_tensor_sum(const Lowering& lowering, const Node* node) {
  if (base_kind(node) != "aten::add" || !has_two_tensors(node)) return false;
  if (node->inputs().size() < 3) return true;
  const auto alpha = constant_of(lowering.model(), node->input(2));
  return alpha && alpha->isScalar() && alpha->toScalar().toDouble() == 1;
}

void lower_additions_and_products(Lowering& lowering) {
  for (Node* node : nodes_of_kind(lowering.graph().block(), {"aten::add", "aten::add_", "aten::mul", "aten::mul_"})) {
    const bool product = base_kind(node) == "aten::mul" && has_two_tensors(node);
    if (product || is_tensor_sum(lowering, node)) lower_one(lowering, node);
  }
}

}  // namespace tsquant
