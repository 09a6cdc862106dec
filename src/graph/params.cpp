#include "graph/params.h"

#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <unordered_set>

#include "graph/access_index.h"
#include "graph/flatten_calls.h"
#include "graph/module_calls.h"
#include "graph/other_methods.h"
#include "graph/tensor_values.h"
#include "tsquant/error.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

namespace {

/// The object behind a chain of GetAttr that starts at `self`; null when it is none. Appends the attribute names.
ObjectPtr object_of(const ObjectPtr& root, const Value* self, const Value* value, std::string& path) {
  if (value == self) return root;
  const Node* node = value->node();
  if (node->kind() != c10::prim::GetAttr) return {};
  const ObjectPtr owner = object_of(root, self, node->input(), path);
  const auto slot = slot_of_access(owner, path, node);
  if (!slot || !slot->value().isObject()) return {};
  path = slot->path + ".";
  return slot->value().toObject();
}

using SlotKey = AccessIndex::Key;

SlotKey key_of(const AttributeSlot& slot) { return {slot.owner.get(), slot.name}; }

/// Attributes that methods other than forward read or write, and the objects that hold an object.
struct OtherMethods {
  std::set<SlotKey> read, written;
  std::unordered_map<const c10::ivalue::Object*, std::vector<const c10::ivalue::Object*>> holders;
};

/// Which methods of a module behind an interface run, and on which module, is not known: they may access everything.
void add_all(const ObjectPtr& module, OtherMethods& accesses) {
  for (size_t i = 0; i < module->type()->numAttributes(); ++i) {
    const auto& name = module->type()->getAttributeName(i);
    accesses.read.emplace(module.get(), name);
    accesses.written.emplace(module.get(), name);
    const auto attribute = module->getSlot(i);
    if (attribute.isObject() && attribute.toObjectRef().type()->is_module()) add_all(attribute.toObject(), accesses);
  }
}

bool calls_forward(const Node* node, const Value* self) {
  return node->kind() == c10::prim::CallMethod && node->input(0) == self && node->s(c10::attr::name) == "forward";
}

void remove_calls_of_forward(Block* block, const Value* self) {
  for (auto it = block->nodes().begin(); it != block->nodes().end();) {
    Node* node = *it++;
    for (Block* inner : node->blocks()) remove_calls_of_forward(inner, self);
    if (!calls_forward(node, self)) continue;
    Node* result = node->owningGraph()->createUninitialized(node->output()->type());
    node->replaceAllUsesWith(result->insertBefore(node));
    node->destroy();
  }
}

void add(const AccessIndex& index, OtherMethods& accesses) {
  for (const auto& [key, found] : index.table()) {
    const bool reads = std::any_of(found.nodes.begin(), found.nodes.end(),
                                   [](const Node* node) { return node->kind() == c10::prim::GetAttr; });
    if (reads) accesses.read.insert(key);
    if (found.written) accesses.written.insert(key);
    for (const Node* node : found.nodes) {
      if (node->kind() != c10::prim::GetAttr || !node->output()->type()->is_module()) continue;
      add_all(key.first->getAttr(key.second).toObject(), accesses);
    }
  }
}

void add_holders(const torch::jit::Module& module, OtherMethods& accesses) {
  for (const auto& child : module.children()) {
    auto& holders = accesses.holders[child._ivalue().get()];
    holders.push_back(module._ivalue().get());
    if (holders.size() == 1) add_holders(child, accesses);
  }
}

/// Reads and writes by the methods other than forward. Neither these methods nor the tree of modules change after
/// capture, so the answer is kept for as long as the module lives.
std::shared_ptr<const OtherMethods> other_methods(const Model& model) {
  struct Entry {
    c10::weak_intrusive_ptr<c10::ivalue::Object> root;
    std::shared_ptr<const OtherMethods> accesses;
  };
  static std::mutex mutex;
  static std::unordered_map<const c10::ivalue::Object*, Entry> cache;
  const auto root = model.module()._ivalue();
  std::lock_guard<std::mutex> lock(mutex);
  const auto place = cache.find(root.get());
  if (place != cache.end() && !place->second.root.expired()) return place->second.accesses;
  for (auto it = cache.begin(); it != cache.end();) it = it->second.root.expired() ? cache.erase(it) : std::next(it);
  auto accesses = std::make_shared<OtherMethods>();
  for (const auto& method : model.module().get_methods()) {
    if (method.name() == "forward") continue;
    const auto graph = method.graph()->copy();
    const Value* self = graph->inputs().empty() ? nullptr : graph->inputs()[0];
    // What forward itself accesses is decided by its present graph, which changes.
    expand_calls(*graph, [self](const Node* call) { return calls_forward(call, self); });
    remove_calls_of_forward(graph->block(), self);
    if (self) add(AccessIndex(root, self, graph->block()), *accesses);
  }
  add_holders(model.module(), *accesses);
  cache.erase(root.get());
  cache.emplace(root.get(), Entry{c10::weak_intrusive_ptr<c10::ivalue::Object>(root), accesses});
  return accesses;
}

const Value* self_of(const Model& model) { return model.graph()->inputs().at(0); }

/// The index that a ParamScope keeps on this thread.
struct ActiveIndex {
  const c10::ivalue::Object* root;
  const Graph* graph;
  AccessIndex index;
  std::shared_ptr<const OtherMethods> others;

