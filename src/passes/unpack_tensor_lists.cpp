#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>

#include "graph/node_lists.h"
#include "graph/other_methods.h"
#include "graph/params.h"
#include "passes/new_parameters.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;
using Tensors = std::vector<at::Tensor>;

bool is_tensor_list(const Value* value) {
  const auto list = value->type()->cast<c10::ListType>();
  return list && list->getElementType()->kind() == c10::TypeKind::TensorType;
}

/// Which element `list[index]` takes out; nullopt: that is known at run time only, or there is none.
c10::optional<size_t> known_element(const Node* lookup, size_t count) {
  const auto index = torch::jit::toIValue(lookup->input(1));
  if (!index || !index->isInt()) return c10::nullopt;
  const auto size = static_cast<int64_t>(count);
  const int64_t place = index->toInt() < 0 ? index->toInt() + size : index->toInt();
  return place >= 0 && place < size ? c10::make_optional(static_cast<size_t>(place)) : c10::nullopt;
}

/// Operators that compute from the elements and hand neither the list nor an element on.
bool reads_elements(const Use& use) {
  const auto* schema = use.user->maybeSchema();
  if (!schema || !use.user->kind().is_aten() || use.offset >= schema->arguments().size()) return false;
  if (schema->arguments()[use.offset].alias_info()) return use.user->kind() == c10::aten::len;
  const auto outputs = use.user->outputs();
  return std::all_of(outputs.begin(), outputs.end(), [](const Value* output) {
    return holds_tensor(output) || output->type()->containedTypes().empty();
  });
}

/// Whether what happens to the list is known, and nobody changes it or hands it on.
bool is_list_only_read(const Value* list, size_t count) {
  return std::all_of(list->uses().begin(), list->uses().end(), [&](const Use& use) {
    if (use.user->kind() == c10::aten::__getitem__) return known_element(use.user, count).has_value();
    if (use.user->kind() == c10::prim::ListUnpack) return use.user->outputs().size() == count;
    return reads_elements(use);
  });
}

/// The same for the methods besides forward, by the name of the attribute.
bool is_only_read_elsewhere(const Model& model, const AttributeSlot& slot, size_t count) {
  if (!is_read_by_other_methods(model, slot)) return true;
  for (const auto& method : model.module().get_methods()) {
    if (method.name() == "forward") continue;
    const auto graph = method.graph()->copy();
    torch::jit::Inline(*graph);
    for (const Node* node : nodes_of_kind(graph->block(), {"prim::GetAttr"})) {
      const bool same_name = node->s(c10::attr::name) == slot.name && is_tensor_list(node->output());
      if (same_name && !is_list_only_read(node->output(), count)) return false;
    }
  }
  return true;
}

/// One tensor, be it two objects: files that were written with moved parameters hold views of one storage.
bool is_one_tensor(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_same(b)) return true;
  return a.defined() && a.has_storage() && b.has_storage() && a.layout() == at::kStrided &&
         b.layout() == at::kStrided && a.is_alias_of(b) && a.dtype() == b.dtype() &&
         a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() && a.strides() == b.strides();
}

/// Name of the attribute of the module that is this tensor; empty: it has none.
std::string name_of_tensor(const c10::ivalue::Object& module, const at::Tensor& tensor) {
  const auto type = module.type();
  for (size_t i = 0; i < type->numAttributes(); ++i) {
    const bool holds = type->getAttribute(i)->kind() == c10::TypeKind::TensorType && module.getSlot(i).isTensor();
    if (holds && is_one_tensor(module.getSlot(i).toTensor(), tensor)) return type->getAttributeName(i);
  }
  return "";
}

/// The readers of one attribute that holds a list, and its tensors.
struct ListAttribute {
  AttributeSlot slot;
  std::vector<Node*> readers;
  Tensors tensors;
};

/// Lets what read the list read `elements`, which stand before it.
void replace_tensor_list(Node* list, const std::vector<Value*>& elements) {
  for (const Use& use : std::vector<Use>(list->output()->uses())) {
    Node* user = use.user;
    if (user->kind() == c10::aten::__getitem__) {
      user->output()->replaceAllUsesWith(elements[*known_element(user, elements.size())]);
    } else if (user->kind() == c10::prim::ListUnpack) {
      for (size_t i = 0; i < elements.size(); ++i) user->output(i)->replaceAllUsesWith(elements[i]);
    } else {
      continue;
    }
    user->destroy();
  }
  if (list->output()->hasUses()) {
    Node* made = list->owningGraph()->createList(c10::TensorType::get(), elements)->insertBefore(list);
    list->output()->replaceAllUsesWith(made->output());
  }
  list->destroy();
}

