// Operators that compute with integers, written out in plain operators of LibTorch: what torchao's
// reference_representation_rewrite makes (torchao/quantization/pt2e/reference_representation_rewrite.py). Of codes q
// with scale s and zero point z, x and y the inputs, w the weight, out the output:
//
//   linear, conv   acc = op(qx - zx, qw - zw) + round(bias / (sx * sw))    a scale per output channel of w, or one
//                  out = clamp(round(acc * (sx * sw / s)) + z)
//   linear, dynamic x, float output:   acc as above; out = acc * (sx * sw)
//   add            out = clamp(round((qx - zx) * (sx / s)) + round((qy - zy) * (sy / s)) + z)
//   max_pool2d, adaptive_avg_pool2d    out = clamp(round(op(qx - zx) * (sx / s)) + z)
//   a relu behind linear, conv or add is a clamp at z
//
// All other quantizers become round, clamp and casts around the float operator, so that no quantized tensor is left.
//
// Differences from torchao: products, biases and pooled values are rounded to the nearest where it truncates (terms of
// additions it rounds, too, unless a relu follows), which would shift every output by half a code: its tests allow for
// that. But for the truncation, its formulas give these codes. Weights may have a scale per channel; a relu may also
// stand behind linear and conv; adaptive_avg_pool2d is from its earlier versions; its 4-bit linear in groups, an
// operator of its own library, has no counterpart. Integers are int64: LibTorch 1.13 has linear and every convolution
// for them (dilated ones not for int32), and no sum of products overflows. It pools no integers at all, so those are
// pooled as float64, which holds integers of 53 bits exactly; factors multiply in float64, too.
#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "graph/dead_code.h"
#include "graph/insert_op.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/integer_arithmetic.h"
#include "lowering/lowering.h"
#include "lowering/reference_nodes.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// What every aten::dequantize reads.
using Sources = std::unordered_map<const Node*, Codes>;

const Codes* codes_of(const Sources& sources, const Value* value) {
  const auto found = sources.find(value->node());
  return found == sources.end() ? nullptr : &found->second;
}

/// An activation with one scale.
const Codes* static_codes_of(const Sources& sources, const Value* value) {
  const Codes* codes = codes_of(sources, value);
  return codes != nullptr && !codes->is_dynamic() && !codes->affine.per_channel ? codes : nullptr;
}

/// Dimensions of the weight; 0 for another operator.
int64_t weight_rank(const Node* node) {
  static const std::map<std::string, int64_t> kRanks{
      {"aten::linear", 2}, {"aten::conv1d", 3}, {"aten::conv2d", 4}, {"aten::conv3d", 5}};
  const auto found = kRanks.find(node->kind().toQualString());
  return found == kRanks.end() ? 0 : found->second;
}

/// Codes with one scale, or one per output channel; and a bias that is a tensor or None for sure.
const Codes* weight_of(const Sources& sources, Node* node) {
  const Codes* weight = weight_rank(node) > 0 ? codes_of(sources, node->input(1)) : nullptr;
  if (weight == nullptr || weight->is_dynamic() || (weight->affine.per_channel && weight->affine.axis != 0)) {
    return nullptr;
  }
  const Value* bias = node->input(2);
  return bias->mustBeNone() || bias->type()->isSubtypeOf(*c10::TensorType::get()) ? weight : nullptr;
}

/// The shape in which values of axis 0 of a tensor with this rank broadcast over it.
std::vector<int64_t> on_first_axis(int64_t rank) {
  std::vector<int64_t> shape(rank, 1);
  shape[0] = -1;
  return shape;
}

/// The shape in which values of the output channels broadcast over the output: linear has them last, without a batch
/// convolutions have them first.
std::vector<int64_t> on_channels(const Node* node) {
  return on_first_axis(is_kind(node, "aten::linear") ? 1 : weight_rank(node) - 1);
}

/// sw * factor, in a shape that broadcasts over the output of `node`.
Value* insert_weight_scale(Graph& graph, Node* node, const AffineNode& weight, double factor) {
  if (!weight.per_channel) return graph.insertConstant(weight.scale * factor);
  return graph.insertConstant((weight.scales.to(at::kDouble) * factor).reshape(on_channels(node)));
}

