#include <ATen/ATen.h>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Element-wise functions: the result at a place depends only on the value there (and on constants).
bool is_pointwise(const Node* node) {
  static const std::unordered_set<std::string> names = {
      "relu",    "relu6",    "hardtanh",    "clamp", "clamp_min",  "clamp_max", "hardswish", "hardsigmoid",
      "sigmoid", "tanh",     "gelu",        "silu",  "leaky_relu", "elu",       "celu",      "selu",
      "mish",    "softplus", "log_sigmoid", "exp",   "neg",        "abs",       "square",    "pow",
      "rsub",    "add",      "sub",         "mul",   "div"};
  std::string kind = node->kind().toQualString();
  if (kind.rfind("aten::", 0) != 0 || node->outputs().size() != 1) return false;
  if (kind.back() == '_') kind.pop_back();
  return names.count(kind.substr(std::string("aten::").size())) != 0;
}

/// The constant operand as the operator wants it; nullopt when it is computed, or is a tensor that changes the shape.
c10::optional<c10::IValue> constant_operand(const Model& model, const Value* value) {
  if (value->type()->isSubtypeOf(*c10::TensorType::get())) {
    const auto parameter = param_of(model, value);
    if (!parameter || parameter->tensor.dim() != 0 || parameter->tensor.is_quantized()) return c10::nullopt;
    return c10::IValue(parameter->tensor);
  }
  return constant_of(model, value);
}

/// One function of the chain between a dequantize and a quantizer.
struct Link {
  Node* node;
  size_t tensor_input;
  std::vector<c10::IValue> arguments;
};

c10::optional<Link> read_link(const Model& model, Node* node) {
  if (!is_pointwise(node)) return c10::nullopt;
  Link link{node, node->inputs().size(), {}};
  for (size_t i = 0; i < node->inputs().size(); ++i) {
    auto constant = constant_operand(model, node->input(i));
    if (!constant) {
      if (link.tensor_input != node->inputs().size()) return c10::nullopt;
      link.tensor_input = i;
    }
    link.arguments.push_back(constant ? *constant : c10::IValue());
  }
  if (link.tensor_input == node->inputs().size()) return c10::nullopt;
  return link;
}

/// The functions from codes to the input of a quantizer, first one first. False when something else is in between.
bool trace_chain(const LoweringContext& context, const Node* quantize, std::vector<Link>& chain, Value*& codes) {
  const Value* value = quantize->input(0);
  for (;;) {
    codes = context.codes_of(value);
    if (codes != nullptr) {
      std::reverse(chain.begin(), chain.end());
      return true;
    }
    if (value->uses().size() != 1) return false;
    auto link = read_link(context.model(), const_cast<Node*>(value->node()));
    if (!link) return false;
    value = link->node->input(link->tensor_input);
    chain.push_back(std::move(*link));
  }
}

/// The code of the result for each of the 256 codes, computed by the float operators themselves: bit-identical to the
/// reference form.
at::Tensor make_table(const std::vector<Link>& chain, const CodeParams& from, const CodeParams& to) {
  const at::Tensor all = at::arange(256, at::kByte);
  c10::IValue x = at::_make_per_tensor_quantized_tensor(all, from.scale, from.zero_point).dequantize();
  for (const Link& link : chain) {
    torch::jit::Stack stack(link.arguments.begin(), link.arguments.end());
    stack[link.tensor_input] = x;
    link.node->getOperation()(stack);
    x = stack.back();
  }
  return at::quantize_per_tensor(x.toTensor().to(at::kFloat), to.scale, to.zero_point, at::kQUInt8).int_repr();
}

// quantize(f(dequantize(%q)))   ->   tsquant::lookup(%q, table, scale, zero_point)
bool lower_to_table(LoweringContext& context, Node* quantize, const CodeParams& params) {
  const EngineRow* row = context.engine().find("elementwise");
  if (row == nullptr) return false;
  std::vector<Link> chain;
  Value* codes = nullptr;
  if (!trace_chain(context, quantize, chain, codes)) return false;
  const at::Tensor table = make_table(chain, context.params_of(codes), params);
  const Node* named = chain.empty() ? nullptr : chain.back().node;
  Value* result = context.insert(
      quantize, row->kernel, {codes, context.constant(quantize, table), quantize->input(1), quantize->input(2)}, named);
  context.set_codes(result, params);
  context.stands_for(result, quantize->output());
  quantize->output()->replaceAllUsesWith(result);
  context.destroy(quantize);
  for (auto link = chain.rbegin(); link != chain.rend(); ++link) {
    context.record(link->node, row->kernel);
    context.destroy(link->node);
  }
  return true;
}

bool lower_quantizer(LoweringContext& context, Node* node) {
  const auto params = quantizer_params(context, node);
  if (!params) return false;
  if (remove_roundtrip(context, node)) return true;
  if (!context.may_lower(node, node->output())) return false;
  if (lower_to_table(context, node, *params)) return true;
  const EngineRow* row = context.engine().find("quantize_per_tensor");
  if (row == nullptr) return false;
  const std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
  Value* result = context.insert(node, row->kernel, inputs, node);
  context.set_codes(result, *params);
  context.stands_for(result, node->output());
  node->output()->replaceAllUsesWith(result);
  context.destroy(node);
  return true;
}

}  // namespace

// The remaining quantizers of float tensors, changes of scale, and functions that a table computes.
bool lower_quantizers(LoweringContext& context) {
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::quantize_per_tensor"})) {
    changed |= lower_quantizer(context, node);
  }
  context.remove_dead_code();
  return changed;
}

namespace {

/// Codes have the sizes of what they stand for.
void read_sizes_of_codes(Node* dequantize) {
  for (const auto& use : std::vector<torch::jit::Use>(dequantize->output()->uses())) {
    const auto kind = use.user->kind();
    if (kind == c10::aten::size || kind == c10::aten::dim) use.user->replaceInput(use.offset, dequantize->input(0));
  }
}

}  // namespace

// The dequantize operators that are left, when the engine has one of its own. None is left for sizes alone: traces read
// them all the time.
bool lower_dequantizers(LoweringContext& context) {
  const EngineRow* row = context.engine().find("dequantize");
  if (row == nullptr) return false;
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::dequantize"})) {
    if (context.codes_of(node->output()) == nullptr) continue;
    read_sizes_of_codes(node);
    if (node->output()->uses().empty()) {
      context.destroy(node);
      changed = true;
      continue;
    }
    node->output()->replaceAllUsesWith(context.insert(node, row->kernel, {node->input(0)}, nullptr));
    context.destroy(node);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
