#include "run/weight_pages.h"

#include <torch/library.h>

#include <algorithm>
#include <array>

#include "io/file_mapping.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

TORCH_LIBRARY_FRAGMENT(tsquant, library) {
  library.def("give_pages_back(Tensor x) -> ()",
              torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd, TORCH_FN(give_pages_back)));
}

bool makes_view(const Node* node) {
  static const std::array<c10::Symbol, 9> kViews{c10::aten::t,         c10::aten::transpose, c10::aten::permute,
                                                 c10::aten::view,      c10::aten::reshape,   c10::aten::detach,
                                                 c10::aten::unsqueeze, c10::aten::squeeze,   c10::aten::contiguous};
  return std::find(kViews.begin(), kViews.end(), node->kind()) != kViews.end();
}

/// @param view the weight itself or a view of it
void insert_after_readers(Value* view, Value* weight) {
  static const auto kind = c10::Symbol::fromQualString("tsquant::give_pages_back");
  const auto uses = view->uses();  // a copy: it grows meanwhile
  for (const auto& use : uses) {
    if (use.user->kind() == c10::prim::Return || use.user->kind() == kind) continue;
    if (makes_view(use.user)) {
      insert_after_readers(use.user->output(), weight);
    } else {
      use.user->owningGraph()->create(kind, {weight}, 0)->insertAfter(use.user);
    }
  }
}

}  // namespace

void give_pages_back_after_reads(Value* weight) { insert_after_readers(weight, weight); }

}  // namespace tsquant
