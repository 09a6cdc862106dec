#include <algorithm>
#include <cmath>

#include "base/error_text.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "lowering/engines/weighted_op.h"
#include "tsquant/engine.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

c10::optional<PackedOp> pack(LoweringContext& context, const EngineRow& row, const WeightedOp& op,
                             const FusedOutput& output, std::string& reason) {
  // LibTorch packs for the engine that is selected.
  const EngineGuard guard(context.engine().name);
  try {
    return row.pack(op, output);
  } catch (const std::exception& e) {
    reason = "the engine does not take its weight: " + short_message(e);
    return c10::nullopt;
  }
}

Value* params_value(LoweringContext& context, Node* position, const PackedOp& packed, const Node* named) {
  return context.attribute(position, names_of(named).name, packed.params);
}

/// The engine's row, when it takes the layer and can write its result; else the reason.
const EngineRow* weighted_row(LoweringContext& context, const WeightedOp& op, const FusedOutput& output,
                              std::string& reason) {
  const EngineRow* row = context.engine().find(op_of(op.node));
  if (row == nullptr) {
    reason = "the engine has no integer kernel for this operator";
    return nullptr;
  }
  OpFacts facts;
  facts.rank = context.rank_of(op.codes);
  reason = broken_limit(*row, facts);
  if (op.is_dynamic && !context.engine().reads_tensor_scales) {
    reason = "this engine computes with activation parameters that are known before it runs";
  }
  if (reason.empty() && !output.quantized() && *row->float_kernel == '\0') {
    reason = "its result is used in float, and this engine writes only quantized results";
  }
  return reason.empty() ? row : nullptr;
}

/// The same real values as codes of the other sign.
Value* change_type(LoweringContext& context, Node* position, Value* codes, const CodeParams& to, c10::ScalarType type) {
  Value* real = context.insert(position, "aten::dequantize", {codes}, nullptr);
  return context.insert(position, "aten::quantize_per_tensor",
                        {real, context.constant(position, to.scale), context.constant(position, to.zero_point),
                         context.constant(position, static_cast<int64_t>(type))},
                        nullptr);
}

bool takes_relu_twin(const EngineRow& row, const FusedOutput& output) {
  return !row.clamps && output.is_relu() && *row.relu_kernel != '\0';
}

const char* kernel_of(const EngineRow& row, const FusedOutput& output) {
  if (!output.quantized()) return row.float_kernel;
  return takes_relu_twin(row, output) ? row.relu_kernel : row.kernel;
}

/// Inserts the kernel; a kernel for unsigned codes alone gets them converted on both sides.
Value* insert_kernel(LoweringContext& context, const EngineRow& row, const WeightedOp& op, const FusedOutput& output,
                     Value* params) {
  constexpr int64_t kShift = 128;
  const c10::ScalarType type = context.engine().activations;
  const bool convert = row.unsigned_only && type != c10::kQUInt8;
  Node* node = op.node;
  Value* codes = op.codes;
  if (convert) {
    const CodeParams& p = context.params_of(codes);
    codes = change_type(context, node, codes, {p.scale, p.zero_point + kShift}, c10::kQUInt8);
  }
  const char* kernel = kernel_of(row, output);
  if (!output.quantized()) return context.insert(node, kernel, {codes, params}, node);
  const int64_t zero_point = output.params.zero_point + (convert ? kShift : 0);
  std::vector<Value*> inputs = {codes, params};
  if (!output.activation.empty()) {
    inputs.push_back(context.constant(node, output.activation));
    inputs.push_back(context.constant(node, output.factors.defined() ? c10::IValue(output.factors) : c10::IValue()));
  }
  inputs.push_back(context.constant(node, output.params.scale));
  inputs.push_back(context.constant(node, zero_point));
  Value* result = context.insert(node, kernel, inputs, node);
  if (convert) result = change_type(context, node, result, output.params, type);
  if (output.clamps() && !row.clamps && !takes_relu_twin(row, output)) {
    result = insert_clamp(context, node, result, output.params, output.low, output.high);
  }
  return result;
}

bool lower_weighted_node(LoweringContext& context, Node* node) {
  std::string reason;
  const auto op = read_weighted_op(context, node, reason);
  if (!op) {
    if (!reason.empty()) context.refuse(node, reason);
    return false;
  }
  FusedOutput output = follow_output(context, node->output());
  if (const EngineRow* row = context.engine().find(op_of(node))) {
    const KernelGeometry& g = op->geometry;
    follow_activation(context, *row, g.output_channels(op->weight.sizes()), static_cast<int64_t>(g.spatial()), output);
  }
  if (!context.may_lower(node, output.result())) return false;
  const EngineRow* row = weighted_row(context, *op, output, reason);
  const auto packed = row == nullptr ? c10::nullopt : pack(context, *row, *op, output, reason);
  if (!packed) {
    context.refuse(node, reason);
    return false;
  }
  Value* result = insert_kernel(context, *row, *op, output, params_value(context, node, *packed, node));
  const std::string kernel = kernel_of(*row, output);
  context.record(node, kernel);
  Work work = op->work(context);
  work.activated = !output.activation.empty();
  context.set_work(result, work);
  replace_output(context, output, result, kernel);
  remove_weighted_op(context, *op);
  return true;
}

