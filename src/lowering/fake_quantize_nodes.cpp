#include "lowering/fake_quantize_nodes.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>
#include <string>

#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

std::string kind_of(const Node* node) { return node->kind().toQualString(); }

bool is_quantize(const Node* node) {
  static const std::set<std::string> kKinds{"aten::quantize_per_tensor", "aten::quantize_per_channel",
                                            "tsquant::quantize_fp8"};
  return kKinds.count(kind_of(node)) || is_decomposed_quantize(node);
}

bool is_dequantize(const Node* node) {
  static const std::set<std::string> kKinds{"aten::dequantize", "tsquant::dequantize_fp8"};
  return kKinds.count(kind_of(node)) || is_decomposed_dequantize(node);
}

/// A clamp without a name was inserted before a quantize of fewer levels; others are the model's own.
bool is_level_clamp(const Node* node) { return node->kind() == c10::aten::clamp && names_of(node).name.empty(); }

bool is_part_of_chain(const Node* node) {
  return is_quantize(node) || is_dequantize(node) || is_fake_quantize(node) || is_level_clamp(node);
}

c10::optional<at::Tensor> tensor_argument(const Model& model, const Value* value) {
  if (const auto parameter = param_of(model, value)) return parameter->tensor;
  const auto constant = constant_of(model, value);
  if (constant && constant->isTensor()) return constant->toTensor();
  return c10::nullopt;
}

/// Scale and zero point of a per-tensor operator, as numbers or as tensors with one element.
bool read_per_tensor(const Model& model, const Node* node, AffineNode& a) {
  const auto scale = constant_of(model, node->input(1)), zero_point = constant_of(model, node->input(2));
  if (scale && scale->isDouble() && zero_point && zero_point->isInt()) {
    a.scale = scale->toDouble();
    a.zero_point = zero_point->toInt();
    return true;
  }
  const auto scales = tensor_argument(model, node->input(1)), zero_points = tensor_argument(model, node->input(2));
  if (!scales || !zero_points || scales->numel() != 1 || zero_points->numel() != 1) return false;
  a.scale = scales->item<double>();
  a.zero_point = zero_points->to(at::kLong).item<int64_t>();
  return true;
}

bool read_per_channel(const Model& model, const Node* node, AffineNode& a) {
  const auto scales = tensor_argument(model, node->input(1)), zero_points = tensor_argument(model, node->input(2));
  const auto axis = constant_of(model, node->input(3));
  if (!scales || !zero_points || !axis || !axis->isInt()) return false;
  a.per_channel = true;
  a.scales = scales->to(at::kFloat);
  a.zero_points = zero_points->is_floating_point() ? zero_points->to(at::kFloat) : zero_points->to(at::kLong);
  a.axis = axis->toInt();
  return true;
}

/// The operators agree in the order of their arguments: x, scale, zero_point, [axis,] quant_min, quant_max, ...
c10::optional<AffineNode> read_affine(const Model& model, const Node* node) {
  AffineNode a;
  const bool per_channel = kind_of(node).find("_per_channel") != std::string::npos;
  const size_t levels = per_channel ? 4 : 3;
  if (node->inputs().size() < levels + 2) return c10::nullopt;
  if (!(per_channel ? read_per_channel(model, node, a) : read_per_tensor(model, node, a))) return c10::nullopt;
  const auto low = constant_of(model, node->input(levels)), high = constant_of(model, node->input(levels + 1));
  if (!low || !high || !low->isInt() || !high->isInt()) return c10::nullopt;
  a.input = const_cast<Value*>(node->input(0));
  a.quant_min = low->toInt();
  a.quant_max = high->toInt();
  const bool fits_char = a.quant_min >= -128 && a.quant_max <= 127, fits_byte = a.quant_min >= 0 && a.quant_max <= 255;
  // Levels that fit both, such as 0 to 127, are unsigned ones with fewer bits.
  a.dtype = fits_byte ? c10::kByte : fits_char ? c10::kChar : c10::kInt;
  return a;
}

}  // namespace