  explicit ActiveIndex(const Model& model)
      : root(model.module()._ivalue().get()),
        graph(model.graph().get()),
        index(model.module()._ivalue(), self_of(model), model.graph()->block()),
        others(other_methods(model)) {}
};
thread_local std::vector<std::unique_ptr<ActiveIndex>> active_indices;

ActiveIndex* active_index(const Model& model) {
  if (active_indices.empty()) return nullptr;
  const auto& last = active_indices.back();
  return last && last->root == model.module()._ivalue().get() && last->graph == model.graph().get() ? last.get()
                                                                                                    : nullptr;
}

/// What can lead to an object: itself and the objects that hold it, directly or not.
std::unordered_set<const c10::ivalue::Object*> ancestors_of(const c10::ivalue::Object* object,
                                                            const OtherMethods& others) {
  std::unordered_set<const c10::ivalue::Object*> ancestors{object};
  std::vector<const c10::ivalue::Object*> open{object};
  while (!open.empty()) {
    const auto holders = others.holders.find(open.back());
    open.pop_back();
    if (holders == others.holders.end()) continue;
    for (const auto* holder : holders->second) {
      if (ancestors.insert(holder).second) open.push_back(holder);
    }
  }
  return ancestors;
}

/// Finds the nodes of forward that access one attribute, without an index.
class AccessSearch {
 public:
  AccessSearch(const Model& model, const AttributeSlot& slot)
      : slot_(slot), ancestors_(ancestors_of(slot.owner.get(), *other_methods(model))) {
    visit(self_of(model), model.module()._ivalue());
  }

  const std::vector<const Node*>& nodes() const { return nodes_; }

 private:
  void visit(const Value* object_value, const ObjectPtr& object) {
    for (const Use& use : object_value->uses()) {
      const auto kind = use.user->kind();
      if ((kind != c10::prim::GetAttr && kind != c10::prim::SetAttr) || use.offset != 0) continue;
      if (object == slot_.owner && use.user->s(c10::attr::name) == slot_.name) nodes_.push_back(use.user);
      if (kind != c10::prim::GetAttr || !use.user->output()->type()->cast<c10::ClassType>()) continue;
      const auto child = slot_of_access(object, "", use.user);
      if (!child || !child->value().isObject()) continue;
      const auto next = child->value().toObject();
      if (ancestors_.count(next.get())) visit(use.user->output(), next);
    }
  }

