
#include <algorithm>
#include <limits>

#include "graph/dead_code.h"
#include "graph/insert_op.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/float_zero_points.h"
#include "lowering/lowering.h"
#include "lowering/reference_nodes.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// Inserts a quantized_decomposed operator. Both directions take the same parameters:
/// quantize_per_tensor(input, scale, zero_point, quant_min, quant_max, dtype),
/// quantize_per_channel(input, scales, zero_points, axis, quant_min, quant_max, dtype);
/// dequantize adds `out_dtype` (torch/ao/quantization/fx/_decomposed.py).
Value* insert_decomposed(Graph& graph, const std::string& direction, const AffineNode& a, Value* input) {
  std::vector<Value*> inputs{input};
  if (a.per_channel) {
    inputs.push_back(graph.insertConstant(a.scales));
    inputs.push_back(graph.insertConstant(a.zero_points));
    inputs.push_back(graph.insertConstant(a.axis));
  } else {
    inputs.push_back(graph.insertConstant(a.scale));
    inputs.push_back(graph.insertConstant(a.zero_point));
  }
  inputs.push_back(graph.insertConstant(a.quant_min));
  inputs.push_back(graph.insertConstant(a.quant_max));
  inputs.push_back(graph.insertConstant(static_cast<int64_t>(a.dtype)));
  if (direction == "dequantize") inputs.push_back(graph.insertConstant(c10::IValue()));
  const std::string name = "quantized_decomposed::" + direction + (a.per_channel ? "_per_channel" : "_per_tensor");
  Node* node = graph.insertNode(graph.create(c10::Symbol::fromQualString(name), inputs, 1));
  node->output()->setType(c10::TensorType::get());
  return node->output();
}

void replace_dequantize(Graph& graph, Node* node, const AffineNode& a, Value* input) {
  torch::jit::WithInsertPoint guard(node);
  node->output()->replaceAllUsesWith(insert_decomposed(graph, "dequantize", a, input));
  node->destroy();
}

// %q = aten::quantize_per_tensor_dynamic(%x, %quint8, %reduce_range); %y = aten::dequantize(%q)
//   ->
// %scale, %zero_point = quantized_decomposed::choose_qparams(%x, %min, %max, %eps, %uint8)
// %q = quantized_decomposed::quantize_per_tensor(%x, %scale, %zero_point, %min, %max, %uint8)
// %y = quantized_decomposed::dequantize_per_tensor(%q, %scale, %zero_point, %min, %max, %uint8, %none)
void decompose_dynamic(Graph& graph, Node* node, const DynamicNode& dynamic) {
  torch::jit::WithInsertPoint guard(node);
  Value* low = graph.insertConstant(dynamic.quant_min);
  Value* high = graph.insertConstant(dynamic.quant_max);
  Value* dtype = graph.insertConstant(static_cast<int64_t>(dynamic.dtype));
  constexpr double kEps = std::numeric_limits<float>::epsilon();
  Node* choose = graph.insertNode(graph.create(c10::Symbol::fromQualString("quantized_decomposed::choose_qparams"),
                                               {dynamic.input, low, high, graph.insertConstant(kEps), dtype}, 2));
  for (Value* output : choose->outputs()) output->setType(c10::TensorType::get());
  const std::vector<Value*> parameters{choose->output(0), choose->output(1), low, high, dtype};
  std::vector<Value*> inputs{dynamic.input};
  inputs.insert(inputs.end(), parameters.begin(), parameters.end());
  Value* codes = insert_op(graph, "quantized_decomposed::quantize_per_tensor", inputs);
  const auto uses = node->output()->uses();
  for (const auto& use : uses) {
    torch::jit::WithInsertPoint at_use(use.user);
    inputs[0] = codes;
    auto arguments = inputs;
    arguments.push_back(graph.insertConstant(c10::IValue()));
    use.user->output()->replaceAllUsesWith(insert_op(graph, "quantized_decomposed::dequantize_per_tensor", arguments));
    use.user->destroy();
  }
  node->destroy();
}

}  // namespace

// %q = aten::quantize_per_tensor(%x, %scale, %zero_point, %qint8); %y = aten::dequantize(%q)
//   ->
// %q = quantized_decomposed::quantize_per_tensor(%x, %scale, %zero_point, %min, %max, %int8)
// %y = quantized_decomposed::dequantize_per_tensor(%q, %scale, %zero_point, %min, %max, %int8, %none)
bool to_decomposed_form(Model& model) {
  auto graph = model.graph();
  const ParamScope scope(model);
  bool changed = false;
  for (const auto& parameter : quantized_parameters(model)) {
    const AffineNode a = read_quantized(parameter.tensor);
    replace_parameter(model, parameter.uses, parameter.tensor.int_repr());
    for (const auto& [node, index] : parameter.uses) replace_dequantize(*graph, node, a, node->input(0));
    changed = true;
  }
  for (const auto& table : float_zero_tables(model)) {
    replace_dequantize(*graph, table.last, affine_of(table), table.codes);
    changed = true;
  }
  for (Node* node : nodes_of_kind(graph->block(), {"aten::quantize_per_tensor", "aten::quantize_per_channel"})) {
    const auto a = read_quantize(model, node);
    const auto uses = node->output()->uses();
    if (!a || !only_dequantized(node)) continue;
    Value* codes = nullptr;
    {
      torch::jit::WithInsertPoint guard(node);
      codes = insert_decomposed(*graph, "quantize", *a, a->input);
    }
    for (const auto& use : uses) replace_dequantize(*graph, use.user, *a, codes);
    node->destroy();
    changed = true;
  }
  for (Node* node : nodes_of_kind(graph->block(), {"aten::quantize_per_tensor_dynamic"})) {
    const auto dynamic = read_dynamic_quantize(model, node);
    if (!dynamic || !only_dequantized(node)) continue;
    decompose_dynamic(*graph, node, *dynamic);
    changed = true;
  }
  remove_dead_code(graph);
  return changed;
}

}  // namespace tsquant
