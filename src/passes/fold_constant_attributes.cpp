#include <torch/csrc/jit/ir/constants.h>

#include <set>
#include <unordered_set>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

using AttributeKey = std::pair<const c10::Type*, std::string>;

/// Attributes (of a class, by name) that some method changes.
struct ChangedAttributes {
  std::set<AttributeKey> keys;

  explicit ChangedAttributes(const torch::jit::Module& root) {
    std::unordered_set<const c10::ClassType*> seen;
    for (const auto& module : root.modules()) {
      if (!seen.insert(module.type().get()).second) continue;
      for (auto* method : module.type()->methods()) {
        if (auto* function = torch::jit::tryToGraphFunction(*method)) scan(*function->graph());
      }
    }
  }

 private:
  void scan(Graph& graph) {
    for (const Node* node : all_nodes(graph.block())) {
      if (node->kind() == c10::prim::SetAttr) {
        keys.emplace(node->input(0)->type().get(), node->s(c10::attr::name));
      } else if (node->kind() == c10::prim::GetAttr && is_container(node->output()) && !only_read(node->output())) {
        keys.emplace(node->input()->type().get(), node->s(c10::attr::name));
      }
    }
  }

  static bool is_container(const Value* value) {
    return value->type()->cast<c10::ListType>() || value->type()->cast<c10::DictType>();
  }

  // A container attribute changes without SetAttr when it is appended to, or when it escapes.
  static bool only_read(const Value* container) {
    for (const auto& use : container->uses()) {
      const auto* schema = use.user->maybeSchema();
      if (!schema || !use.user->kind().is_aten() || schema->is_mutable()) return false;
    }
    return true;
  }
};

/// Scripted convolutions declare `bias: Optional[Tensor]`. Where the tensor is there and every user takes an optional
/// one (so that the saved code still compiles), the graph may know that it is a tensor.
bool refine_optional(Node* attribute) {
  if (attribute->output()->type()->kind() != c10::TypeKind::OptionalType) return false;
  for (const auto& use : attribute->output()->uses()) {
    const auto* schema = use.user->maybeSchema();
    if (!schema || use.offset >= schema->arguments().size()) return false;
    if (schema->arguments()[use.offset].type()->kind() != c10::TypeKind::OptionalType) return false;
  }
  attribute->output()->setType(c10::TensorType::get());
  return true;
}

bool is_plain(const c10::IValue& value) {
  if (value.isTuple()) {
    const auto& elements = value.toTupleRef().elements();
    return std::all_of(elements.begin(), elements.end(), [](const auto& element) { return is_plain(element); });
  }
  return value.isNone() || value.isBool() || value.isInt() || value.isDouble() || value.isString() ||
         value.isIntList() || value.isDoubleList() || value.isBoolList();
}

/// `attribute is None` has a fixed answer when nothing assigns the attribute.
bool fold_none_checks(Graph& graph, Node* attribute) {
  bool changed = false;
  const auto uses = attribute->output()->uses();
  for (const auto& use : uses) {
    const bool is = use.user->kind() == c10::aten::__is__, isnot = use.user->kind() == c10::aten::__isnot__;
    if (!(is || isnot) || !use.user->input(1 - use.offset)->mustBeNone()) continue;
    torch::jit::WithInsertPoint guard(use.user);
    use.user->output()->replaceAllUsesWith(graph.insertConstant(isnot));
    use.user->destroy();
    changed = true;
  }
  return changed;
}

/// `attribute[key]` and `key in attribute` of a dictionary, for constant keys.
bool fold_lookups(Graph& graph, Node* attribute, const c10::Dict<c10::IValue, c10::IValue>& dict) {
  bool changed = false;
  const auto uses = attribute->output()->uses();
  for (const auto& use : uses) {
    Node* lookup = use.user;
    const bool asks = lookup->kind() == c10::aten::__contains__, gets = lookup->kind() == c10::aten::__getitem__;
    const auto key = asks || gets ? torch::jit::toIValue(lookup->input(1)) : c10::nullopt;
    if (!key || use.offset != 0) continue;
    const auto found = dict.find(*key);
    if (gets && (found == dict.end() || !is_plain(found->value()))) continue;
    torch::jit::WithInsertPoint guard(lookup);
    lookup->output()->replaceAllUsesWith(
        graph.insertConstant(asks ? c10::IValue(found != dict.end()) : found->value()));
    lookup->destroy();
    changed = true;
  }
  return changed;
}

/// torch.nn.functional.embedding_bag asks its weight's type which of two inputs is the weight.
bool fold_types(const Model& model, Graph& graph) {
  bool changed = false;
  for (Node* node : nodes_of_kind(graph.block(), {"prim::dtype"})) {
    const auto parameter = param_of(model, node->input());
    if (!parameter) continue;
    torch::jit::WithInsertPoint guard(node);
    node->output()->replaceAllUsesWith(graph.insertConstant(static_cast<int64_t>(parameter->tensor.scalar_type())));
    node->destroy();
    changed = true;
  }
  return changed;
}

}  // namespace

// %training = prim::GetAttr[name="training"](%dropout)   ->   %training = prim::Constant[value=0]()
//
// Tensors stay where they are, so that they keep their state-dict names. Their types are known.
bool fold_constant_attributes(RewriteContext& ctx) {
  auto graph = ctx.model.graph();
  const ChangedAttributes changed_attributes(ctx.model.module());
  bool changed = false;
  for (Node* node : nodes_of_kind(graph->block(), {"prim::GetAttr"})) {
    ctx.at(node);
    const auto type = node->output()->type();
    if (type->cast<c10::ClassType>() || type->cast<c10::TensorType>() || !node->hasUses()) continue;
    const auto slot = slot_of(ctx.model, node->output());
    if (!slot || changed_attributes.keys.count({slot->owner->type().get(), slot->name})) continue;
    const c10::IValue value = slot->value();
    if (value.isTensor()) {
      changed |= fold_none_checks(*graph, node);
      changed |= refine_optional(node);
      continue;
    }
    if (value.isGenericDict()) changed |= fold_lookups(*graph, node, value.toGenericDict());
    if (!is_plain(value)) continue;
    torch::jit::WithInsertPoint guard(node);
    const auto constant = torch::jit::tryInsertConstant(*graph, value, node->sourceRange(), node->scope());
    if (!constant) continue;
    node->output()->replaceAllUsesWith(*constant);
    node->destroy();
    changed = true;
  }
  return fold_types(ctx.model, *graph) || changed;
}

}  // namespace tsquant