  const AttributeSlot& slot_;
  std::unordered_set<const c10::ivalue::Object*> ancestors_;
  std::vector<const Node*> nodes_;
};

bool is_written(const Model& model, const AttributeSlot& slot) {
  if (const auto* active = active_index(model)) {
    const auto* accesses = active->index.find(slot);
    return (accesses && accesses->written) || active->others->written.count(key_of(slot)) != 0;
  }
  if (other_methods(model)->written.count(key_of(slot))) return true;
  const AccessSearch search(model, slot);
  return std::any_of(search.nodes().begin(), search.nodes().end(), [](const Node* node) {
    if (node->kind() == c10::prim::SetAttr) return true;
    const auto& uses = node->output()->uses();
    return std::any_of(uses.begin(), uses.end(), [](const Use& use) { return writes_argument(use.user, use.offset); });
  });
}

bool is_only_reader(const std::vector<const Node*>& accesses, const Node* user, size_t index) {
  bool is_user = false;
  for (const Node* node : accesses) {
    if (node->kind() != c10::prim::GetAttr) return false;
    for (const Use& use : node->output()->uses()) {
      if (use.user != user || use.offset != index) return false;
      is_user = true;
    }
  }
  return is_user;
}

bool is_only_reader(const Model& model, const AttributeSlot& slot, const Node* user, size_t index) {
  if (const auto* active = active_index(model)) {
    const auto* accesses = active->index.find(slot);
    return accesses && !active->others->read.count(key_of(slot)) && is_only_reader(accesses->nodes, user, index);
  }
  if (other_methods(model)->read.count(key_of(slot))) return false;
  return is_only_reader(AccessSearch(model, slot).nodes(), user, index);
}

template <typename IsWritten>
c10::optional<ParamRef> tensor_behind(const Value* value, const c10::optional<AttributeSlot>& slot,
                                      const IsWritten& written) {
  if (value->type()->kind() != c10::TypeKind::TensorType) return c10::nullopt;
  if (value->node()->kind() == c10::prim::Constant) {
    const auto constant = torch::jit::toIValue(value);
    if (!constant || !constant->isTensor()) return c10::nullopt;
    return ParamRef{"", constant->toTensor()};
  }
  if (!slot) return c10::nullopt;
  const auto& attribute = slot->value();
  if (!attribute.isTensor() || !attribute.toTensor().defined() || written(*slot)) return c10::nullopt;
  return ParamRef{slot->path, attribute.toTensor()};
}

/// A list or tuple of constants as one value.
c10::optional<c10::IValue> constant_container(const Model& model, const Node* node) {
  std::vector<c10::IValue> items;
  for (const Value* input : node->inputs()) {
    auto item = constant_of(model, input);
    if (!item) return c10::nullopt;
    items.push_back(std::move(*item));
  }
  if (node->kind() == c10::prim::TupleConstruct) return c10::IValue(c10::ivalue::Tuple::create(std::move(items)));
  c10::impl::GenericList list(node->output()->type()->expectRef<c10::ListType>().getElementType());
  for (const auto& item : items) list.push_back(item);
  return c10::IValue(list);
}

}  // namespace

const c10::IValue& AttributeSlot::value() const { return owner->getSlot(index); }

c10::optional<AttributeSlot> slot_of(const Model& model, const Value* value) {
  if (value->node()->kind() != c10::prim::GetAttr) return c10::nullopt;
  if (const auto* active = active_index(model)) return active->index.slot(value);
  std::string path;
  const auto owner = object_of(model.module()._ivalue(), self_of(model), value->node()->input(), path);
  return slot_of_access(owner, path, value->node());
}

c10::optional<ParamRef> param_of(const Model& model, const Value* value) {
  return tensor_behind(value, slot_of(model, value),
                       [&](const AttributeSlot& slot) { return is_written(model, slot); });
}

ParamIndex::ParamIndex(const Model& model)
    : index_(std::make_unique<AccessIndex>(model.module()._ivalue(), self_of(model), model.graph()->block())),
      written_elsewhere_([others = other_methods(model)](const AttributeSlot& slot) {
        return others->written.count(key_of(slot)) != 0;
      }) {}

ParamIndex::~ParamIndex() = default;

c10::optional<AttributeSlot> ParamIndex::slot(const Value* value) const { return index_->slot(value); }

c10::optional<ParamRef> ParamIndex::find(const Value* value) const {
  return tensor_behind(value, slot(value), [&](const AttributeSlot& slot) {
    const auto* accesses = index_->find(slot);
    return (accesses && accesses->written) || written_elsewhere_(slot);
  });
}

ParamScope::ParamScope(const Model& model) {
  // An outer scope of the same model goes on answering.
  active_indices.push_back(active_index(model) ? std::move(active_indices.back())
                                               : std::make_unique<ActiveIndex>(model));
}

ParamScope::~ParamScope() {
  auto last = std::move(active_indices.back());
  active_indices.pop_back();
  if (!active_indices.empty() && !active_indices.back()) active_indices.back() = std::move(last);
}

void forget_access(const Node* node) {
  for (const auto& active : active_indices) {
    if (active && active->graph == node->owningGraph()) active->index.forget(node);
  }
}

void set_param(Model& model, Node* user, size_t index, const at::Tensor& tensor) {
  const auto slot = slot_of(model, user->input(index));
  const at::Tensor value = tensor.detach();
  if (slot && !is_written(model, *slot) && is_only_reader(model, *slot, user, index)) {
    slot->owner->setSlot(slot->index, value);
    user->input(index)->setType(c10::TensorType::get());
    return;
  }
  torch::jit::WithInsertPoint guard(user);
  user->replaceInput(index, user->owningGraph()->insertConstant(value));
}

