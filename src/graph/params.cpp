#include "graph/params.h"

#include <torch/csrc/jit/ir/constants.h>

#include <mutex>
#include <set>

#include "graph/flatten_calls.h"
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

using ObjectPtr = c10::intrusive_ptr<c10::ivalue::Object>;

/// The object behind a chain of GetAttr that starts at `self`; null when it is none. Appends the attribute names.
ObjectPtr object_of(const ObjectPtr& root, const Value* self, const Value* value, std::string& path) {
  if (value == self) return root;
  const Node* node = value->node();
  if (node->kind() != c10::prim::GetAttr) return {};
  const auto owner = object_of(root, self, node->input(), path);
  const auto& name = node->s(c10::attr::name);
  if (!owner || !owner->type()->findAttributeSlot(name)) return {};
  const auto attribute = owner->getAttr(name);
  if (!attribute.isObject()) return {};
  path += name + ".";
  return attribute.toObject();
}

c10::optional<AttributeSlot> slot_in(const ObjectPtr& root, const Value* self, const Value* value) {
  const Node* node = value->node();
  if (node->kind() != c10::prim::GetAttr) return c10::nullopt;
  std::string path;
  const auto owner = object_of(root, self, node->input(), path);
  const auto& name = node->s(c10::attr::name);
  if (!owner || !owner->type()->findAttributeSlot(name)) return c10::nullopt;
  return AttributeSlot{owner, name, path + name};
}

using SlotKey = std::pair<const c10::ivalue::Object*, std::string>;

SlotKey key_of(const AttributeSlot& slot) { return {slot.owner.get(), slot.name}; }

/// Attributes that a method reads or writes.
struct Accesses {
  std::set<SlotKey> read, written;
};

bool writes_argument(const Node* node, size_t offset) {
  const auto* schema = node->maybeSchema();
  if (!schema || offset >= schema->arguments().size()) return false;
  const auto* alias = schema->arguments()[offset].alias_info();
  return alias && alias->isWrite();
}

/// Which methods of a module behind an interface run, and on which module, is not known: they may access everything.
void collect_all(const ObjectPtr& module, Accesses& accesses) {
  for (size_t i = 0; i < module->type()->numAttributes(); ++i) {
    const auto& name = module->type()->getAttributeName(i);
    accesses.read.emplace(module.get(), name);
    accesses.written.emplace(module.get(), name);
    const auto attribute = module->getSlot(i);
    if (attribute.isObject() && attribute.toObjectRef().type()->is_module())
      collect_all(attribute.toObject(), accesses);
  }
}

