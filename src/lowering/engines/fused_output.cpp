#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/names.h"
#include "graph/params.h"
#include "lowering/engines/lowering_context.h"
#include "lowering/engines/pooling_facts.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Reads a number or None. Returns false for anything that is not constant.
bool read_bound(const Model& model, const Node* node, size_t input, c10::optional<double>& bound) {
  if (input >= node->inputs().size()) return true;
  const auto value = constant_of(model, node->input(input));
  if (!value) return false;
  if (value->isNone()) return true;
  if (!value->isScalar()) return false;
  bound = value->toScalar().toDouble();
  return true;
}

/// clamp(clamp(x, low, high), next_low, next_high) as one clamp; the later upper bound wins, as in aten::clamp.
void compose(FusedOutput& out, c10::optional<double> next_low, c10::optional<double> next_high) {
  const auto apply = [&](double v) {
    if (next_low) v = std::max(v, *next_low);
    if (next_high) v = std::min(v, *next_high);
    return v;
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double low = apply(out.low.value_or(-kInfinity)), high = apply(out.high.value_or(kInfinity));
  if (low > -kInfinity) out.low = low;
  if (high < kInfinity) out.high = high;
}

/// The reader of a value that has no other one, in its own block; null when there are more.
Node* only_reader(const Value* value, size_t& input) {
  if (value->uses().size() != 1) return nullptr;
  const auto use = value->uses()[0];
  input = use.offset;
  return use.user->owningBlock() == value->node()->owningBlock() ? use.user : nullptr;
}

/// Constants that a node multiplies the value with, one for each output channel; undefined when it does something else.
at::Tensor channel_factors(const Model& model, const Node* node, int64_t channels, int64_t spatial) {
  if (op_of(node) != "mul" || !node->input(1)->type()->isSubtypeOf(*c10::TensorType::get())) return {};
  const auto factors = param_of(model, node->input(1));
  if (!factors || factors->tensor.scalar_type() != at::kFloat || factors->tensor.dim() != spatial + 1) return {};
  const bool per_channel = factors->tensor.size(0) == channels && factors->tensor.numel() == channels;
  return per_channel ? factors->tensor.detach().reshape({channels}) : at::Tensor();
}

/// The readers of output.last, when all are quantizers with equal parameters.
void find_quantizers(const LoweringContext& context, FusedOutput& output) {
  for (const auto& use : output.last->uses()) {
    const auto params = use.offset == 0 ? quantizer_params(context, use.user) : c10::nullopt;
    if (!params || (output.quantized() && !(*params == output.params))) {
      output.quantizers.clear();
      return;
    }
    output.params = *params;
    output.quantizers.push_back(use.user);
  }
}

}  // namespace

bool clamp_bounds(const Model& model, const Node* node, c10::optional<double>& low, c10::optional<double>& high) {
  std::string kind = node->kind().toQualString();
  if (!kind.empty() && kind.back() == '_') kind.pop_back();
  if (kind == "aten::relu") {
    low = 0.0;
    return true;
  }
  if (kind == "aten::relu6") {
    low = 0.0;
    high = 6.0;
    return true;
  }
  if (kind == "aten::hardtanh" || kind == "aten::clamp") {
    return read_bound(model, node, 1, low) && read_bound(model, node, 2, high);
  }
  if (kind == "aten::clamp_min") return read_bound(model, node, 1, low);
  if (kind == "aten::clamp_max") return read_bound(model, node, 1, high);
  return false;
}

c10::optional<CodeParams> quantizer_params(const LoweringContext& context, const Node* node) {
  if (node->kind() != c10::Symbol::fromQualString("aten::quantize_per_tensor")) return c10::nullopt;
  const Model& model = context.model();
  const auto scale = constant_of(model, node->input(1)), zero_point = constant_of(model, node->input(2));
  const auto dtype = constant_of(model, node->input(3));
  if (!scale || !scale->isDouble() || !zero_point || !zero_point->isInt() || !dtype || !dtype->isInt()) {
    return c10::nullopt;
  }
  if (dtype->toInt() != static_cast<int64_t>(context.engine().activations)) return c10::nullopt;
  return CodeParams{scale->toDouble(), zero_point->toInt()};
}

Value* insert_clamp(LoweringContext& context, Node* position, Value* codes, const CodeParams& params,
                    c10::optional<double> low, c10::optional<double> high) {
  const EngineRow& row = *context.engine().find("clamp");
  if (row.dense_operand) {
    const auto contiguous = static_cast<int64_t>(c10::MemoryFormat::Contiguous);
    codes = context.insert(position, "aten::contiguous", {codes, context.constant(position, contiguous)}, nullptr);
  }
  FusedOutput bounds;
  bounds.low = low;
  bounds.high = high;
  bounds.params = params;
  return context.insert(position, row.kernel, row.arguments(context, position, {codes}, bounds), position);
}

namespace {

/// Goes on past clamps with constant bounds. Returns whether there were any.
bool follow_clamps(const LoweringContext& context, FusedOutput& out) {
  const size_t before = out.absorbed.size();
  size_t input = 0;
  for (Node* next = only_reader(out.last, input); next != nullptr && input == 0; next = only_reader(out.last, input)) {
    c10::optional<double> low, high;
    if (!clamp_bounds(context.model(), next, low, high)) break;
    compose(out, low, high);
    out.absorbed.push_back(next);
    out.last = next->output();
  }
  return out.absorbed.size() > before;
}

// quantize(clamp(dequantize(quantize(%x)))) with one scale and zero point is quantize(clamp(%x)): rounding keeps the
// order of values, and a bound has the same code before and after. FX shares observers like that around a ReLU6.
bool follow_quantized_clamp(const LoweringContext& context, FusedOutput& out) {
  if (out.quantizers.size() != 1) return false;
  size_t input = 0;
  Node* dequantize = only_reader(out.quantizers.front()->output(), input);
  if (dequantize == nullptr || op_of(dequantize) != "dequantize") return false;
  FusedOutput longer = out;
  longer.absorbed.push_back(out.quantizers.front());
  longer.absorbed.push_back(dequantize);
  longer.quantizers.clear();
  longer.last = dequantize->output();
  if (!follow_clamps(context, longer)) return false;
  find_quantizers(context, longer);
  if (!longer.quantized() || !(longer.params == out.params)) return false;
  out = longer;
  return true;
}

}  // namespace