c10::optional<c10::IValue> constant_of(const Model& model, const Value* value) {
  const Node* node = value->node();
  if (node->kind() == c10::prim::Constant) return torch::jit::toIValue(value);
  if (node->kind() == c10::prim::ListConstruct || node->kind() == c10::prim::TupleConstruct) {
    return is_construction(node) ? constant_container(model, node) : c10::nullopt;
  }
  const auto slot = slot_of(model, value);
  if (!slot) return c10::nullopt;
  const auto& attribute = slot->value();
  if (attribute.isTensor() || attribute.isObject() || is_written(model, *slot)) return c10::nullopt;
  return attribute;
}

bool equals_number(const Model& model, const Value* value, double number) {
  const auto constant = constant_of(model, value);
  return constant && constant->isScalar() && constant->toScalar().equal(number);
}

c10::optional<at::Tensor> optional_param_of(const Model& model, const Value* value) {
  const auto constant = constant_of(model, value);
  if (constant && constant->isNone()) return at::Tensor();
  const auto param = param_of(model, value);
  return param ? c10::make_optional(param->tensor) : c10::nullopt;
}

bool is_read_by_other_methods(const Model& model, const AttributeSlot& slot) {
  return other_methods(model)->read.count(key_of(slot)) != 0;
}

namespace {

/// Calls `act` with every attribute of all submodules, those of a module with several names once.
template <typename Act>
void for_each_attribute(const Model& model, Act act) {
  std::unordered_set<const c10::ivalue::Object*> seen;
  for (const auto& child : model.module().named_modules()) {
    const auto object = child.value._ivalue();
    if (!seen.insert(object.get()).second) continue;
    for (size_t i = 0; i < object->type()->numAttributes(); ++i) {
      const auto& name = object->type()->getAttributeName(i);
      act(AttributeSlot{object, name, child.name.empty() ? name : child.name + "." + name, i});
    }
  }
}

/// Deeper nesting than this is not followed: a list can hold itself.
constexpr int kMaxNesting = 8;

void add_tensors(const c10::IValue& value, int nesting, std::vector<at::Tensor>& tensors) {
  if (value.isTensor()) {
    tensors.push_back(value.toTensor());
  } else if (nesting == kMaxNesting) {
    return;
  } else if (value.isList()) {
    for (const c10::IValue& part : value.toListRef()) add_tensors(part, nesting + 1, tensors);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) add_tensors(entry.value(), nesting + 1, tensors);
  }
}

std::vector<at::Tensor> tensors_in(const c10::IValue& value) {
  std::vector<at::Tensor> tensors;
  add_tensors(value, 0, tensors);
  return tensors;
}

}  // namespace

std::vector<AttributeSlot> unread_attributes(const Model& model) {
  const AccessIndex forward(model.module()._ivalue(), self_of(model), model.graph()->block());
  const auto others = other_methods(model);
  const auto opaque = opaque_objects(model.module());
  const auto is_read = [&](const AttributeSlot& slot) {
    if (opaque.count(slot.owner.get()) > 0) return true;
    const auto* accesses = forward.find(slot);
    const bool reads = accesses && std::any_of(accesses->nodes.begin(), accesses->nodes.end(),
                                               [](const Node* node) { return node->kind() == c10::prim::GetAttr; });
    return reads || others->read.count(key_of(slot)) != 0;
  };
  std::vector<AttributeSlot> unread;
  for_each_attribute(model, [&](AttributeSlot slot) {
    if (!tensors_in(slot.value()).empty() && !is_read(slot)) unread.push_back(std::move(slot));
  });
  return unread;
}

std::unordered_set<const c10::StorageImpl*> attribute_storages(const Model& model,
                                                               const std::set<std::string>& except) {
  std::unordered_set<const c10::StorageImpl*> storages;
  for_each_attribute(model, [&](const AttributeSlot& slot) {
    const auto& value = slot.value();
    if (value.isTensor() && value.toTensor().has_storage() && except.count(slot.path) == 0) {
      storages.insert(value.toTensor().storage().unsafeGetStorageImpl());
    }
  });
  return storages;
}

bool all_stored_in(const std::unordered_set<const c10::StorageImpl*>& storages, const c10::IValue& value) {
  const auto tensors = tensors_in(value);
  return std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) {
    return tensor.has_storage() && storages.count(tensor.storage().unsafeGetStorageImpl()) != 0;
  });
}

}  // namespace tsquant