void collect(const ObjectPtr& root, const Value* self, Block* block, Accesses& accesses) {
  for (Node* node : block->nodes()) {
    for (Block* inner : node->blocks()) collect(root, self, inner, accesses);
    if (node->kind() == c10::prim::SetAttr) {
      std::string path;
      const auto owner = object_of(root, self, node->input(0), path);
      if (owner) accesses.written.emplace(owner.get(), node->s(c10::attr::name));
    } else if (node->kind() == c10::prim::GetAttr && !node->output()->type()->cast<c10::ClassType>()) {
      const auto slot = slot_in(root, self, node->output());
      if (!slot) continue;
      accesses.read.insert(key_of(*slot));
      if (node->output()->type()->is_module()) collect_all(slot->owner->getAttr(slot->name).toObject(), accesses);
      for (const Use& use : node->output()->uses()) {
        if (writes_argument(use.user, use.offset)) accesses.written.insert(key_of(*slot));
      }
    }
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

/// Reads and writes by the methods other than forward. These methods do not change after capture, so the answer is
/// kept for as long as the module lives.
std::shared_ptr<const Accesses> accesses_of_other_methods(const Model& model) {
  struct Entry {
    c10::weak_intrusive_ptr<c10::ivalue::Object> root;
    std::shared_ptr<const Accesses> accesses;
  };
  static std::mutex mutex;
  static std::unordered_map<const c10::ivalue::Object*, Entry> cache;
  const auto root = model.module()._ivalue();
  std::lock_guard<std::mutex> lock(mutex);
  const auto place = cache.find(root.get());
  if (place != cache.end() && !place->second.root.expired()) return place->second.accesses;
  for (auto it = cache.begin(); it != cache.end();) it = it->second.root.expired() ? cache.erase(it) : std::next(it);
  auto accesses = std::make_shared<Accesses>();
  for (const auto& method : model.module().get_methods()) {
    if (method.name() == "forward") continue;
    const auto graph = method.graph()->copy();
    const Value* self = graph->inputs().empty() ? nullptr : graph->inputs()[0];
    // What forward itself accesses is decided by its present graph, which changes.
    expand_calls(*graph, [self](const Node* call) { return calls_forward(call, self); });
    remove_calls_of_forward(graph->block(), self);
    if (self) collect(root, self, graph->block(), *accesses);
  }
  cache.erase(root.get());
  cache.emplace(root.get(), Entry{c10::weak_intrusive_ptr<c10::ivalue::Object>(root), accesses});
  return accesses;
}

const Value* self_of(const Model& model) { return model.graph()->inputs().at(0); }

/// Calls `visit` for every GetAttr in forward that reads attribute `name` of this object.
template <typename Visit>
void for_each_access(const Value* object_value, const ObjectPtr& object, const AttributeSlot& slot,
                     const Visit& visit) {
  for (const Use& use : object_value->uses()) {
    const auto kind = use.user->kind();
    if ((kind != c10::prim::GetAttr && kind != c10::prim::SetAttr) || use.offset != 0) continue;
    const auto& name = use.user->s(c10::attr::name);
    if (object == slot.owner && name == slot.name) visit(use.user);
    if (kind != c10::prim::GetAttr || !use.user->output()->type()->cast<c10::ClassType>()) continue;
    if (!object->type()->findAttributeSlot(name)) continue;
    const auto child = object->getAttr(name);
    if (child.isObject()) for_each_access(use.user->output(), child.toObject(), slot, visit);
  }
}

bool is_written(const Model& model, const AttributeSlot& slot) {
  bool written = accesses_of_other_methods(model)->written.count(key_of(slot)) != 0;
  for_each_access(self_of(model), model.module()._ivalue(), slot, [&](const Node* node) {
    if (node->kind() == c10::prim::SetAttr) {
      written = true;
      return;
    }
    for (const Use& use : node->output()->uses()) written = written || writes_argument(use.user, use.offset);
  });
  return written;
}

bool is_only_reader(const Model& model, const AttributeSlot& slot, const Node* user, size_t index) {
  if (accesses_of_other_methods(model)->read.count(key_of(slot))) return false;
  size_t readers = 0;
  bool is_user = false;
  for_each_access(self_of(model), model.module()._ivalue(), slot, [&](const Node* node) {
    if (node->kind() != c10::prim::GetAttr) {
      ++readers;
      return;
    }
    for (const Use& use : node->output()->uses()) {
      ++readers;
      is_user = is_user || (use.user == user && use.offset == index);
    }
  });
  return readers == 1 && is_user;
}

template <typename IsWritten>
c10::optional<ParamRef> tensor_behind(const Model& model, const Value* value, const IsWritten& written) {
  if (value->type()->kind() != c10::TypeKind::TensorType) return c10::nullopt;
  if (value->node()->kind() == c10::prim::Constant) {
    const auto constant = torch::jit::toIValue(value);
    if (!constant || !constant->isTensor()) return c10::nullopt;
    return ParamRef{"", constant->toTensor()};
  }
  const auto slot = slot_of(model, value);
  if (!slot) return c10::nullopt;
  const auto attribute = slot->owner->getAttr(slot->name);
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
  for (auto& item : items) list.push_back(std::move(item));
  return c10::IValue(std::move(list));
}

}  // namespace

c10::optional<AttributeSlot> slot_of(const Model& model, const Value* value) {
  return slot_in(model.module()._ivalue(), self_of(model), value);
}

c10::optional<ParamRef> param_of(const Model& model, const Value* value) {
  return tensor_behind(model, value, [&](const AttributeSlot& slot) { return is_written(model, slot); });
}

ParamIndex::ParamIndex(const Model& model) : model_(model) {
  Accesses accesses;
  collect(model.module()._ivalue(), self_of(model), model.graph()->block(), accesses);
  written_ = std::move(accesses.written);
  const auto others = accesses_of_other_methods(model);
  written_.insert(others->written.begin(), others->written.end());
}

c10::optional<ParamRef> ParamIndex::find(const Value* value) const {
  return tensor_behind(model_, value, [&](const AttributeSlot& slot) { return written_.count(key_of(slot)) != 0; });
}

void set_param(Model& model, Node* user, size_t index, const at::Tensor& tensor) {
  const auto slot = slot_of(model, user->input(index));
  const at::Tensor value = tensor.detach();
  if (slot && !is_written(model, *slot) && is_only_reader(model, *slot, user, index)) {
    slot->owner->setAttr(slot->name, value);
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
  const auto attribute = slot->owner->getAttr(slot->name);
  if (attribute.isTensor() || attribute.isObject() || is_written(model, *slot)) return c10::nullopt;
  return attribute;
}

bool is_read_by_other_methods(const Model& model, const AttributeSlot& slot) {
  return accesses_of_other_methods(model)->read.count(key_of(slot)) != 0;
}

std::vector<AttributeSlot> unread_tensors(const Model& model) {
  Accesses forward;
  collect(model.module()._ivalue(), self_of(model), model.graph()->block(), forward);
  const auto others = accesses_of_other_methods(model);
  std::vector<AttributeSlot> unread;
  std::set<const c10::ivalue::Object*> seen;
  for (const auto& child : model.module().named_modules()) {
    const auto object = child.value._ivalue();
    if (!seen.insert(object.get()).second) continue;
    for (size_t i = 0; i < object->type()->numAttributes(); ++i) {
      const auto& name = object->type()->getAttributeName(i);
      const SlotKey key{object.get(), name};
      if (!object->getSlot(i).isTensor() || forward.read.count(key) || others->read.count(key)) continue;
      unread.push_back({object, name, child.name.empty() ? name : child.name + "." + name});
    }
  }
  return unread;
}

}  // namespace tsquant