/// round(bias / scale), in that shape.
Value* insert_bias_codes(Graph& graph, Node* node, Value* scale) {
  Value* bias = insert_cast(graph, node->input(2), at::kDouble);
  if (!is_kind(node, "aten::linear")) {
    bias = insert_op(graph, "aten::reshape", {bias, graph.insertConstant(on_channels(node))});
  }
  Value* rounded = insert_op(graph, "aten::round", {insert_op(graph, "aten::div", {bias, scale})});
  return insert_cast(graph, rounded, at::kLong);
}

/// The sum of products of linear and convolutions with the bias, as int64 of the scale `scale`.
Value* insert_products(Graph& graph, Node* node, const Codes& x, const Codes& weight, Value* scale) {
  std::vector<Value*> inputs{insert_centred(graph, x), insert_centred(graph, weight, on_first_axis(weight_rank(node))),
                             graph.insertConstant(c10::IValue())};
  inputs.insert(inputs.end(), node->inputs().begin() + 3, node->inputs().end());
  Value* products = insert_op(graph, node->kind().toQualString(), inputs);
  copy_names(node, products->node());
  if (node->input(2)->mustBeNone()) return products;
  return insert_op(graph, "aten::add",
                   {products, insert_bias_codes(graph, node, scale), graph.insertConstant(int64_t{1})});
}

/// Linear and convolutions; whole numbers of the scale of `out`. As the functions below, null for other operators.
Value* insert_weighted(Graph& graph, Node* node, const Sources& sources, const AffineNode& out) {
  const Codes* weight = weight_of(sources, node);
  const Codes* x = weight != nullptr ? static_codes_of(sources, node->input(0)) : nullptr;
  if (x == nullptr) return nullptr;
  Value* scale = insert_weight_scale(graph, node, weight->affine, x->affine.scale);
  Value* products = insert_cast(graph, insert_products(graph, node, *x, *weight, scale), at::kDouble);
  return insert_rescaled(graph, products,
                         insert_weight_scale(graph, node, weight->affine, x->affine.scale / out.scale));
}

Value* insert_term(Graph& graph, const Codes& x, const AffineNode& out) {
  return insert_rescaled(graph, insert_cast(graph, insert_centred(graph, x), at::kDouble),
                         graph.insertConstant(x.affine.scale / out.scale));
}

Value* insert_sum(Model& model, Node* node, const Sources& sources, const AffineNode& out) {
  if (!is_kind(node, "aten::add") || node->inputs().size() != 3) return nullptr;
  const Codes* x = static_codes_of(sources, node->input(0));
  const Codes* y = static_codes_of(sources, node->input(1));
  const auto alpha = constant_of(model, node->input(2));
  if (x == nullptr || y == nullptr || !alpha || !alpha->isScalar() || alpha->toScalar().toDouble() != 1) return nullptr;
  Graph& graph = *model.graph();
  Value* sum =
      insert_op(graph, "aten::add", {insert_term(graph, *x, out), insert_term(graph, *y, out), node->input(2)});
  copy_names(node, sum->node());
  return sum;
}

Value* insert_pooling(Graph& graph, Node* node, const Sources& sources, const AffineNode& out) {
  if (!is_kind(node, "aten::max_pool2d") && !is_kind(node, "aten::adaptive_avg_pool2d")) return nullptr;
  const Codes* x = static_codes_of(sources, node->input(0));
  if (x == nullptr) return nullptr;
  std::vector<Value*> inputs = node->inputs().vec();
  inputs[0] = insert_cast(graph, insert_centred(graph, *x), at::kDouble);
  Value* pooled = insert_op(graph, node->kind().toQualString(), inputs);
  copy_names(node, pooled->node());
  return insert_rescaled(graph, pooled, graph.insertConstant(x->affine.scale / out.scale));
}

/// The codes of the operator that `out` quantizes, computed with integers; null when it is none of these, or when
/// something else reads its float result, too.
Value* insert_integer_operator(Model& model, const AffineNode& out, const Sources& sources) {
  Node* node = out.input->node();
  const auto read_once = [](const Node* n) { return n->outputs().size() == 1 && n->output()->uses().size() == 1; };
  if (out.per_channel || !read_once(node)) return nullptr;
  const bool relu = is_kind(node, "aten::relu");
  if (relu) node = node->input(0)->node();
  if (!read_once(node)) return nullptr;
  Graph& graph = *model.graph();
  Value* levels = insert_weighted(graph, node, sources, out);
  if (levels == nullptr) levels = insert_sum(model, node, sources, out);
  if (levels == nullptr && !relu) levels = insert_pooling(graph, node, sources, out);
  return levels == nullptr ? nullptr : insert_codes(graph, levels, out, relu);
}

