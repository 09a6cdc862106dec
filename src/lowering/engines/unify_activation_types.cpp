#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;

// Activations get the engine's type, which stands for the same real values:
// %q = aten::quantize_per_tensor(%x, %scale, 0, qint8)   ->   %q = aten::quantize_per_tensor(%x, %scale, 128, quint8)
bool unify_activation_types(LoweringContext& context) {
  bool changed = false;
  const c10::ScalarType wanted = context.engine().activations;
  const int64_t shift = wanted == c10::kQUInt8 ? 128 : -128;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::quantize_per_tensor"})) {
    if (param_of(context.model(), node->input(0))) continue;  // a weight that was not folded
    const auto zero_point = constant_of(context.model(), node->input(2));
    const auto dtype = constant_of(context.model(), node->input(3));
    if (!zero_point || !zero_point->isInt() || !dtype || !dtype->isInt()) continue;
    const auto type = static_cast<c10::ScalarType>(dtype->toInt());
    if (type == wanted || (type != c10::kQInt8 && type != c10::kQUInt8)) continue;
    // Other readers of the codes would see other numbers.
    const auto& uses = node->output()->uses();
    const bool only_dequantized = std::all_of(uses.begin(), uses.end(), [](const torch::jit::Use& use) {
      return use.user->kind() == c10::Symbol::fromQualString("aten::dequantize");
    });
    if (!only_dequantized) continue;
    node->replaceInput(2, context.constant(node, zero_point->toInt() + shift));
    node->replaceInput(3, context.constant(node, static_cast<int64_t>(wanted)));
    context.declare_codes(node);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
