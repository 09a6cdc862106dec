#include "flows/strip_rewrites.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "flows/bitwise_equal.h"
#include "graph/dead_code.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/fake_quantize_nodes.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

/// "layer1.0.conv1.weight", or the operator that gives the value.
std::string place_of(const Model& model, const Value* value) {
  const auto parameter = param_of(model, value);
  return parameter && !parameter->name.empty() ? parameter->name : operator_name(value->node());
}

/// A weight quantizer with the tensor that shall take the parameter's place.
struct Replacement {
  Node* last = nullptr;  ///< the quantizer's last operator
  ParameterUse start;    ///< where it reads the parameter
  at::Tensor tensor;
};

/// Gives each quantizer its tensor. A parameter that several quantizers read alike is stored once.
void store(Model& model, const std::vector<Replacement>& replacements) {
  std::map<const c10::TensorImpl*, std::vector<const Replacement*>> by_parameter;
  std::vector<const c10::TensorImpl*> order;
  for (const auto& replacement : replacements) {
    const auto parameter = param_of(model, replacement.start.first->input(0));
    auto& group = by_parameter[parameter->tensor.unsafeGetTensorImpl()];
    if (group.empty()) order.push_back(parameter->tensor.unsafeGetTensorImpl());
    group.push_back(&replacement);
  }
  for (const auto* parameter : order) {
    const auto& group = by_parameter.at(parameter);
    const at::Tensor& first = group.front()->tensor;
    std::vector<ParameterUse> uses;
    bool alike = true;
    for (const auto* member : group) {
      alike = alike && bitwise_equal(member->tensor, first);
      if (std::find(uses.begin(), uses.end(), member->start) == uses.end()) uses.push_back(member->start);
    }
    if (alike) {
      replace_parameter(model, uses, first);
    } else {
      for (const auto* member : group) set_param(model, member->start.first, member->start.second, member->tensor);
    }
  }
}

void warn(Model& model, const std::string& place, const std::string& reason) {
  model.warnings().push_back(fmt::format("strip: the quantizer at {} stays: {}", place, reason));
}

constexpr const char* kComputed = "its parameters are computed while the model runs";

/// The quantized tensor whose values are those of a fake quantize on a weight, bit for bit; nullopt when there is none.
c10::optional<at::Tensor> codes_of(Model& model, const AffineNode& a, const at::Tensor& values,
                                   const std::string& place) {
  if (a.dtype == c10::kInt) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("codes from {} to {} do not fit a byte", a.quant_min, a.quant_max), place,
                "use at most 8 bits for weights, or another strip format");
  }
  if (a.per_channel && a.zero_points.is_floating_point()) {
    warn(model, place, "its zero points are no codes");
    return c10::nullopt;
  }
  QParams q;
  q.per_channel = a.per_channel;
  q.axis = a.axis;
  q.dtype = a.dtype;
  q.scale = a.per_channel ? a.scales : at::full({1}, a.scale, at::kFloat);
  q.zero_point = a.per_channel ? a.zero_points : at::full({1}, a.zero_point, at::kLong);
  std::vector<int64_t> shape(values.dim(), 1);
  if (a.per_channel) shape[a.axis] = -1;
  // The values are multiples of the scale, so that dividing and rounding gives their codes back.
  const auto codes = at::round(values.to(at::kDouble) / q.scale.to(at::kDouble).view(shape)) + q.zero_point.view(shape);
  auto tensor = make_quantized(codes.clamp(a.quant_min, a.quant_max).to(a.dtype), q);
  if (values.scalar_type() == c10::kFloat && at::equal(tensor.dequantize(), values)) return tensor;
  warn(model, place, "integer codes would not give the same values");
  return c10::nullopt;
}

bool same_parameters(const AffineNode& a, const AffineNode& b) {
  if (a.per_channel != b.per_channel || a.quant_min != b.quant_min || a.quant_max != b.quant_max) return false;
  if (!a.per_channel) return a.scale == b.scale && a.zero_point == b.zero_point;
  return a.axis == b.axis && at::equal(a.scales, b.scales) && at::equal(a.zero_points, b.zero_points);
}

}  // namespace

