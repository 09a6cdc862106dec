#include "graph/names.h"
#include "graph/walk.h"
#include "lowering/backends/weighted_op.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

c10::optional<PackedOp> pack(Lowering& lowering, const WeightedOp& op, const FusedOutput& output, std::string& reason) {
  return lowering.own_kernels() ? pack_own(op, output) : pack_libtorch(lowering, op, output, reason);
}

Value* params_value(Lowering& lowering, Node* position, const PackedOp& packed, const Node* named) {
  return lowering.attribute(position, names_of(named).name, packed.params);
}

void lower_one(Lowering& lowering, Node* node) {
  std::string reason;
  const auto op = read_weighted_op(lowering, node, reason);
  if (!op) {
    if (!reason.empty()) lowering.refuse(node, reason);
    return;
  }
  FusedOutput output = follow_output(lowering, node->output());
  if (!output.quantized() && !lowering.own_kernels()) {
    lowering.refuse(node, "its result is used in float, and this engine writes only quantized results");
    return;
  }
  const auto packed = pack(lowering, *op, output, reason);
  if (!packed) {
    lowering.refuse(node, reason);
    return;
  }
  Value* params = params_value(lowering, node, *packed, node);
  const std::string& kernel = output.quantized() ? packed->codes_kernel : packed->float_kernel;
  std::vector<Value*> inputs = {op->codes, params};
  if (output.quantized()) {
    inputs.push_back(lowering.constant(node, output.params.scale));
    inputs.push_back(lowering.constant(node, output.params.zero_point));
  }
  Value* result = lowering.insert(node, kernel, inputs, node);
  if (output.clamps() && !packed->clamps)
    result = insert_clamp(lowering, node, result, output.params, output.low, output.high);
  lowering.record(node, kernel);
  replace_output(lowering, output, result, kernel);
  remove_weighted_op(lowering, *op);
}

/// One operand of an addition that a convolution computes: directly, or quantized and dequantized in between.
struct ConvOperand {
  Node* convolution = nullptr;
  Node* quantize = nullptr;  // null: the convolution's float result is added
};

bool has_one_use(const Value* value) { return value->uses().size() == 1; }

c10::optional<ConvOperand> conv_operand(Lowering& lowering, Value* operand) {
  ConvOperand found;
  if (!has_one_use(operand)) return c10::nullopt;
  Node* node = operand->node();
  if (Value* codes = lowering.codes_of(operand)) {
    if (!has_one_use(codes) || codes->node()->kind() != c10::Symbol::fromQualString("aten::quantize_per_tensor")) {
      return c10::nullopt;
    }
    found.quantize = codes->node();
    if (!has_one_use(found.quantize->input(0))) return c10::nullopt;
    node = found.quantize->input(0)->node();
  }
  if (node->kind() != c10::aten::conv2d && node->kind() != c10::aten::conv3d) return c10::nullopt;
  found.convolution = node;
  return found;
}

// %c = aten::conv2d(%a, ...); [%q = quantize(%c); %d = dequantize(%q);] %s = aten::add(%d, dequantize(%other), 1);
// [%r = relu(%s);] %y = quantize(%r)
//   ->
// %y = tsquant::conv_add(%codes, %other, %params, scale, zero_point)
// The kernel rounds and saturates the convolution's own result as the reference form does (conv_add.middle).
bool fuse_one(Lowering& lowering, Node* add, size_t which) {
  const auto found = conv_operand(lowering, add->input(which));
  Value* other = lowering.codes_of(add->input(1 - which));
  if (!found || other == nullptr || found->convolution->owningBlock() != add->owningBlock()) return false;
  FusedOutput output = follow_output(lowering, add->output());
  if (!output.quantized()) return false;
  std::string reason;
  const auto op = read_weighted_op(lowering, found->convolution, reason);
  if (!op) return false;
  const auto packed = pack_own(*op, output);
  std::vector<Value*> inputs = {op->codes, other, params_value(lowering, add, *packed, found->convolution)};
  const auto append = [&](const CodeParams& p) {
    inputs.push_back(lowering.constant(add, p.scale));
    inputs.push_back(lowering.constant(add, p.zero_point));
  };
  if (found->quantize != nullptr) append(lowering.params_of(found->quantize->output()));
  append(output.params);
  Value* result = lowering.insert(add, packed->add_kernel, inputs, found->convolution);
  lowering.record(add, "fused into " + packed->add_kernel);
  lowering.record(found->convolution, packed->add_kernel);
  replace_output(lowering, output, result, packed->add_kernel);
  Node* dequantize = add->input(which)->node();
  lowering.destroy(add);
  if (found->quantize != nullptr) {
    lowering.destroy(dequantize);
    lowering.destroy(found->quantize);
  }
  remove_weighted_op(lowering, *op);
  return true;
}

}  // namespace

void fuse_conv_add(Lowering& lowering) {
  for (Node* node : nodes_of_kind(lowering.graph().block(), {"aten::add", "aten::add_"})) {
    if (!is_tensor_sum(lowering, node)) continue;
    if (!fuse_one(lowering, node, 0)) fuse_one(lowering, node, 1);
  }
}

void lower_convolutions_and_linear(Lowering& lowering) {
  for (Node* node : nodes_of_kind(lowering.graph().block(), weighted_kinds())) lower_one(lowering, node);
}

}  // namespace tsquant