/// Reads the parameters of the module that the list holds, before `reader`; null where it holds none. Empty: the
/// content of one is not known, because the model changes it.
std::vector<Value*> read_parameters(const Model& model, const ListAttribute& list, Node* reader) {
  std::vector<Value*> values;
  const torch::jit::WithInsertPoint guard(reader);
  for (const at::Tensor& tensor : list.tensors) {
    const std::string name = name_of_tensor(*list.slot.owner, tensor);
    values.push_back(name.empty() ? nullptr : model.graph()->insertGetAttr(reader->input(), name));
  }
  const bool known = std::all_of(values.begin(), values.end(), [&](const Value* value) {
    return value == nullptr || param_of(model, value).has_value();
  });
  if (known) return values;
  for (Value* value : values) {
    if (value != nullptr) value->node()->destroy();
  }
  return {};
}

bool unpack_attribute(Model& model, const ListAttribute& list) {
  std::vector<std::vector<Value*>> elements;  // by reader
  for (Node* reader : list.readers) {
    elements.push_back(read_parameters(model, list, reader));
    if (elements.back().empty()) return false;
  }
  c10::optional<NewParameters> parameters;
  for (size_t i = 0; i < list.tensors.size(); ++i) {
    for (size_t k = 0; k < elements.size(); ++k) {
      if (elements[k][i] != nullptr) continue;
      const torch::jit::WithInsertPoint guard(list.readers[k]);
      if (!parameters) parameters.emplace(model);
      elements[k][i] = k == 0 ? parameters->read_beside(list.tensors[i].detach(), list.slot, "_" + std::to_string(i))
                              : parameters->read();
    }
  }
  for (size_t k = 0; k < elements.size(); ++k) replace_tensor_list(list.readers[k], elements[k]);
  return true;
}

/// The list behind a value when it holds tensors and all of them are known.
c10::optional<Tensors> known_tensors(const Model& model, const Value* value) {
  if (!is_tensor_list(value) || !value->hasUses()) return c10::nullopt;
  const auto list = constant_of(model, value);
  if (!list || !list->isTensorList()) return c10::nullopt;
  Tensors tensors = list->toTensorVector();
  const bool known = std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& t) { return t.defined(); });
  if (!known || tensors.empty() || !is_list_only_read(value, tensors.size())) return c10::nullopt;
  return tensors;
}

std::vector<ListAttribute> find_list_attributes(const Model& model) {
  std::vector<ListAttribute> found;
  for (Node* node : nodes_of_kind(model.graph()->block(), {"prim::GetAttr"})) {
    if (!is_tensor_list(node->output())) continue;
    const auto slot = slot_of(model, node->output());
    if (!slot) continue;
    const auto same = [&](const ListAttribute& other) {
      return other.slot.owner == slot->owner && other.slot.name == slot->name;
    };
    const auto place = std::find_if(found.begin(), found.end(), same);
    (place == found.end() ? *found.insert(found.end(), ListAttribute{*slot, {}, {}}) : *place).readers.push_back(node);
  }
  return found;
}

bool unpack_constants(RewriteContext& ctx) {
  bool changed = false;
  for (Node* node : nodes_of_kind(ctx.model.graph()->block(), {"prim::Constant"})) {
    const auto tensors = known_tensors(ctx.model, node->output());
    if (!tensors) continue;
    const torch::jit::WithInsertPoint guard(node);
    std::vector<Value*> elements;
    for (const at::Tensor& tensor : *tensors) {
      elements.push_back(ctx.model.graph()->insertConstant(tensor.detach()));
    }
    replace_tensor_list(node, elements);
    changed = true;
  }
  return changed;
}

}  // namespace

// %l = prim::GetAttr[name="_flat_weights"](%rnn)       %w = prim::GetAttr[name="weight_ih_l0"](%rnn)
// %y, %h = aten::gru(%x, %s, %l, ...)             ->   %u = prim::GetAttr[name="weight_hh_l0"](%rnn)
//                                                      %l = prim::ListConstruct(%w, %u)
//                                                      %y, %h = aten::gru(%x, %s, %l, ...)
//
// Scripted recurrent layers keep their weights a second time, in a list; freezing makes a constant of it. What the
// module has under no other name becomes a parameter of its own. Lists that the model changes, or hands on, stay.
bool unpack_tensor_lists(RewriteContext& ctx) {
  bool changed = unpack_constants(ctx);
  for (ListAttribute& list : find_list_attributes(ctx.model)) {
    ctx.at(list.readers.front());
    const bool all_known = std::all_of(list.readers.begin(), list.readers.end(), [&](const Node* reader) {
      const auto tensors = known_tensors(ctx.model, reader->output());
      if (tensors) list.tensors = *tensors;
      return tensors.has_value();
    });
    if (!all_known || !is_only_read_elsewhere(ctx.model, list.slot, list.tensors.size())) continue;
    changed |= unpack_attribute(ctx.model, list);
  }
  return changed;
}

}  // namespace tsquant
