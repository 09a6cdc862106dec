#include "graph/node_lists.h"
#include "lowering/compressed/decompression_chain.h"
#include "lowering/compressed/fuse_decompression.h"

namespace tsquant {

namespace {

using torch::jit::Node;

/// Gives the readers of a compressed weight its values, under the name that the codes have.
void store_values(Model& model, NewParameters& parameters, Node* last, const Decompression& found) {
  const auto slot = slot_of(model, found.codes);
  const torch::jit::use_list uses = last->output()->uses();
  for (const auto& use : uses) parameters.detach(use.user, use.offset);
  parameters.store(decompressed_value(found.weight),
                   slot ? std::vector<AttributeSlot>{*slot} : std::vector<AttributeSlot>(), "weight");
  for (const auto& use : uses) parameters.attach(use.user, use.offset);
}

}  // namespace

bool decompress_in_place(Model& model) {
  NewParameters parameters(model);
  bool changed = false;
  for (Node* last : nodes_of_kind(model.graph()->block(), {"aten::to"})) {
    const auto found = read_decompression(model, last->output());
    if (!found) continue;
    store_values(model, parameters, last, *found);
    changed = true;
  }
  return changed;
}

bool has_compressed_weights(const Model& model) {
  for (const Node* node : all_nodes(model.graph()->block())) {
    if (is_fused_decompression(node)) return true;
    const bool cast = node->kind() == c10::Symbol::fromQualString("aten::to");
    if (cast && read_decompression(model, node->output())) return true;
  }
  return false;
}

}  // namespace tsquant