/// One operand of an addition that a convolution computes: directly, or quantized and dequantized in between.
struct ConvOperand {
  Node* convolution = nullptr;
  FusedOutput own;  ///< the quantizer of its own result, and bounds before; without one the float result is added
};

bool has_one_use(const Value* value) { return value->uses().size() == 1; }

c10::optional<ConvOperand> conv_operand(LoweringContext& context, Value* operand) {
  const auto is_convolution = [](const Node* node) {
    return node->kind() == c10::aten::conv2d || node->kind() == c10::aten::conv3d;
  };
  ConvOperand found;
  if (!has_one_use(operand)) return c10::nullopt;
  found.convolution = operand->node();
  Value* codes = context.codes_of(operand);
  if (codes == nullptr) return is_convolution(found.convolution) ? c10::make_optional(found) : c10::nullopt;
  if (!has_one_use(codes)) return c10::nullopt;
  c10::optional<double> low, high;
  for (found.convolution = codes->node(); !is_convolution(found.convolution);) {
    const bool is_quantizer = found.convolution == codes->node() && quantizer_params(context, found.convolution);
    if (!is_quantizer && !clamp_bounds(context.model(), found.convolution, low, high)) return c10::nullopt;
    found.convolution = found.convolution->input(0)->node();
  }
  found.own = follow_output(context, found.convolution->output());
  const bool leads_here = found.own.quantizers.size() == 1 && found.own.quantizers.front() == codes->node();
  return leads_here ? c10::make_optional(found) : c10::nullopt;
}

// %c = aten::conv2d(%a, ...); [%q = quantize(%c); %d = dequantize(%q);] %s = aten::add(%d, dequantize(%other), 1);
// [%r = relu(%s);] %y = quantize(%r), with clamps before the quantizers or without
//   ->
// %y = tsquant::conv_add(%codes, %other, %params, scale, zero_point)
// The kernel rounds and saturates the convolution's own result as the reference form does (conv_add.middle,
// conv_add.middle_clamped).
bool fuse_one(LoweringContext& context, Node* add, size_t which) {
  const auto found = conv_operand(context, add->input(which));
  Value* other = context.codes_of(add->input(1 - which));
  if (!found || other == nullptr || found->convolution->owningBlock() != add->owningBlock()) return false;
  const FusedOutput output = follow_output(context, add->output());
  const EngineRow* row = context.engine().find(op_of(found->convolution));
  if (!output.quantized() || row == nullptr || *row->add_kernel == '\0') return false;
  if (!context.may_lower(add, output.result())) return false;
  std::string reason;
  const auto op = read_weighted_op(context, found->convolution, reason);
  const auto packed = op && !op->is_dynamic ? pack(context, *row, *op, output, reason) : c10::nullopt;
  if (!packed) return false;
  std::vector<Value*> inputs = {op->codes, other, params_value(context, add, *packed, found->convolution)};
  const auto append = [&](const CodeParams& p) {
    inputs.push_back(context.constant(add, p.scale));
    inputs.push_back(context.constant(add, p.zero_point));
  };
  if (found->own.quantized()) append(found->own.params);
  if (found->own.clamps()) {
    const auto [low, high] = code_bounds(context, found->own);
    inputs.insert(inputs.end(), {context.constant(add, low), context.constant(add, high)});
  }
  append(output.params);
  Value* result = context.insert(add, row->add_kernel, inputs, found->convolution);
  Work work = op->work(context);
  if (found->own.quantized()) work.tie = std::max(1.0, std::ceil(found->own.params.scale / output.params.scale));
  context.set_work(result, work);
  context.record(add, std::string("fused into ") + row->add_kernel);
  context.record(found->convolution, row->add_kernel);
  replace_output(context, output, result, row->add_kernel);
  Node* dequantize = add->input(which)->node();
  context.destroy(add);
  if (found->own.quantized()) {
    context.destroy(dequantize);
    context.destroy(found->own.quantizers.front());
  }
  for (auto it = found->own.absorbed.rbegin(); it != found->own.absorbed.rend(); ++it) {
    context.record(*it, std::string("fused into ") + row->add_kernel);
    context.destroy(*it);
  }
  remove_weighted_op(context, *op);
  return true;
}

}  // namespace

bool fuse_conv_add(LoweringContext& context) {
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::add", "aten::add_"})) {
    if (!is_tensor_sum(context, node)) continue;
    changed |= fuse_one(context, node, 0) || fuse_one(context, node, 1);
  }
  return changed;
}

bool lower_convolutions_and_linear(LoweringContext& context) {
  bool changed = false;
  for (Node* node : weighted_nodes(context.graph().block())) {
    changed |= lower_weighted_node(context, node);
  }
  return changed;
}

}  // namespace tsquant
