#include <torch/csrc/jit/passes/remove_mutation.h>

#include "passes/passes.h"

namespace tsquant {

// %y = aten::relu_(%x)   ->   %y = aten::relu(%x)
//
// LibTorch's alias analysis decides where this keeps the meaning; what it cannot prove stays in place. The new
// operator inherits the scope and with it the name as written (`relu_`).
bool remove_mutation(PassContext& ctx) {
  auto graph = ctx.model.graph();
  bool changed = torch::jit::RemoveListMutation(graph);
  changed |= torch::jit::RemoveTensorMutation(graph);
  return changed;
}

}  // namespace tsquant