/// Lets what read the quantized tensor read its codes.
void replace_quantizer(Node* node, const Codes& codes, Sources& sources) {
  for (const auto& use : node->output()->uses()) sources[use.user] = codes;
  node->output()->replaceAllUsesWith(codes.value);
  node->destroy();
}

bool rewrite_static_quantizer(Model& model, Node* node, Sources& sources) {
  const auto a = read_quantize(model, node);
  if (!a || !only_dequantized(node)) return false;
  const torch::jit::WithInsertPoint guard(node);
  Codes codes;
  codes.affine = *a;
  codes.value = insert_integer_operator(model, *a, sources);
  if (codes.value == nullptr) codes.value = insert_quantize_arithmetic(*model.graph(), *a, a->input);
  replace_quantizer(node, codes, sources);
  return true;
}

bool rewrite_dynamic_quantizer(Model& model, Node* node, Sources& sources) {
  const auto dynamic = read_dynamic_quantize(model, node);
  if (!dynamic || !only_dequantized(node)) return false;
  const torch::jit::WithInsertPoint guard(node);
  replace_quantizer(node, insert_dynamic_quantize_arithmetic(*model.graph(), *dynamic), sources);
  return true;
}

/// The scale of the products is known at run time only; the output stays float.
bool rewrite_dynamic_linear(Model& model, Node* node, const Sources& sources) {
  const Codes* x = is_kind(node, "aten::linear") ? codes_of(sources, node->input(0)) : nullptr;
  const Codes* weight = x != nullptr && x->is_dynamic() ? weight_of(sources, node) : nullptr;
  if (weight == nullptr) return false;
  Graph& graph = *model.graph();
  const torch::jit::WithInsertPoint guard(node);
  Value* scale = insert_op(graph, "aten::mul", {insert_weight_scale(graph, node, weight->affine, 1), x->dynamic_scale});
  if (!weight->affine.per_channel) scale->setType(c10::FloatType::get());
  Value* products = insert_cast(graph, insert_products(graph, node, *x, *weight, scale), at::kDouble);
  Value* result = insert_cast(graph, insert_op(graph, "aten::mul", {products, scale}), at::kFloat);
  node->output()->replaceAllUsesWith(result);
  node->destroy();
  return true;
}

/// Stored codes become plain integers under the same name.
void unwrap_parameters(Model& model, Sources& sources) {
  for (const auto& parameter : quantized_parameters(model)) {
    const AffineNode a = read_quantized(parameter.tensor);
    replace_parameter(model, parameter.uses, parameter.tensor.int_repr());
    for (const auto& [node, index] : parameter.uses) {
      Codes codes;
      codes.value = node->input(index);
      codes.affine = a;
      sources[node] = codes;
    }
  }
}

/// In order of execution, so that the codes of an operator's inputs are known when it comes.
bool rewrite_operators(Model& model, Sources& sources) {
  const ParamScope scope(model);
  unwrap_parameters(model, sources);
  bool changed = !sources.empty();
  for (Node* node : all_nodes(model.graph()->block())) {
    changed = rewrite_static_quantizer(model, node, sources) || rewrite_dynamic_quantizer(model, node, sources) ||
              rewrite_dynamic_linear(model, node, sources) || changed;
  }
  return changed;
}

}  // namespace

bool to_integer_representation(Model& model) {
  const auto graph = model.graph();
  Sources sources;
  const bool changed = rewrite_operators(model, sources);
  remove_dead_code(graph);  // the float operators, so that the dequantizers left are those that something reads
  for (Node* node : nodes_of_kind(graph->block(), {"aten::dequantize"})) {
    const auto source = sources.find(node);
    if (source == sources.end()) continue;
    const torch::jit::WithInsertPoint guard(node);
    node->output()->replaceAllUsesWith(insert_dequantize_arithmetic(*graph, source->second));
    node->destroy();
  }
  return changed;
}

}  // namespace tsquant