std::pair<int64_t, int64_t> code_bounds(const LoweringContext& context, const FusedOutput& output) {
  const int64_t lowest = context.engine().activations == c10::kQInt8 ? -128 : 0, highest = lowest + 255;
  const auto code_of = [&](double value) {  // as aten::quantize_per_tensor rounds
    const float steps = std::nearbyint(static_cast<float>(value) * (1.0f / static_cast<float>(output.params.scale)));
    const double code = static_cast<double>(steps) + static_cast<double>(output.params.zero_point);
    return static_cast<int64_t>(std::clamp(code, static_cast<double>(lowest), static_cast<double>(highest)));
  };
  return {output.low ? code_of(*output.low) : lowest, output.high ? code_of(*output.high) : highest};
}

FusedOutput follow_output(LoweringContext& context, Value* value) {
  FusedOutput out;
  out.last = value;
  follow_clamps(context, out);
  find_quantizers(context, out);
  while (follow_quantized_clamp(context, out)) {
  }
  return out;
}

namespace {

/// The name that a kernel knows the function by; "" when it has other arguments than its input.
std::string activation_name(const LoweringContext& context, const Node* node) {
  const std::string name = op_of(node);
  if (node->inputs().size() == 1) return name;
  if (name != "gelu") return "";
  const auto approximate = constant_of(context.model(), node->input(1));
  if (!approximate || !approximate->isString()) return "";
  return approximate->toStringRef() == "tanh" ? "gelu_tanh" : name;
}

}  // namespace

// %h = aten::hardswish(%c); [%m = aten::mul(%h, factors);] %q = quantize(%m)
void follow_activation(const LoweringContext& context, const EngineRow& row, int64_t channels, int64_t spatial,
                       FusedOutput& output) {
  if (output.quantized() || output.clamps()) return;  // the kernels have no bounds before an activation
  size_t input = 0;
  Node* activation = only_reader(output.last, input);
  if (activation == nullptr || input != 0) return;
  const std::string name = activation_name(context, activation);
  if (std::find(row.activations.begin(), row.activations.end(), name) == row.activations.end()) return;
  FusedOutput longer = output;
  longer.activation = name;
  longer.absorbed.push_back(activation);
  longer.last = activation->output();
  Node* product = only_reader(longer.last, input);
  if (product != nullptr && input == 0) {
    longer.factors = channel_factors(context.model(), product, channels, spatial);
    if (longer.factors.defined()) {
      longer.absorbed.push_back(product);
      longer.last = product->output();
    }
  }
  find_quantizers(context, longer);
  if (longer.quantized()) output = longer;
}

void replace_output(LoweringContext& context, const FusedOutput& output, Value* result, const std::string& kernel) {
  context.stands_for(result, output.result());
  if (output.quantized()) {
    context.set_codes(result, output.params);
    for (Node* quantizer : output.quantizers) {
      quantizer->output()->replaceAllUsesWith(result);
      context.destroy(quantizer);
    }
  } else {
    output.last->replaceAllUsesWith(result);
  }
  for (auto it = output.absorbed.rbegin(); it != output.absorbed.rend(); ++it) {
    context.record(*it, "fused into " + kernel);
    context.destroy(*it);
  }
}

const EngineRow* row_for(LoweringContext& context, Node* node, const std::vector<Value*>& codes,
                         const FusedOutput& output) {
  const EngineRow* row = context.engine().find(op_of(node));
  if (row == nullptr) {
    context.refuse(node, "the engine has no integer kernel for this operator");
    return nullptr;
  }
  const bool writes_floats = row->result == ResultScale::kInput || *row->float_kernel != '\0';
  if (!output.quantized() && !writes_floats) {
    context.refuse(node, "its result is used in float");
    return nullptr;
  }
  if (!context.may_lower(node, output.result())) return nullptr;
  OpFacts facts;
  facts.rank = context.rank_of(codes.front());
  for (const Value* operand : codes) facts.operands.push_back(context.params_of(operand));
  if (output.quantized()) facts.result = output.params;
  read_pooling(context.model(), node, facts);
  const std::string reason = broken_limit(*row, facts);
  if (reason.empty()) return row;
  context.refuse(node, reason);
  return nullptr;
}

void apply_row(LoweringContext& context, const EngineRow& row, Node* node, const std::vector<Value*>& codes,
               const FusedOutput& output, const Work& work) {
  const bool relu_twin = output.is_relu() && *row.relu_kernel != '\0';
  const std::string kernel = !output.quantized() ? row.float_kernel : relu_twin ? row.relu_kernel : row.kernel;
  Value* result = context.insert(node, kernel, row.arguments(context, node, codes, output), node);
  if (work.multiply_adds > 0) context.set_work(result, work);
  // A rectifier is part of the kernel; the bounds of relu6 and clamp are applied to its codes.
  const bool rectified = output.low && *output.low == 0;
  if (output.clamps() && !row.clamps && !(rectified && !output.high)) {
    result = insert_clamp(context, node, result, output.params, output.low, output.high);
  }
  context.record(node, kernel);
  replace_output(context, output, result, kernel);
  context.destroy(node);
}

}  // namespace tsquant
