#include "graph/params.h"
#include "graph/walk.h"
#include "lowering/backends/lowering_state.h"

namespace tsquant {

using torch::jit::Node;

// %q = aten::quantize_per_tensor(%x, %scale, 0, qint8)   ->   %q = aten::quantize_per_tensor(%x, %scale, 128, quint8)
void make_activations_unsigned(Lowering& lowering) {
  constexpr int64_t kShift = 128;
  for (Node* node : nodes_of_kind(lowering.graph().block(), {"aten::quantize_per_tensor"})) {
    if (param_of(lowering.model(), node->input(0))) continue;  // a weight that was not folded
    const auto scale = constant_of(lowering.model(), node->input(1));
    const auto zero_point = constant_of(lowering.model(), node->input(2));
    const auto dtype = constant_of(lowering.model(), node->input(3));
    if (!scale || !scale->isDouble() || !zero_point || !zero_point->isInt() || !dtype || !dtype->isInt()) continue;
    CodeParams params{scale->toDouble(), zero_point->toInt()};
    if (dtype->toInt() == static_cast<int64_t>(c10::kQInt8)) {
      // Other readers of the signed codes would see other numbers.
      const auto& uses = node->output()->uses();
      const bool only_dequantized = std::all_of(uses.begin(), uses.end(), [](const torch::jit::Use& use) {
        return use.user->kind() == c10::Symbol::fromQualString("aten::dequantize");
      });
      if (!only_dequantized) continue;
      params.zero_point += kShift;
      node->replaceInput(2, lowering.constant(node, params.zero_point));
      node->replaceInput(3, lowering.constant(node, static_cast<int64_t>(c10::kQUInt8)));
    } else if (dtype->toInt() != static_cast<int64_t>(c10::kQUInt8)) {
      continue;
    }
    lowering.set_codes(node->output(), params);
  }
}

}  // namespace tsquant