std::string operator_name(const Node* node) {
  for (; node->kind() != c10::prim::Param; node = node->input(0)->node()) {
    const std::string name = names_of(node).name;
    if (!name.empty()) return name;
    if (node->inputs().empty()) return node->kind().toQualString();
  }
  return "the input of the model";
}

bool weights_to_codes(Model& model) {
  auto graph = model.graph();
  std::vector<Replacement> replacements;
  for (Node* last : weight_quantizers(model)) {
    const auto start = start_of_chain(model, last);
    const std::string place = place_of(model, start.first->input(0));
    if (start.first == last && !is_fake_quantize(last)) continue;  // codes already
    const bool fake = is_fake_quantize(last);
    const auto values = run_quantizers(model, fake ? last->output() : last->input(0));
    const auto a = fake ? read_fake_quantize(model, last) : c10::nullopt;
    if (!values || (fake && !a)) {
      warn(model, place, kComputed);
      continue;
    }
    const auto tensor = fake ? codes_of(model, *a, *values, place) : values;
    if (tensor) replacements.push_back({last, start, *tensor});
  }
  store(model, replacements);
  for (const auto& replacement : replacements) {
    Node* last = replacement.last;
    Value* codes = replacement.start.first->input(0);
    if (!is_fake_quantize(last)) {
      last->replaceInput(0, codes);
      continue;
    }
    torch::jit::WithInsertPoint guard(last);
    Node* dequantize = graph->insertNode(graph->create(c10::Symbol::fromQualString("aten::dequantize"), {codes}, 1));
    dequantize->output()->setType(c10::TensorType::get());
    last->output()->replaceAllUsesWith(dequantize->output());
    last->destroy();
  }
  remove_dead_code(graph);
  return !replacements.empty();
}

bool weights_in_place(Model& model) {
  std::vector<Replacement> replacements;
  for (Node* last : weight_quantizers(model)) {
    const auto start = start_of_chain(model, last);
    const auto values = run_quantizers(model, last->output());
    if (values) {
      replacements.push_back({last, start, *values});
    } else {
      warn(model, place_of(model, start.first->input(0)), kComputed);
    }
  }
  store(model, replacements);
  for (const auto& replacement : replacements) {
    replacement.last->output()->replaceAllUsesWith(replacement.start.first->input(0));
  }
  remove_dead_code(model.graph());
  return !replacements.empty();
}

bool decomposed_to_fake_quantize(Model& model) {
  auto graph = model.graph();
  bool changed = false;
  std::vector<Replacement> weights;
  for (Node* last : all_nodes(graph->block())) {
    if (!is_decomposed_dequantize(last)) continue;
    Node* quantize = last->input(0)->node();
    const auto a = read_decomposed(model, last);
    const auto values = param_of(model, last->input(0)) ? run_quantizers(model, last->output()) : c10::nullopt;
    if (a && values) {
      weights.push_back({last, {last, 0}, *values});
      continue;
    }
    const auto b = read_decomposed(model, quantize);
    if (!a || !b || !same_parameters(*a, *b)) {
      warn(model, place_of(model, last->output()), a && b ? "its two operators differ" : kComputed);
      continue;
    }
    torch::jit::WithInsertPoint guard(last);
    last->output()->replaceAllUsesWith(insert_fake_quantize(*graph, *a, quantize->input(0)));
    changed = true;
  }
  store(model, weights);
  for (const auto& weight : weights) {
    torch::jit::WithInsertPoint guard(weight.last);
    const auto a = read_decomposed(model, weight.last);
    weight.last->output()->replaceAllUsesWith(insert_fake_quantize(*graph, *a, weight.last->input(0)));
  }
  remove_dead_code(graph);
  return changed || !weights.empty();
}

}  // namespace tsquant
