#include <memory>
#include <unordered_map>

#include "graph/node_lists.h"
#include "lowering/engines/lowering_context.h"
#include "lowering/engines/seen_layouts.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// How the value that this one stands for lies in memory in the reference form; null where the sample does not tell.
const MemoryLayout* reference_layout(const LoweringContext& context, const Value* value) {
  const auto number = context.original_of(value);
  if (!number || !context.reference().layouts[*number]) return nullptr;
  return &*context.reference().layouts[*number];
}

/// The dequantizers that were placed before operators that move codes, by the codes.
using Lifted = std::unordered_map<Value*, Value*>;

Value* dequantized(LoweringContext& context, Value* codes, Lifted& lifted) {
  Value*& floats = lifted[codes];
  if (floats == nullptr) floats = context.insert(codes->node()->next(), "aten::dequantize", {codes}, nullptr);
  return floats;
}

/// dequantize(move(codes)) -> move(dequantize(codes)). A dequantizer writes a dense or channels-last tensor of its own;
/// moved floats have the strides of the reference form, and their place in the storage.
/// @return the dequantizer above
Node* lift_above(LoweringContext& context, Node* dequantize, Lifted& lifted) {
  Node* move = dequantize->input(0)->node();
  const size_t result = dequantize->input(0)->offset();
  const bool unpacks = move->kind() == c10::prim::ListUnpack;
  Node* source = unpacks ? move->input(0)->node() : move;
  Value* floats = dequantized(context, source->input(0), lifted);
  const auto copy = [&](Node* node, Value* first) {
    Node* made = context.graph().createClone(node, [](Value* value) { return value; });
    made->insertBefore(node);
    made->replaceInput(0, first);
    return made;
  };
  Node* moved = copy(source, floats);
  if (unpacks) moved = copy(move, moved->output());
  dequantize->output()->replaceAllUsesWith(moved->outputs()[result]);
  return floats->node();
}

/// Whether the operator moves codes; sink_dequantize placed a dequantizer behind it.
bool moves_codes(const LoweringContext& context, const Node* node) {
  if (node->kind() == c10::prim::ListUnpack) node = node->input(0)->node();
  return node->kind().is_aten() && !node->inputs().empty() && context.holds_codes(node->input(0));
}

bool lift_dequantizers(LoweringContext& context, const SeenLayouts& seen) {
  Lifted lifted;
  for (Node* node : all_nodes(context.graph().block())) {
    if (!is_dequantizer(node) || !seen.contains(node->output())) continue;
    while (moves_codes(context, node->input(0)->node())) {
      const MemoryLayout* wanted = reference_layout(context, node->input(0));
      if (wanted == nullptr || (wanted->whole && wanted->format())) break;
      node = lift_above(context, node, lifted);
    }
  }
  if (lifted.empty()) return false;
  context.remove_dead_code();
  return true;
}

/// Lays a kernel's result out as the reference form has it.
Value* laid_out(LoweringContext& context, Value* value, const MemoryLayout* wanted) {
  Node* position = value->node()->next();
  const auto like = [&](const std::string& kind, std::vector<Value*> inputs) {
    Value* result = context.insert(position, kind, inputs, nullptr);
    if (context.holds_codes(value)) context.set_codes(result, CodeParams(context.params_of(value)));
    return result;
  };
  const auto contiguous = [&](Value* tensor, at::MemoryFormat format) {
    return like("aten::contiguous", {tensor, context.constant(position, static_cast<int64_t>(format))});
  };
  if (wanted == nullptr) return contiguous(value, at::MemoryFormat::Contiguous);
  if (const auto format = wanted->format()) return contiguous(value, *format);
  const std::vector<int64_t>& order = wanted->order;
  std::vector<int64_t> back(order.size());
  for (size_t i = 0; i < order.size(); ++i) back[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  Value* moved = like("aten::permute", {value, context.constant(position, c10::List<int64_t>(order))});
  moved = contiguous(moved, at::MemoryFormat::Contiguous);
  return like("aten::permute", {moved, context.constant(position, c10::List<int64_t>(back))});
}

}  // namespace

// Codes of images lie channels-last in memory. Gives them the layout of the reference form on the first sample, dense
// or channels-last, where somebody can tell the difference: before views, strides, operators of other libraries, and
// the caller of the model, and before what is moved or computed on the way to them.
// %y = tsquant::conv(...); %v = aten::view(%y, ...)   ->   %c = aten::contiguous(%y); %v = aten::view(%c, ...)
//
// It is done where the kernel's result is read, so that everything behind, aliases and writes in place included, works
// on a tensor that lies as it always did; other kernels go on reading the kernel's own layout.
bool restore_layout(LoweringContext& context) {
  auto seen = std::make_unique<SeenLayouts>(context);
  bool changed = lift_dequantizers(context, *seen);
  if (changed) seen = std::make_unique<SeenLayouts>(context);
  const ImageLayouts images(context);
  std::unordered_map<Value*, Value*> restored;
  for (const auto& [node, input] : seen->reads()) {
    Value* value = node->input(input);
    if (!is_kernel(context, value->node())) continue;
    const MemoryLayout* wanted = reference_layout(context, value);
    const bool is_dense = wanted == nullptr || wanted->format() == at::MemoryFormat::Contiguous;
    if (is_dense && !images.contains(value)) continue;
    if (restored.count(value) == 0) restored[value] = laid_out(context, value, wanted);
    node->replaceInput(input, restored[value]);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