Value* insert_fake_quantize(Graph& graph, const AffineNode& a, Value* x) {
  std::vector<Value*> inputs{x};
  if (a.per_channel) {
    inputs.push_back(graph.insertConstant(a.scales));
    // The operator takes float32, but refuses int64.
    const bool is_float = a.zero_points.is_floating_point();
    inputs.push_back(graph.insertConstant(is_float ? a.zero_points : a.zero_points.to(at::kInt)));
    inputs.push_back(graph.insertConstant(a.axis));
  } else {
    inputs.push_back(graph.insertConstant(a.scale));
    inputs.push_back(graph.insertConstant(a.zero_point));
  }
  inputs.push_back(graph.insertConstant(a.quant_min));
  inputs.push_back(graph.insertConstant(a.quant_max));
  const auto kind = c10::Symbol::fromQualString(a.per_channel ? "aten::fake_quantize_per_channel_affine"
                                                              : "aten::fake_quantize_per_tensor_affine");
  Node* node = graph.insertNode(graph.create(kind, inputs, 1));
  node->output()->setType(c10::TensorType::get());
  return node->output();
}

bool is_fake_quantize(const Node* node) {
  const std::string kind = kind_of(node);
  return kind == "aten::fake_quantize_per_tensor_affine" || kind == "aten::fake_quantize_per_channel_affine";
}

bool is_decomposed_quantize(const Node* node) {
  const std::string kind = kind_of(node);
  return kind == "quantized_decomposed::quantize_per_tensor" || kind == "quantized_decomposed::quantize_per_channel";
}

bool is_decomposed_dequantize(const Node* node) {
  const std::string kind = kind_of(node);
  return kind == "quantized_decomposed::dequantize_per_tensor" ||
         kind == "quantized_decomposed::dequantize_per_channel";
}

c10::optional<AffineNode> read_fake_quantize(const Model& model, const Node* node) {
  return is_fake_quantize(node) ? read_affine(model, node) : c10::nullopt;
}

c10::optional<AffineNode> read_decomposed(const Model& model, const Node* node) {
  return is_decomposed_quantize(node) || is_decomposed_dequantize(node) ? read_affine(model, node) : c10::nullopt;
}

c10::optional<at::Tensor> run_quantizers(const Model& model, const Value* value) {
  if (const auto parameter = param_of(model, value)) return parameter->tensor;
  const Node* node = value->node();
  if (!is_part_of_chain(node)) return c10::nullopt;
  torch::jit::Stack stack;
  for (const Value* input : node->inputs()) {
    if (input == node->input(0)) {
      const auto x = run_quantizers(model, input);
      if (!x) return c10::nullopt;
      stack.emplace_back(*x);
    } else if (const auto constant = constant_of(model, input)) {
      stack.push_back(*constant);
    } else if (const auto parameter = param_of(model, input)) {
      stack.emplace_back(parameter->tensor);
    } else {
      return c10::nullopt;
    }
  }
  at::NoGradGuard no_grad;
  node->getOperation()(stack);
  return stack.back().toTensor();
}

std::vector<Node*> weight_quantizers(const Model& model) {
  const ParamScope scope(model);
  std::vector<Node*> found;
  for (Node* node : all_nodes(model.graph()->block())) {
    if (!is_fake_quantize(node) && !is_dequantize(node)) continue;
    const auto& uses = node->output()->uses();
    const bool goes_on =
        std::any_of(uses.begin(), uses.end(), [](const auto& use) { return is_part_of_chain(use.user); });
    if (!goes_on && start_of_chain(model, node).first) found.push_back(node);
  }
  return found;
}

ParameterUse start_of_chain(const Model& model, Node* last) {
  Node* node = last;
  while (is_part_of_chain(node)) {
    if (param_of(model, node->input(0))) return {node, 0};
    node = node->input(0)->node();
  }
  return {nullptr, 0};
}

}  // namespace tsquant
