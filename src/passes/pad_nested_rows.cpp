#include "passes/pad_nested_rows.h"

#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/fresh_names.h"
#include "passes/insert_source.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

constexpr size_t kMask = 18, kMaskType = 19;  // arguments of aten::_transformer_encoder_layer_fwd

// A row of the nested tensor holds as many leading elements as its mask has ones, wherever they stand
// (NestedTensor_nested_tensor_from_mask, aten/src/ATen/native/nested/NestedTensorMath.cpp).
constexpr const char* kSource = R"(
def hidden_elements(x, mask, mask_check: bool):
    lengths = torch.sum(torch.ne(mask, 0), [1])
    return torch.ge(torch.unsqueeze(torch.arange(x.size(1), device=x.device), 0), torch.unsqueeze(lengths, 1))

def padded(x, padding: float, output_size: Optional[List[int]], hidden):
    longest = int(torch.max(torch.sum(torch.eq(hidden, 0), [1])))
    return torch.slice(torch.masked_fill(x, torch.unsqueeze(hidden, 2), padding), 1, 0, longest)
)";

struct Chain {
  Node* begin;
  std::vector<Node*> layers;
  Node* end;
};

bool is_none(const Model& model, const Value* value) {
  const auto constant = constant_of(model, value);
  return constant && constant->isNone();
}

bool is_unmasked_layer(const Model& model, const Node* node) {
  return std::string(node->kind().toQualString()) == "aten::_transformer_encoder_layer_fwd" &&
         node->inputs().size() == kMaskType + 1 && is_none(model, node->input(kMask));
}

bool ends_chain(const Model& model, const Node* node) {
  const std::string kind = node->kind().toQualString();
  return (kind == "aten::to_padded_tensor" || kind == "aten::nested_to_padded_tensor") && node->inputs().size() == 3 &&
         is_none(model, node->input(2));
}

/// The layers between a nested tensor and the padded one; nullopt when anything else reads a nested tensor.
c10::optional<Chain> chain_from(const Model& model, Node* begin) {
  if (begin->inputs().size() != 3) return c10::nullopt;
  Chain chain{begin, {}, nullptr};
  for (Value* value = begin->output(); value->uses().size() == 1;) {
    const auto use = value->uses()[0];
    if (use.offset != 0 || use.user->owningBlock() != begin->owningBlock()) return c10::nullopt;
    if (ends_chain(model, use.user)) {
      chain.end = use.user;
      return chain;
    }
    if (!is_unmasked_layer(model, use.user)) return c10::nullopt;
    chain.layers.push_back(use.user);
    value = use.user->output();
  }
  return c10::nullopt;
}

void rewrite(Model& model, const Chain& chain, FreshNames& names, SizeArithmetic& sizes) {
  const auto give_names = [&](const Node* place) {
    return [&names, &sizes, path = module_path(place)](const std::vector<Node*>& nodes) {
      sizes.add(nodes);
      for (Node* node : nodes) names.give(node, path, sizes);
    };
  };
  Node* begin = chain.begin;
  Value* hidden = insert_source(begin, kSource, "hidden_elements", begin->inputs().vec(), {}, give_names(begin)).at(0);
  torch::jit::WithInsertPoint guard(begin);
  Value* key_mask = model.graph()->insertConstant(static_cast<int64_t>(1));
  begin->output()->replaceAllUsesWith(begin->input(0));
  for (Node* layer : chain.layers) {
    layer->replaceInput(kMask, hidden);
    layer->replaceInput(kMaskType, key_mask);
  }
  std::vector<Value*> arguments = chain.end->inputs().vec();
  arguments.push_back(hidden);
  replace_with_source(chain.end, kSource, "padded", arguments, {}, give_names(chain.end));
}

}  // namespace

bool pad_nested_rows(Model& model) {
  auto graph = model.graph();
  std::vector<Chain> chains;
  for (Node* begin : nodes_of_kind(graph->block(), {"aten::_nested_tensor_from_mask"})) {
    if (const auto chain = chain_from(model, begin)) chains.push_back(*chain);
  }
  if (chains.empty()) return false;
  FreshNames names(model);
  SizeArithmetic sizes(*graph);
  for (const auto& chain : chains) {
    rewrite(model, chain, names, sizes);
    chain.begin->destroy();
  }
  return true;
}

}  // namespace tsquant
