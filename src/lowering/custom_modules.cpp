#include "lowering/custom_modules.h"

#include <fmt/format.h>

#include "graph/dead_code.h"
#include "graph/insert_op.h"
#include "graph/module_calls.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

/// The quantizers behind a result. Fewer codes than the type has need a clamp before them.
std::vector<Node*> quantizers_of(const Value* result) {
  std::vector<Node*> quantizers;
  for (const auto& use : result->uses()) {
    if (is_kind(use.user, "aten::quantize_per_tensor")) quantizers.push_back(use.user);
    if (!is_kind(use.user, "aten::clamp")) continue;
    for (Node* behind : quantizers_of(use.user->output())) quantizers.push_back(behind);
  }
  return quantizers;
}

bool quantizes_tensor(Node* node) {
  return is_kind(node, "aten::quantize_per_tensor") ||
         (is_kind(node, "aten::clamp") && !quantizers_of(node->output()).empty());
}

// %x = aten::dequantize(%q); %y = prim::CallMethod(%custom, %x)   ->   %y = prim::CallMethod(%custom, %q)
void connect_input(Node* call, size_t index) {
  Node* before = index < call->inputs().size() ? call->input(index)->node() : nullptr;
  if (!before || !is_kind(before, "aten::dequantize")) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("argument {} of a module that takes quantized tensors is not quantized", index - 1),
                names_of(call).name,
                "let calibration samples reach it, and leave it its qconfig when the model is converted");
  }
  call->replaceInput(index, before->input(0));
}

// %y = prim::CallMethod(%custom, ...); %p = aten::quantize_per_tensor(%y, ...); %z = aten::dequantize(%p)
//   ->
// %p = prim::CallMethod(%custom, ...); %z = aten::dequantize(%p)
void connect_output(Node* call, bool keep_quantizers) {
  Value* result = call->output();
  if (!keep_quantizers) {
    for (Node* quantizer : quantizers_of(result)) quantizer->output()->replaceAllUsesWith(result);
  }
  torch::jit::WithInsertPoint guard(call->next());
  const auto uses = result->uses();
  Value* real = nullptr;
  for (const auto& use : uses) {
    // Quantizers and their clamps that were replaced: nothing reads them any more.
    const bool is_replaced = !keep_quantizers && quantizes_tensor(use.user);
    if (is_replaced || is_kind(use.user, "aten::dequantize")) continue;
    if (!real) real = insert_op(*call->owningGraph(), "aten::dequantize", {result});
    use.user->replaceInput(use.offset, real);
  }
}

}  // namespace

bool connect_custom_modules(Model& model, const std::vector<ConvertedModule>& modules, bool keep_quantizers) {
  const auto calls = module_calls(*model.graph(), kOpaquePrefix);
  for (const auto& converted : modules) {
    replace_opaque(model.module(), converted.attribute, converted.module);
    for (const auto& [call, attribute] : calls) {
      if (attribute != converted.attribute) continue;
      for (const int64_t input : converted.inputs) connect_input(call, static_cast<size_t>(input) + 1);
      if (converted.output) connect_output(call, keep_quantizers);
    }
  }
  remove_dead_code(model.graph());
  return !modules.empty();
}

}  // namespace tsquant
