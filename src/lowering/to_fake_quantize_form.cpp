
#include "graph/dead_code.h"
#include "graph/insert_op.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/fake_quantize_nodes.h"
#include "lowering/float_zero_points.h"
#include "lowering/lowering.h"
#include "lowering/reference_nodes.h"

namespace tsquant {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Gives what reads the dequantized codes of `quantize` the value `result`.
void replace_pair(Node* quantize, Value* result) {
  const auto uses = quantize->output()->uses();
  for (const auto& use : uses) {
    if (use.user->kind() != c10::Symbol::fromQualString("aten::dequantize")) continue;
    use.user->output()->replaceAllUsesWith(result);
    use.user->destroy();
  }
  if (!quantize->hasUses()) quantize->destroy();
}

// %q = aten::quantize_per_tensor_dynamic(%x, %qint8, %reduce_range); %y = aten::dequantize(%q)
//   ->
// %scale, %zero_point = aten::_choose_qparams_per_tensor(%x, %reduce_range)
// %y = aten::fake_quantize_per_tensor_affine(%x, %scale, %zero_point, %0, %255)
//
// LibTorch chooses unsigned codes; the values of signed ones, which are the same minus 128, are equal.
void fake_quantize_dynamic(Graph& graph, Node* node, const DynamicNode& dynamic) {
  torch::jit::WithInsertPoint guard(node);
  Node* choose = graph.insertNode(graph.create(c10::Symbol::fromQualString("aten::_choose_qparams_per_tensor"),
                                               {dynamic.input, graph.insertConstant(dynamic.reduce_range)}, 2));
  choose->output(0)->setType(c10::FloatType::get());
  choose->output(1)->setType(c10::IntType::get());
  Value* result = insert_op(graph, "aten::fake_quantize_per_tensor_affine",
                            {dynamic.input, choose->output(0), choose->output(1), graph.insertConstant(int64_t{0}),
                             graph.insertConstant(dynamic.quant_max - dynamic.quant_min)});
  replace_pair(node, result);
}

// %weight = (%codes - %zero_points) * %scales   ->   %weight = aten::fake_quantize_per_channel_affine(%floats, ...)
void fake_quantize_table(Model& model, const FloatZeroTable& table) {
  Value* result = nullptr;
  {
    torch::jit::WithInsertPoint guard(table.last);
    result = insert_fake_quantize(*model.graph(), affine_of(table), table.codes);
  }
  table.last->output()->replaceAllUsesWith(result);
  remove_dead_code(model.graph());
  replace_parameter(model, {{result->node(), 0}}, table.values());
}

}  // namespace

// %q = aten::quantize_per_tensor(%x, %scale, %zero_point, %qint8); %y = aten::dequantize(%q)
//   ->
// %y = aten::fake_quantize_per_tensor_affine(%x, %scale, %zero_point, %min, %max)
//
// Folded weights become the floats that their codes stand for; a fake quantize leaves those as they are.
bool to_fake_quantize_form(Model& model) {
  auto graph = model.graph();
  const ParamScope scope(model);
  bool changed = false;
  for (const auto& parameter : quantized_parameters(model)) {
    replace_parameter(model, parameter.uses, parameter.tensor.dequantize());
    for (const auto& [node, index] : parameter.uses) {
      torch::jit::WithInsertPoint guard(node);
      node->output()->replaceAllUsesWith(
          insert_fake_quantize(*graph, read_quantized(parameter.tensor), node->input(0)));
      node->destroy();
    }
    changed = true;
  }
  for (const auto& table : float_zero_tables(model)) {
    fake_quantize_table(model, table);
    changed = true;
  }
  for (Node* node : nodes_of_kind(graph->block(), {"aten::quantize_per_tensor", "aten::quantize_per_channel"})) {
    const auto a = read_quantize(model, node);
    if (!a) continue;
    Value* result = nullptr;
    {
      torch::jit::WithInsertPoint guard(node);
      result = insert_fake_quantize(*graph, *a, a->input);
    }
    changed = true;
    replace_pair(node, result);
  }
  for (Node* node : nodes_of_kind(graph->block(), {"aten::quantize_per_tensor_dynamic"})) {
    const auto dynamic = read_dynamic_quantize(model, node);
    if (!dynamic) continue;
    fake_quantize_dynamic(*graph, node, *dynamic);
    changed = true;
  }
  remove_dead_code(graph);
  return changed;
}

}  // namespace tsquant
